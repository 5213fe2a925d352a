"""The log: pages of it, one cascade of it as it happens, and how each story ended."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from services.registry.api.replies import (
    LARGEST_INTEGER,
    LARGEST_POSITION,
    Cursor,
    Limit,
    Text,
    cascade_of,
    number_of,
    page_of,
)
from services.registry.lineage.narration import sentence
from services.registry.store.log import Fact, Log
from shared import codec, telemetry
from shared.access import Principal, Role
from shared.clock import Clock
from shared.coarse import coarse
from shared.errors import InvalidInput, NotFound, Unavailable
from shared.events import EvaluationCompleted
from shared.http import Json, allow
from shared.outcomes import Outcome, State

_MOST_OF_CASCADE: Final = 10_000
_LOOK_SECONDS: Final = 0.5
_ALIVE_SECONDS: Final = 15.0
_BATCH: Final = 500

Types = Annotated[str | None, Query(alias="type", max_length=1000)]
Without = Annotated[str | None, Query(max_length=1000)]
After = Annotated[int, Query(ge=0, le=LARGEST_POSITION)]


def router(log: Log, now: Clock) -> APIRouter:
    """The routes of the log."""
    routes = APIRouter(tags=["log"], dependencies=[Depends(allow())])

    @routes.get("/v1/events", operation_id="list_events")
    async def events(
        request: Request,
        subject: Text = None,
        kind: Types = None,
        without: Without = None,
        newest: bool = False,
        after: After = 0,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        """Facts behind a position, in the order in which they were heard.

        `newest` answers with the last page instead of the first; it has no page behind it.
        """
        found = await log.page(
            number_of(cursor, after),
            limit,
            subject=subject,
            types=_types(kind),
            without=_types(without),
            newest=newest,
            owners=request.state.principal.visible,
        )
        following = found[-1].seq if len(found) == limit and not newest else None
        principal = request.state.principal
        return page_of(request, [plain(fact, principal) for fact in found], following)

    @routes.get("/v1/outcomes", operation_id="list_outcomes")
    async def outcomes(
        request: Request,
        dataset: Text = None,
        model: Text = None,
        state: Annotated[State | None, Query(alias="outcome")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        """How each dataset version ended for each model, newest version first."""
        found = await log.outcomes(
            dataset=dataset,
            model=model,
            state=state.value if state else None,
            after=_pair(cursor),
            limit=limit,
            owners=request.state.principal.visible,
        )
        last = found[-1] if len(found) == limit else None
        following = f"{last.dataset}|{last.dataset_version}|{last.model}" if last else None
        return page_of(request, [ended(one, now()) for one in found], following)

    @routes.get("/v1/cascades/{cascade}", operation_id="get_cascade")
    async def cascade(request: Request, cascade: str) -> Response:
        """Everything that one trigger brought about, and how it ended per model."""
        cascade_id = cascade_of(cascade)
        owners = request.state.principal.visible
        facts = await log.of_cascade(cascade_id, 0, _MOST_OF_CASCADE, owners)
        if not facts:
            raise NotFound("There is no such cascade.")
        ends = await log.outcomes_of_cascade(cascade_id, owners)
        ordered = sorted(facts, key=lambda fact: (fact.time, fact.seq))
        return Json(
            {
                "cascade": cascade_id,
                "started_at": ordered[0].time,
                "events": [plain(fact, request.state.principal) for fact in ordered],
                "outcomes": [ended(one, now()) for one in ends],
                "ended": bool(ends) and all(one.is_terminal for one in ends),
            }
        )

    @routes.get("/v1/cascades/{cascade}/events", operation_id="watch_cascade")
    async def watched(
        request: Request,
        cascade: str,
        after: After = 0,
    ) -> Response:
        """The events of a cascade as they are heard; `Last-Event-ID` goes on after a break."""
        position = number_of(request.headers.get("last-event-id"), after)
        return StreamingResponse(
            _frames(request, log, cascade_of(cascade), position),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
        )

    return routes


async def _frames(request: Request, log: Log, cascade: UUID, position: int) -> AsyncIterator[bytes]:
    """Frames of the stream, until the caller leaves or the service stops."""
    alive_at = time.monotonic()
    yield b": watching\n\n"
    while not request.app.state.stopping:
        ticket = log.news.ticket()
        try:
            owners = request.state.principal.visible
            facts = await log.of_cascade(cascade, position, _BATCH, owners)
        except Unavailable as error:
            telemetry.log("watch_interrupted", level="warning", reason=str(error))
            await asyncio.sleep(_LOOK_SECONDS)
            continue
        for fact in facts:
            position = fact.seq
            shown = plain(fact, request.state.principal)
            yield b"id: %d\ndata: %s\n\n" % (fact.seq, orjson.dumps(shown, default=str))
        if facts:
            alive_at = time.monotonic()
            continue
        if time.monotonic() - alive_at > _ALIVE_SECONDS:
            alive_at = time.monotonic()
            yield b": alive\n\n"
        await log.news.wait(ticket, _LOOK_SECONDS)


def plain(fact: Fact, principal: Principal) -> dict[str, Any]:
    """A fact for people and programs, with as many digits as the reader may see."""
    return {
        "position": fact.seq,
        "id": fact.event_id,
        "type": fact.type,
        "subject": fact.subject,
        "sequence": fact.sequence,
        "source": fact.source,
        "topic": fact.topic,
        "time": fact.time,
        "correlation": fact.correlation,
        "causation": fact.causation,
        "data": data_for(fact, principal),
    }


def data_for(fact: Fact, principal: Principal) -> Mapping[str, Any]:
    """What a fact says; of a verdict only auditors see every digit (see `shared.coarse`)."""
    if fact.type != EvaluationCompleted.TYPE:
        return fact.data
    owner = str((fact.data.get("spec") or {}).get("owner", ""))
    exact = principal.may_in(owner, frozenset({Role.AUDITOR}))
    return fact.data if exact else coarse(fact.data)


def told(fact: Fact, principal: Principal) -> dict[str, Any]:
    """A fact in one sentence."""
    attributes = {
        "type": fact.type,
        "id": str(fact.event_id),
        "source": fact.source,
        "time": fact.time.isoformat(),
    }
    data = dict(data_for(fact, principal))
    if data.get("fleet"):
        data["fleet"] = fact.data["fleet"]  # no sentence tells of it, and rounded it is no claim
    event = codec.interpret(attributes, data).event
    return {
        "time": fact.time,
        "type": fact.type,
        "text": sentence(event),
        "event_id": fact.event_id,
        "cascade": fact.correlation,
    }


def ended(outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Where a pair stands; one that waits says for how long."""
    waits = outcome.state is State.WAITING
    return {
        "dataset": outcome.dataset,
        "dataset_version": outcome.dataset_version,
        "model": outcome.model,
        "outcome": outcome.state.value,
        "detail": outcome.detail,
        "terminal": outcome.is_terminal,
        "since": outcome.at,
        "age_seconds": round((now - outcome.at).total_seconds(), 3) if waits else None,
        "event_id": outcome.event_id,
    }


def _types(names: str | None) -> list[str] | None:
    return [_type(name) for name in names.split(",")] if names else None


def _type(name: str) -> str:
    """`model.promoted` is short for `tidewheel.model.promoted.v1`."""
    if not name.isprintable() or not name:
        raise InvalidInput("This is no type of an event.")
    return name if name.startswith("tidewheel.") else f"tidewheel.{name}.v1"


def _pair(cursor: str | None) -> tuple[str, int, str]:
    if not cursor:
        return "", 0, ""
    parts = cursor.split("|")
    if len(parts) != 3:
        raise InvalidInput("This cursor is not one of ours; begin without.", code="bad_cursor")
    version = number_of(parts[1], 0)
    if version > LARGEST_INTEGER:
        raise InvalidInput("This cursor is not one of ours; begin without.", code="bad_cursor")
    return parts[0], version, parts[2]
