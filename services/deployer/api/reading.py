"""HTTP: what answers now, and what is on its way."""

from typing import Any

from fastapi import APIRouter

from services.deployer.api.asking import NEWEST, Limit, Looking, number_of, text_of
from services.deployer.domain import Endpoint, Rollout
from services.deployer.routing import route_of
from services.deployer.store import PostgresStore, Replica, plain_rollout
from shared.access import Principal
from shared.clock import Clock
from shared.errors import NotFound
from shared.events import Json
from shared.http import page
from shared.names import ModelNameText


def router(store: PostgresStore, now: Clock) -> APIRouter:
    """The routes for whoever looks."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/deployments")
    async def deployments(
        principal: Looking, limit: Limit = 100, cursor: str = ""
    ) -> dict[str, Any]:
        found = await store.endpoints(after=text_of(cursor), limit=limit, owners=principal.visible)
        items = [_summary(endpoint) for endpoint in found]
        return page(items, str(found[-1].model) if len(found) == limit else None)

    @routes.get("/models/{model}/deployment")
    async def deployment(model: ModelNameText, principal: Looking) -> Json:
        endpoint = await _seen(store, model, principal)
        return _deployment(endpoint, await store.replicas(model, now()))

    @routes.get("/models/{model}/rollouts")
    async def rollouts(
        model: ModelNameText, principal: Looking, limit: Limit = 100, cursor: str = ""
    ) -> dict[str, Any]:
        below = number_of(cursor) if cursor else NEWEST
        await _seen(store, model, principal)
        found = await store.rollouts(model, below=below, limit=limit)
        items = [_rollout(rollout) for _, rollout in found]
        return page(items, str(found[-1][0]) if len(found) == limit else None)

    return routes


async def _seen(store: PostgresStore, model: str, principal: Principal) -> Endpoint:
    """The endpoint, if the principal may see it."""
    endpoint = await store.endpoint(model)
    if endpoint is None or not principal.may_see(endpoint.owner):
        raise NotFound(f"No version of {model} was ever rolled out.")
    return endpoint


def _summary(endpoint: Endpoint) -> Json:
    return {
        "model": endpoint.model,
        "generation": endpoint.generation,
        "champion": endpoint.champion_version,
        "previous": endpoint.previous.version if endpoint.previous else None,
        "rollout": _rollout(endpoint.rollout) if endpoint.rollout else None,
        "experiments": [_rollout(rollout) for rollout in endpoint.experiments],
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
