"""HTTP: what answers now, what is on its way; approve, deny, roll back."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.deployer.domain import Endpoint, Rollout
from services.deployer.handlers import Deployer, Outcome
from services.deployer.routing import route_of
from services.deployer.store import PostgresStore, Replica, plain_rollout
from shared.access import Principal, Role
from shared.clock import Clock
from shared.errors import Fault, InvalidInput, NotFound
from shared.events import Json, ModelName, RolloutId
from shared.http import allow, page
from shared.idempotency import once

READERS = allow(Role.VIEWER, Role.DATA_SCIENTIST, Role.APPROVER, Role.OPERATOR, Role.AUDITOR)
Reader = Depends(READERS)
Approver = Annotated[Principal, Depends(allow(Role.APPROVER))]
Operator = Annotated[Principal, Depends(allow(Role.OPERATOR))]
Limit = Annotated[int, Query(ge=1, le=1000)]
_NEWEST = 2**62
_PLAIN = r"^[^\x00]*$"
"""The database keeps no text with zero characters."""


class Decision(BaseModel):
    """Why somebody approves or denies."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field(default="", max_length=2000, pattern=_PLAIN)


class Rollback(BaseModel):
    """Why, and to which former champion; the previous one when none is named."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=2000, pattern=_PLAIN)
    version: int | None = Field(default=None, ge=1, le=_NEWEST)


def router(store: PostgresStore, deployer: Deployer, now: Clock) -> APIRouter:
    """The routes of the deployer."""
    routes = APIRouter(prefix="/v1")
    routes.include_router(_reading(store, now))
    routes.include_router(_deciding(store, deployer))
    return routes


def _reading(store: PostgresStore, now: Clock) -> APIRouter:
    routes = APIRouter(dependencies=[Reader])

    @routes.get("/deployments")
    async def deployments(limit: Limit = 100, cursor: str = "") -> dict[str, Any]:
        found = await store.endpoints(after=_text(cursor), limit=limit)
        items = [_summary(endpoint) for endpoint in found]
        return page(items, str(found[-1].model) if len(found) == limit else None)

    @routes.get("/models/{model}/deployment")
    async def deployment(model: str) -> Json:
        endpoint = await store.endpoint(_text(model))
        if endpoint is None:
            raise NotFound(f"No version of {model} was ever rolled out.")
        return _deployment(endpoint, await store.replicas(model, now()))

    @routes.get("/models/{model}/rollouts")
    async def rollouts(model: str, limit: Limit = 100, cursor: str = "") -> dict[str, Any]:
        below = _number(cursor) if cursor else _NEWEST
        found = await store.rollouts(_text(model), below=below, limit=limit)
        items = [_rollout(rollout) for rollout in found]
        return page(items, str(found[-1].version) if len(found) == limit else None)

    return routes


def _deciding(store: PostgresStore, deployer: Deployer) -> APIRouter:
    routes = APIRouter()

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
            outcome = await deployer.decide(
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

        return await once(request, store.database, principal, action)

    @routes.post("/models/{model}/rollback")
    async def rollback(
        model: str, request: Request, principal: Operator, asked: Rollback
    ) -> Response:
        async def action() -> tuple[int, Json]:
            outcome = await deployer.roll_back(
                ModelName(_text(model)), by=principal.name, reason=asked.reason, to=asked.version
            )
            return 200, _rolled_back(outcome)

        return await once(request, store.database, principal, action)

    return routes


def _text(value: str) -> str:
    if "\0" in value:
        raise InvalidInput(
            "Names hold no control characters.", [Fault("/path", "control character")]
        )
    return value


def _number(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise InvalidInput(
            "This cursor was not given by this list.",
            [Fault("/query/cursor", "not a cursor", "leave it out to begin anew")],
        )
    return int(cursor)


def _summary(endpoint: Endpoint) -> Json:
    return {
        "model": endpoint.model,
        "generation": endpoint.generation,
        "champion": endpoint.champion_version,
        "previous": endpoint.previous.version if endpoint.previous else None,
        "rollout": _rollout(endpoint.rollout) if endpoint.rollout else None,
        "awaiting": _rollout(endpoint.awaiting) if endpoint.awaiting else None,
        "probation_until": endpoint.probation_until,
    }


def _deployment(endpoint: Endpoint, replicas: list[Replica]) -> Json:
    route = route_of(endpoint)
    return _summary(endpoint) | {
        "arms": route.arms if route else (),
        "ladder": route.ladder if route else (),
        "salt": endpoint.salt,
        "former_champions": [champion.version for champion in endpoint.past],
        "replicas": replicas,
        "applied_by_all": bool(replicas)
        and all(replica.generation >= endpoint.generation for replica in replicas),
    }


def _rollout(rollout: Rollout) -> Json:
    plain = plain_rollout(rollout)
    return {**plain, "weight": rollout.weight}


def _rolled_back(outcome: Outcome) -> Json:
    heard = next(h for h in outcome.said if h.event.TYPE.endswith("rolled_back.v1"))
    event: Any = heard.event
    return {
        "generation": event.generation,
        "from": event.from_version,
        "to": event.to_version,
        "event_id": heard.id,
    }
