"""The quick way in, before all layers: requests for predictions in their commonest forms.

A request is taken here when all of it is plain: its path, its headers, its key, its body.
Everything else goes on to the application behind, as if this were not here, with the body that was
read. So refusals and other forms have one place, and here nothing is refused but what a key asks
beyond its rate.

A connection asks this door itself where it can (`api.connection`); for everybody else it is an
application like any other.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.serving.api.inference import read_plain_inference
from services.serving.api.invocations import read_plain_invocation
from services.serving.api.wire import MAY_PREDICT
from services.serving.handlers.admission import Admission
from services.serving.handlers.lanes import Lanes, Waiting, Write
from services.serving.handlers.predictions import Predictions
from services.serving.handlers.ways import Lane
from services.serving.prediction.decoding import Decoder, Values
from shared import telemetry
from shared.access import Keys, Principal
from shared.errors import Refused, TooMany
from shared.events import ModelName
from shared.http import COMMON_HEADERS, KEY_PREFIX, new_request_id, problem_of

Read = Callable[[Decoder, bytes, int], tuple[Sequence[Values], Write | None] | None]
"""Rows from a body, and how their answers are told where that is not our own form; None where
somebody has to look closer."""
_NOT_PLAIN: Final = frozenset(
    {b"content-encoding", b"transfer-encoding", b"expect", b"inference-header-content-length"}
)
_KEY: Final = b"Bearer " + KEY_PREFIX.encode()
_ACCEPTED: Final = (b"*/*", b"application/json")
_JSON: Final = b"application/json"
_V1: Final = "/v1/models/"
_V2: Final = "/v2/models/"
_START: Final = len(_V1)


@dataclass(slots=True, kw_only=True)
class Speech:
    """A protocol as far as it is spoken here.

    Attributes:
        route: the path, as metrics tell it.
        types: content types of plain requests; empty for none at all.
    """

    route: str
    read: Read
    types: frozenset[bytes] = frozenset({_JSON})
    _took: list[float] = field(default_factory=list)

    def note(self, seconds: float) -> None:
        """A request was answered; metrics are told of all that were in the same turn."""
        if not self._took:
            asyncio.get_running_loop().call_soon(self._tell)
        self._took.append(seconds)

    def _tell(self) -> None:
        took, self._took = self._took, []
        route = self.route
        telemetry.observe_each("tidewheel_http_request_duration_seconds", took, route=route)
        telemetry.count("tidewheel_http_requests_total", len(took), route=route, code_class="2xx")


def _read_own(
    decoder: Decoder, body: bytes, rows_limit: int
) -> tuple[Sequence[Values], Write | None] | None:
    rows = decoder.read(body, rows_limit)
    return None if rows is None else (rows, None)


def _speeches(*, has_default: bool) -> Mapping[tuple[str, str], Speech]:
    found = {
        (_V1, "predict"): Speech(route="/v1/models/{model}/predict", read=_read_own),
        (_V1, "invocations"): Speech(
            route="/v1/models/{model}/invocations", read=read_plain_invocation
        ),
        (_V2, "infer"): Speech(
            route="/v2/models/{model}/infer",
            read=read_plain_inference,
            types=frozenset({_JSON, b""}),  # the protocol's clients send none
        ),
    }
    if has_default:
        found["", "invocations"] = Speech(route="/invocations", read=read_plain_invocation)
    return found


@dataclass(frozen=True, slots=True)
class Plain:
    """A request of which the head is known to be plain."""

    lane: Lane
    speech: Speech
    size: int
    request_id: bytes
    started: float

    def headers(self, body: bytes) -> list[tuple[bytes, bytes]]:
        """Of its answer."""
        return [
            (b"content-type", _JSON),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.request_id or new_request_id().encode()),
            *COMMON_HEADERS,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickDoor:
    """Answers what is plain; passes on the rest.

    Attributes:
        app: everything behind.
        default_model: whom the bare `/invocations` asks.
        speeches: by the beginning of the path and its last word.
    """

    app: ASGIApp
    keys: Keys
    lanes: Lanes
    predictions: Predictions
    admission: Admission
    body_limit: int
    rows_limit: int
    default_model: ModelName
    speeches: Mapping[tuple[str, str], Speech]

    def begin(self, scope: Scope) -> Plain | ASGIApp:
        """A request by its head: plain so far, or else who is to answer it."""
        found = self._lane_of(scope)
        if found is None:
            return self.app
        lane, speech = found
        told = _plain(scope, speech.types)
        if told is None:
            return self.app
        key, size, request_id = told
        principal = self.keys.principal(key) if size <= self.body_limit else None
        if principal is None or not self._is_permitted(lane, principal):
            return self.app
        plain = Plain(lane, speech, size, request_id, time.perf_counter())
        try:
            self.admission.check(principal)
        except TooMany as error:
            return _refusal(error, plain, scope)
        scope.setdefault("state", {})["is_counted"] = True
        return plain

    def ask(
        self, plain: Plain, body: bytes, tell: Callable[[bytes | None, Sequence[str]], None]
    ) -> None:
        """Have a request answered.

        Args:
            tell: called once, with the answer; with None where the careful way is to be taken, and
                the ids that the rows have, if they have any yet.
        """
        size = len(body)
        decoder = plain.lane.decoder
        # While a body came, another version may have taken over, or a stopped one left.
        is_current = self.lanes.is_current(plain.lane)
        if decoder is None or not is_current or not self.admission.has_room(size):
            tell(None, ())
            return
        read = plain.speech.read(decoder, body, self.rows_limit)
        if read is None:
            tell(None, ())
            return

        def told(waiting: Waiting) -> None:
            self.admission.leave(size)
            if waiting.body is None:
                tell(None, [f"p-{drawn}" for drawn in waiting.ids])
                return
            tell(waiting.body, ())
            plain.speech.note(time.perf_counter() - plain.started)

        self.admission.enter(size)
        self.lanes.ask(plain.lane, Waiting(read[0], plain.started, told, read[1]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = self.begin(scope)
        if isinstance(found, Plain):
            await self.answer(found, scope, receive, send)
        else:
            await found(scope, receive, send)

    async def answer(self, plain: Plain, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request whose head is plain."""
        received = [await receive()]
        while received[-1].get("more_body") and _size(received) <= plain.size:
            received.append(await receive())
        body = _whole(received)
        told: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def tell(answer: bytes | None, ids: Sequence[str]) -> None:
            scope["state"]["ids"] = ids
            if not told.done():
                told.set_result(answer)

        if body is None:
            tell(None, ())
        else:
            self.ask(plain, body, tell)
        answer = await told
        if answer is None:
            await self.app(scope, _again(received, receive), send)
            return
        head = {"type": "http.response.start", "status": 200, "headers": plain.headers(answer)}
        await send(head)
        await send({"type": "http.response.body", "body": answer})

    def _lane_of(self, scope: Scope) -> tuple[Lane, Speech] | None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
            return None
        head, _, verb = scope["path"].rpartition("/")
        speech = self.speeches.get((head[:_START], verb))
        if speech is None:
            return None
        lane = self.lanes.find(ModelName(head[_START:]) if head else self.default_model)
        return None if lane is None else (lane, speech)

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


