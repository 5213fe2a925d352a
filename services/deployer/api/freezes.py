"""HTTP: times in which nothing changes, declared and lifted by operators."""

from dataclasses import fields
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.deployer.api.asking import PLAIN, Limit, Looking, Operator, text_of
from services.deployer.handlers import LONGEST_WORDS, MOST_MODELS, Calendars
from services.deployer.store import KeptFreeze
from shared.clock import Clock
from shared.events import Event, Heard, Json
from shared.http import page
from shared.idempotency import once
from shared.names import ModelNameText


class Freeze(BaseModel):
    """When, for which models (none means all), and why; from now on when no start is given."""

    model_config = ConfigDict(extra="forbid")

    models: list[ModelNameText] = Field(default_factory=list, max_length=MOST_MODELS)
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime
    reason: str = Field(min_length=1, max_length=LONGEST_WORDS, pattern=PLAIN)


class Lift(BaseModel):
    """Why the freeze ends before its time."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=LONGEST_WORDS, pattern=PLAIN)


Over = Annotated[bool, Query(description="those that are over as well")]


def router(calendars: Calendars, now: Clock) -> APIRouter:
    """The routes about freezes."""
    routes = APIRouter(prefix="/v1")
    database = calendars.governance.database

    @routes.get("/freezes")
    async def freezes(
        principal: Looking, over: Over = False, limit: Limit = 100, cursor: str = ""
    ) -> dict[str, Any]:
        found = await calendars.governance.freezes(
            now(), over=over, after=text_of(cursor), limit=limit
        )
        seen = await calendars.seen_by(principal, found)
        return page(
            [_plain(one) for one in seen], found[-1].freeze if len(found) == limit else None
        )

    @routes.post("/freezes")
    async def declare(request: Request, principal: Operator, asked: Freeze) -> Response:
        async def action() -> tuple[int, Json]:
            said = await calendars.declare(
                principal,
                models=asked.models,
                starts_at=asked.starts_at,
                ends_at=asked.ends_at,
                reason=asked.reason,
            )
            return 201, _said(said)

        return await once(request, database, principal, action)

    @routes.post("/freezes/{freeze}/lift")
    async def lift(freeze: str, request: Request, principal: Operator, asked: Lift) -> Response:
        async def action() -> tuple[int, Json]:
            said = await calendars.lift(text_of(freeze), principal, asked.reason)
            return 200, _said(said)

        return await once(request, database, principal, action)

    return routes


def _said(heard: Heard[Event]) -> Json:
    return {**_plain(heard.event), "event_id": heard.id}


def _plain(value: Event | KeptFreeze) -> Json:
    return {field.name: getattr(value, field.name) for field in fields(value)}
