"""The quick way in, before all layers: requests for predictions in their commonest form.

A request is taken here when all of it is plain: its path, its headers, its key, its body.
Everything else goes on to the application behind, as if this were not here, with the body that was
read. So refusals, other forms and other protocols have one place, and here nothing is refused but
what a key asks beyond its rate.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.serving.api.wire import MAY_PREDICT
from services.serving.handlers.admission import Admission
from services.serving.handlers.lanes import Lane, Lanes
from services.serving.handlers.predictions import Predictions
from shared import telemetry
from shared.access import Keys, Principal
from shared.errors import Refused, TooMany
from shared.events import ModelName
from shared.http import COMMON_HEADERS, KEY_PREFIX, new_request_id, problem_of

START: Final = "/v1/models/"
END: Final = "/predict"
ROUTE: Final = "/v1/models/{model}/predict"
_NOT_PLAIN: Final = frozenset({b"content-encoding", b"transfer-encoding", b"expect"})
_KEY: Final = b"Bearer " + KEY_PREFIX.encode()
_LOOKED_AT: Final = _NOT_PLAIN | {
    b"accept",
    b"authorization",
    b"content-length",
    b"content-type",
    b"x-request-id",
}
_ACCEPTED: Final = (b"*/*", b"application/json")
_JSON: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class _Plain:
    """What the headers of a plain request say."""

    key: str
    size: int
    request_id: bytes


def _observer() -> Callable[[float], None]:
    return telemetry.observer("tidewheel_http_request_duration_seconds", route=ROUTE)


def _counter() -> Callable[[float], None]:
    return telemetry.counter("tidewheel_http_requests_total", route=ROUTE, code_class="2xx")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickDoor:
    """Answers what is plain; passes on the rest."""

    app: ASGIApp
    keys: Keys
    lanes: Lanes
    predictions: Predictions
    admission: Admission
    body_limit: int
    rows_limit: int
    observe: Callable[[float], None] = field(default_factory=_observer)
    count: Callable[[float], None] = field(default_factory=_counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        lane = self._lane_of(scope)
        plain = None if lane is None else _plain(scope)
        if lane is None or plain is None or plain.size > self.body_limit:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        principal = self.keys.principal(plain.key)
        if principal is None or not self._is_permitted(lane, principal):
            await self.app(scope, receive, send)
            return
        try:
            self.admission.check(principal)
        except TooMany as error:
            await self._refuse(error, plain, scope, receive, send)
            return
        scope.setdefault("state", {})["is_counted"] = True
        received = [await receive()]
        while received[-1].get("more_body") and _size(received) <= plain.size:
            received.append(await receive())
        answer = await self._answer(lane, received, started)
        if answer is None:
            await self.app(scope, _again(received, receive), send)
            return
        headers = [
            _JSON,
            (b"content-length", b"%d" % len(answer)),
            (b"x-request-id", plain.request_id or new_request_id().encode()),
            *COMMON_HEADERS,
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        self.observe(time.perf_counter() - started)
        self.count(1)

    def _lane_of(self, scope: Scope) -> Lane | None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
            return None
        path: str = scope["path"]
        if not path.startswith(START) or not path.endswith(END):
            return None
        return self.lanes.find(ModelName(path[len(START) : -len(END)]))

    async def _refuse(
        self, error: TooMany, plain: _Plain, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Refused here, because whoever asks far too often must not cost much more than this."""
        request_id = plain.request_id.decode("latin-1") or new_request_id()
        refusal = problem_of(error, request_id, scope["path"])
        refusal.raw_headers += [(b"x-request-id", request_id.encode("latin-1")), *COMMON_HEADERS]
        await refusal(scope, receive, send)
        telemetry.count("tidewheel_http_requests_total", route=ROUTE, code_class="4xx")

    def _is_permitted(self, lane: Lane, principal: Principal) -> bool:
        model = lane.endpoint.model
        owner = self.predictions.deployments.owner_of(model)
        if lane.permitted.get(id(principal)) == (principal, owner):
            return True
        try:
            self.predictions.check(principal, model, MAY_PREDICT.roles)
        except Refused:
            return False
        if not principal.may(MAY_PREDICT.roles):
            return False
        if len(lane.permitted) > 100:
            lane.permitted.clear()
        lane.permitted[id(principal)] = (principal, owner)
        return True

    async def _answer(self, lane: Lane, received: list[Message], started: float) -> bytes | None:
        """The answer as JSON; None where the careful way is to be taken."""
        body = _whole(received)
        if body is None or lane.decoder is None or not self.admission.has_room(len(body)):
            return None
        rows = lane.decoder.read(body, self.rows_limit)
        if rows is None:
            return None
        self.admission.enter(len(body))
        try:
            return await self.lanes.ask(lane, rows, started)
        finally:
            self.admission.leave(len(body))


def _plain(scope: Scope) -> _Plain | None:
    """The headers of a plain request; None where one of them needs a closer look."""
    told: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _LOOKED_AT:
            if name in told or name in _NOT_PLAIN:
                return None
            told[name] = value
    length = told.get(b"content-length", b"")
    key = told.get(b"authorization", b"")
    if told.get(b"content-type") != _JSON[1] or not key.startswith(_KEY) or not length.isdigit():
        return None
    if told.get(b"accept", b"*/*") not in _ACCEPTED and b"arrow" in told[b"accept"].lower():
        return None
    return _Plain(key[7:].decode("latin-1"), int(length), told.get(b"x-request-id", b"")[:100])


def _size(received: Sequence[Message]) -> int:
    return sum(len(message.get("body", b"")) for message in received)


def _whole(received: Sequence[Message]) -> bytes | None:
    """The body; None where its end did not come."""
    last = received[-1]
    if last["type"] != "http.request" or last.get("more_body"):
        return None
    if len(received) == 1:
        body: bytes = last.get("body", b"")
        return body
    return b"".join([message.get("body", b"") for message in received])


def _again(received: Sequence[Message], receive: Receive) -> Receive:
    """What was received is received once more, and then what comes."""
    waiting = list(reversed(received))

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def quick_door(
    lanes: Lanes,
    predictions: Predictions,
    admission: Admission,
    *,
    body_limit: int,
    rows_limit: int,
) -> Callable[[ASGIApp, Keys], ASGIApp]:
    """What `shared.http.build` puts before everything else."""

    def before(app: ASGIApp, keys: Keys) -> ASGIApp:
        return QuickDoor(
            app=app,
            keys=keys,
            lanes=lanes,
            predictions=predictions,
            admission=admission,
            body_limit=body_limit,
            rows_limit=rows_limit,
        )

    return before
