"""The least that uvicorn can do: an ASGI function that answers every request with two words."""

from typing import Any

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"11")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, as every server of predictions must, and say hello."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"hello world"})
