"""What a connection may do before a request is one: how large its head, how slow its bytes.

The parser of uvicorn reads whatever comes, for as long as it takes, and drops what it cannot read
with a line of text. Here each connection has limits, and every refusal is a problem like any other.
Nothing of it costs a request that arrives whole more than some comparisons.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from shared import telemetry
from shared.http import problem

MOST_HEADERS: Final = 200
MOST_HEADER_BYTES: Final = 8_192
"""Of one header, its name and its value."""
MOST_HEAD_BYTES: Final = 65_536
MOST_TARGET_BYTES: Final = 4_096
LINGER_SECONDS: Final = 1.0
"""A refused client may read its answer for so long: closing at once would reset the connection."""


@dataclass(slots=True, kw_only=True)
class Doorway:
    """The limits of all connections of one door, and whether it is closing.

    Attributes:
        head_seconds: for the whole head of a request, and for the first byte of a connection.
        body_seconds: in which at least `body_bytes` of a body must come, again and again.
        connections: at the same time; the next one is refused.
        is_closing: answers tell clients to go; new requests are answered all the same.
    """

    head_seconds: float
    body_seconds: float
    body_bytes: int
    connections: int
    is_closing: bool = field(default=False)


class _Wrong(Exception):
    """Ends the parser; what is answered stands in the connection."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    code: str
    detail: str


_MALFORMED: Final = _Refusal(400, "malformed_http", "These bytes are no HTTP request.")
_CUT: Final = _Refusal(400, "malformed_http", "The request ended before its body did.")
_SLOW: Final = _Refusal(408, "too_slow", "The rest of the request did not come in time.")
_LONG: Final = _Refusal(414, "target_too_long", f"{MOST_TARGET_BYTES} bytes are allowed.")
_LARGE: Final = _Refusal(
    431,
    "head_too_large",
    f"{MOST_HEADERS} headers of {MOST_HEADER_BYTES} bytes are allowed, {MOST_HEAD_BYTES} together.",
)
_UPGRADE: Final = _Refusal(
    400,
    "no_upgrade",
    "No other protocol is spoken here, and with a wish for one the body is not read: ask again "
    "without the header Upgrade.",
)
_HOSTLESS: Final = _Refusal(400, "malformed_http", "A request names exactly one host.")
_STOPPING: Final = _Refusal(503, "stopping", "This process ends; another one answers.")
_FULL: Final = _Refusal(503, "too_many_connections", "All connections are taken; try again later.")


