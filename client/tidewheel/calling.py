"""A call as data, and what its answer means; the two clients differ only in how they send it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from tidewheel.errors import Failure, of_answer

Json = dict[str, Any]
Row = Mapping[str, Any]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP call.

    Attributes:
        what: what is not done when it fails, for people.
        body: JSON, or bytes, or a file that is streamed.
        repeatable: whether sending it twice does no harm.
        progress: told how many bytes of a file have left so far.
    """

    what: str
    service: str
    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Json | bytes | Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    seconds: float = 30.0
    progress: Progress | None = None

    def content(self) -> bytes | None:
        """The body, unless it is a file.

        Raises:
            Failure: it holds a number that JSON does not know.
        """
        if not isinstance(self.body, dict):
            return self.body if isinstance(self.body, bytes) else None
        try:
            return json.dumps(self.body, allow_nan=False, default=str).encode()
        except ValueError as error:
            why = f"a value cannot be sent as JSON: {error}"
            raise Failure(self.what, why=(why,), fix="send null for what is unknown") from error

    def all_headers(self, key: str) -> dict[str, str]:
        """The headers to send; a state-changing call gets a key under which it happens once."""
        given = {"Authorization": f"Bearer {key}", **self.headers}
        if isinstance(self.body, dict):
            given["Content-Type"] = "application/json"
        return given


def answer(call: Call, status: int, content: bytes, headers: Mapping[str, str]) -> Json:
    """The JSON of an answer.

    Raises:
        Failure: the service refused, or answered something else.
    """
    try:
        plain: Any = json.loads(content) if content else {}
    except ValueError:
        plain = {"detail": content[:200].decode(errors="replace")}
    found: Json = plain if isinstance(plain, dict) else {"items": plain}
    if status >= 400:
        raise of_answer(call.what, status, found, headers)
    return found


def document(call: Call, status: int, content: bytes, headers: Mapping[str, str]) -> bytes:
    """The bytes of an answer that is no JSON; raises like `answer`."""
    if status >= 400:
        answer(call, status, content, headers)
    return content


def get(service: str, path: str, what: str, **query: Any) -> Call:
    """A question; what is None is not asked."""
    given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
    return Call(what=what, service=service, method="GET", path=path, query=given)


def post(service: str, path: str, what: str, body: Json) -> Call:
    """Something to be done, once however often it is sent."""
    once = {"Idempotency-Key": uuid4().hex}
    return Call(what=what, service=service, method="POST", path=path, body=body, headers=once)


def given(**values: Any) -> Json:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def quoted(text: str) -> str:
    """A name as a part of a path."""
    return quote(text, safe="/")
