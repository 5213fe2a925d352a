"""HTTP: approve, deny, take an approval back, open a closed window, roll back."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.deployer.api.asking import NEWEST, PLAIN, Approver, Operator
from services.deployer.domain import Endpoint
from services.deployer.handlers import LONGEST_WORDS, Looked, Outcome, People
from services.deployer.permission import Decision
from shared.access import Principal
from shared.events import ApprovalGranted, ApprovalWithdrawn, Digest, Json, ModelName, RolloutId
from shared.idempotency import once
from shared.names import ModelNameText
from shared.postgres import Database


class Word(BaseModel):
    """Why somebody approves or denies, and of what: the artifact and the verdict looked at."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field(default="", max_length=LONGEST_WORDS, pattern=PLAIN)
    manifest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    evaluation: UUID | None = None


class Override(BaseModel):
    """Why a rollout may go on although it is not the time for changes."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=LONGEST_WORDS, pattern=PLAIN)


class Rollback(BaseModel):
    """Why, and to which former champion; the previous one when none is named."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=LONGEST_WORDS, pattern=PLAIN)
    version: int | None = Field(default=None, ge=1, le=NEWEST)


def router(database: Database, people: People) -> APIRouter:
    """The routes by which people decide."""
    routes = APIRouter(prefix="/v1")
    routes.include_router(_approving(database, people))

    @routes.post("/rollouts/{rollout}/override")
    async def override(
        rollout: UUID, request: Request, principal: Operator, asked: Override
    ) -> Response:
        async def action() -> tuple[int, Json]:
            outcome = await people.override(RolloutId(rollout), principal, asked.reason)
            return 200, {
                "rollout": rollout,
                "by": principal.name,
                "stage": _stage(outcome.endpoint, rollout),
                "event_id": outcome.said[0].id,
            }

        return await once(request, database, principal, action)

    @routes.post("/models/{model}/rollback")
    async def rollback(
        model: ModelNameText, request: Request, principal: Operator, asked: Rollback
    ) -> Response:
        async def action() -> tuple[int, Json]:
            outcome = await people.roll_back(
                ModelName(model), principal, reason=asked.reason, to=asked.version
            )
            return 200, _rolled_back(outcome)

        return await once(request, database, principal, action)

    return routes


def _approving(database: Database, people: People) -> APIRouter:
    routes = APIRouter()

    @routes.post("/rollouts/{rollout}/approve")
    async def approve(
        rollout: UUID, request: Request, principal: Approver, word: Word | None = None
    ) -> Response:
        return await decide(rollout, request, principal, word, "grant")

    @routes.post("/rollouts/{rollout}/deny")
    async def deny(
        rollout: UUID, request: Request, principal: Approver, word: Word | None = None
    ) -> Response:
        return await decide(rollout, request, principal, word, "deny")

    @routes.post("/rollouts/{rollout}/withdraw")
    async def withdraw(
        rollout: UUID, request: Request, principal: Approver, word: Word | None = None
    ) -> Response:
        return await decide(rollout, request, principal, word, "withdraw")

    async def decide(
        rollout: UUID,
        request: Request,
        principal: Principal,
        word: Word | None,
        decision: Decision,
    ) -> Response:
        said = word or Word()

        async def action() -> tuple[int, Json]:
            outcome = await people.decide(
                RolloutId(rollout),
                principal,
                decision,
                comment=said.comment,
                looked=Looked(
                    manifest=Digest(said.manifest) if said.manifest else None,
                    evaluation=said.evaluation,
                ),
            )
            return 200, _decided(rollout, decision, outcome)

        return await once(request, database, principal, action)

    return routes


def _decided(rollout: UUID, decision: Decision, outcome: Outcome) -> Json:
    event = outcome.said[0].event
    counted = event if isinstance(event, ApprovalGranted | ApprovalWithdrawn) else None
    return {
        "rollout": rollout,
        "granted": decision == "grant",
        "stage": _stage(outcome.endpoint, rollout) or _over(decision),
        "missing": counted.missing if counted else None,
        "event_id": outcome.said[0].id,
    }


def _stage(endpoint: Endpoint, rollout: UUID) -> str | None:
    """Where the rollout is now; None once it has ended."""
    found = (r for r in (endpoint.rollout, *endpoint.experiments) if r is not None)
    return next((str(one.stage) for one in found if one.id == rollout), None)


def _over(decision: Decision) -> str:
    return "promoted" if decision == "grant" else "aborted"


def _rolled_back(outcome: Outcome) -> Json:
    heard = next(h for h in outcome.said if h.event.TYPE.endswith("rolled_back.v1"))
    event: Any = heard.event
    return {
        "generation": event.generation,
        "from": event.from_version,
        "to": event.to_version,
        "event_id": heard.id,
    }
