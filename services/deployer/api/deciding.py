"""HTTP: approve, deny, roll back."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.deployer.api.asking import NEWEST, PLAIN, Approver, Operator, text_of
from services.deployer.handlers import Outcome, People
from shared.access import Principal
from shared.events import Json, ModelName, RolloutId
from shared.idempotency import once
from shared.postgres import Database


class Decision(BaseModel):
    """Why somebody approves or denies."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field(default="", max_length=2000, pattern=PLAIN)


class Rollback(BaseModel):
    """Why, and to which former champion; the previous one when none is named."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=2000, pattern=PLAIN)
    version: int | None = Field(default=None, ge=1, le=NEWEST)


def router(database: Database, people: People) -> APIRouter:
    """The routes by which people decide."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/rollouts/{rollout}/approve")
    async def approve(
        rollout: UUID, request: Request, principal: Approver, decision: Decision | None = None
    ) -> Response:
        return await _decide(rollout, request, principal, decision, granted=True)

    @routes.post("/rollouts/{rollout}/deny")
    async def deny(
        rollout: UUID, request: Request, principal: Approver, decision: Decision | None = None
    ) -> Response:
        return await _decide(rollout, request, principal, decision, granted=False)

    async def _decide(
        rollout: UUID,
        request: Request,
        principal: Principal,
        decision: Decision | None,
        *,
        granted: bool,
    ) -> Response:
        async def action() -> tuple[int, Json]:
            outcome = await people.decide(
                RolloutId(rollout),
                granted=granted,
                by=principal.name,
                comment=decision.comment if decision else "",
            )
            stage = outcome.endpoint.rollout.stage if outcome.endpoint.rollout else None
            return 200, {
                "rollout": rollout,
                "granted": granted,
                "stage": stage or ("promoted" if granted else "aborted"),
                "event_id": outcome.said[0].id,
            }

        return await once(request, database, principal, action)

    @routes.post("/models/{model}/rollback")
    async def rollback(
        model: str, request: Request, principal: Operator, asked: Rollback
    ) -> Response:
        async def action() -> tuple[int, Json]:
            outcome = await people.roll_back(
                ModelName(text_of(model)), by=principal.name, reason=asked.reason, to=asked.version
            )
            return 200, _rolled_back(outcome)

        return await once(request, database, principal, action)

    return routes


def _rolled_back(outcome: Outcome) -> Json:
    heard = next(h for h in outcome.said if h.event.TYPE.endswith("rolled_back.v1"))
    event: Any = heard.event
    return {
        "generation": event.generation,
        "from": event.from_version,
        "to": event.to_version,
        "event_id": heard.id,
    }