def _plain(scope: Scope, types: frozenset[bytes]) -> tuple[str, int, bytes] | None:
    """Key, size and request id of a plain request; None where a header needs a closer look."""
    told = dict(scope["headers"])
    if len(told) != len(scope["headers"]) or not _NOT_PLAIN.isdisjoint(told):
        return None
    length = told.get(b"content-length", b"")
    key = told.get(b"authorization", b"")
    request_id = told.get(b"x-request-id", b"")[:100]
    if told.get(b"content-type", b"") not in types or not length.isdigit():
        return None
    if told.get(b"accept", b"*/*") not in _ACCEPTED and b"arrow" in told[b"accept"].lower():
        return None
    if not key.startswith(_KEY) or not request_id.isascii():
        return None
    return key[7:].decode("latin-1"), int(length), request_id


def _refusal(error: TooMany, plain: Plain, scope: Scope) -> Response:
    """Refused here, because whoever asks far too often must not cost much more than this."""
    request_id = plain.request_id.decode() or new_request_id()
    refusal = problem_of(error, request_id, scope["path"])
    refusal.raw_headers += [(b"x-request-id", request_id.encode()), *COMMON_HEADERS]
    telemetry.count("tidewheel_http_requests_total", route=plain.speech.route, code_class="4xx")
    return refusal


def _size(received: Sequence[Message]) -> int:
    return sum(len(message.get("body", b"")) for message in received)


def _whole(received: Sequence[Message]) -> bytes | None:
    """The body; None where its end did not come."""
    last = received[-1]
    if last["type"] != "http.request" or last.get("more_body"):
        return None
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
    default_model: str,
) -> Callable[[ASGIApp, Keys], QuickDoor]:
    """What `shared.http.build` puts before everything else."""

    def before(app: ASGIApp, keys: Keys) -> QuickDoor:
        return QuickDoor(
            app=app,
            keys=keys,
            lanes=lanes,
            predictions=predictions,
            admission=admission,
            body_limit=body_limit,
            rows_limit=rows_limit,
            default_model=ModelName(default_model),
            speeches=_speeches(has_default=bool(default_model)),
        )

    return before
