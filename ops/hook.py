"""A webhook on the loopback: takes notifications and hands them on as plain data."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

_MOST_BYTES: Final = 5_000_000
Told = Callable[[str, Mapping[str, Any]], None]


class Hook:
    """Listens while it is open; calls `told` with the receiver's name and what was posted."""

    def __init__(self, told: Told, *, port: int = 0) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(told))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Where notifications are posted below."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(told: Told) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take one notification; what is none is refused."""
            size = int(self.headers.get("Content-Length") or 0)
            try:
                posted = json.loads(self.rfile.read(min(size, _MOST_BYTES)))
            except ValueError:
                self.send_response(400)
            else:
                told(self.path.strip("/"), posted)
                self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing: what was posted is told already."""

    return Handler