class Guarded(HttpToolsProtocol):
    """A connection within the limits of its doorway."""

    doorway: Doorway
    _stage: Literal["idle", "head", "body", "refused"] = "idle"
    _head_bytes = 0
    _begun = 0
    """Requests that began in what came last."""
    _hosts = 0
    _received = 0
    _refusal = _MALFORMED
    _timer: asyncio.TimerHandle | None = None
    _asked: RequestResponseCycle | None = None
    """The request that the application answers; others may be parsed already."""

    # --- what comes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.doorway.connections:
            self._refuse(_FULL)
        else:
            self._wait(self.doorway.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or was left."""
        self._stop_waiting()
        self._leave_asked()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and begin or go on to wait for the rest."""
        if self._stage == "refused":
            return
        before = self._stage
        self._received += len(data)
        self._begun = 0
        super().data_received(data)
        self._watch(before, len(data))

    def _watch(self, before: str, size: int) -> None:
        match self._stage:
            case "idle":
                self._stop_waiting()
            case "head":
                if self._begun:
                    is_all = before == "idle" and self._begun == 1
                    # Behind other requests only what was parsed is surely of this one.
                    self._received = size if is_all else self._head_bytes + len(self.url)
                if self._received > MOST_HEAD_BYTES:
                    self._give_up(_LARGE if self.headers else _LONG)
                elif self._timer is None:
                    self._wait(self.doorway.head_seconds)
            case "body" if before != "body":
                self._received = 0
                self._wait(self.doorway.body_seconds)
            case _:
                pass

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn closes; asyncio lets us stay
        """A client that sends no more and waits for its answer gets one."""
        if self._stage in ("head", "body"):
            self._give_up(_CUT)
        elif not self._is_answered():
            self.cycle.keep_alive = False
        return self._stage == "refused" or not self._is_answered()

    # --- what the parser finds

    def on_message_begin(self) -> None:
        """A request begins."""
        self._stage = "head"
        self._head_bytes = self._hosts = 0
        self._begun += 1
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        super().on_url(url)
        if len(self.url) > MOST_TARGET_BYTES:
            self._stop_parsing(_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, as in uvicorn, and counted."""
        name = name.lower()
        size = len(name) + len(value)
        self._head_bytes += size
        too_large = size > MOST_HEADER_BYTES or self._head_bytes > MOST_HEAD_BYTES
        if too_large or len(self.headers) >= MOST_HEADERS:
            self._stop_parsing(_LARGE)
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"host":
            self._hosts += 1
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The request is handed to the application, which may wait for its body."""
        if self._hosts != 1 and self.parser.get_http_version() != "1.0":
            self._stop_parsing(_HOSTLESS)
        is_upgrade = self.parser.should_upgrade()
        if is_upgrade and _has_body(self.headers):
            self._stop_parsing(_UPGRADE)
        super().on_headers_complete()
        self._stage = "body"
        if self.doorway.is_closing or is_upgrade:  # the parser reads nothing behind an upgrade
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._stage = "idle"
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Have a request answered."""
        self._asked = cycle
        super()._start_asgi_task(cycle, app)

    def _leave_asked(self) -> None:
        """Nobody waits for its answer any more."""
        if self._asked is not None and not self._asked.response_complete:
            self._asked.disconnected = True
            self._asked.message_event.set()

    def _stop_parsing(self, refusal: _Refusal) -> None:
        self._refusal = refusal
        raise _Wrong

    # --- refusing

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours is more precise
        """The parser gave up."""
        self._give_up(self._refusal)

    def _is_answered(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _give_up(self, refusal: _Refusal) -> None:
        """Refuse, after the answer to what came before."""
        self._stop_waiting()
        self.flow.resume_reading()
        was, self._stage = self._stage, "refused"
        if was != "body" and not self._is_answered():
            self.cycle.keep_alive = False
        elif was == "body" and self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline[0] = (self.cycle, partial(self._refuse_in_turn, refusal))
        elif was == "body" and self.cycle.response_started:
            self.transport.close()  # an answer cannot be taken back
        else:
            self._refuse(refusal)

    def end(self) -> None:
        """The process ends before the answer is there: the client learns that it may ask again."""
        if self._stage == "refused" or self._is_answered():
            return
        if self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(_STOPPING)

    async def _refuse_in_turn(self, refusal: _Refusal, *_: object) -> None:
        """Refuse a request before which others were answered."""
        self._refuse(refusal)

    def _refuse(self, refusal: _Refusal) -> None:
        """Answer with a problem, and leave once the client has had time to read it."""
        self._stage = "refused"
        self._leave_asked()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        code = f"{refusal.status // 100}xx"
        telemetry.count("tidewheel_http_requests_total", route="other", code_class=code)
        if self.transport.is_closing():
            return
        self.transport.write(_written(refusal))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    # --- waiting

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._is_late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        self._timer = None
        if self._stage == "idle":
            self.transport.close()  # it never asked for anything
        elif self._stage == "head":
            self._give_up(_SLOW)
        elif self._stage == "body":
            is_held_up = self.flow.read_paused  # by us: the application is slower than the client
            if is_held_up or self._received >= self.doorway.body_bytes:
                self._received = 0
                self._wait(self.doorway.body_seconds)
            else:
                self._give_up(_SLOW)


def _has_body(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    told = dict(headers)
    return b"transfer-encoding" in told or told.get(b"content-length", b"0") != b"0"


def _written(refusal: _Refusal) -> bytes:
    request_id = uuid4().hex
    answer = problem(request_id, "", refusal.status, refusal.code, refusal.detail)
    answer.headers["connection"] = "close"
    answer.headers["x-request-id"] = request_id
    headers = [name + b": " + text + b"\r\n" for name, text in answer.raw_headers]
    return b"".join([STATUS_LINE[refusal.status], *headers, b"\r\n", bytes(answer.body)])


def guarded_by(doorway: Doorway, base: type[Guarded] = Guarded) -> type[Guarded]:
    """The kind of connection that a door with these limits has."""
    kind: Any = type("Guarded", (base,), {"doorway": doorway})
    return kind  # type: ignore[no-any-return] # made a line above
