"""How long published data waits until models answer from it."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from services.registry.api.audit import Moment, aware
from services.registry.api.events import ended
from services.registry.api.replies import Cursor, Limit
from services.registry.freshness import Passage, Standing
from services.registry.store import Store
from services.registry.store.freshness import Overall
from shared.access import Principal, see
from shared.clock import Clock
from shared.http import Json, allow
from shared.names import ModelNameText
from shared.outcomes import Outcome

_LOOK_BACK: Final = timedelta(days=30)
Reader = Annotated[Principal, Depends(allow())]
Shown = Annotated[int, Query(ge=1, le=1000)]


def router(store: Store, now: Clock) -> APIRouter:
    """The routes of freshness."""
    routes = APIRouter(tags=["freshness"])

    @routes.get("/v1/models/{name}/freshness", operation_id="get_model_freshness")
    async def of_model(
        name: ModelNameText, principal: Reader, since: Moment = None, limit: Shown = 20
    ) -> Response:
        """From published to served: p50, p95, p99, the newest versions, and the objective."""
        found = await store.freshness.standings(model=name)
        see(principal, found[0].owner if found else None, "There is no such model.")
        moment = now()
        first = aware(since) or moment - _LOOK_BACK
        passages = await store.freshness.passages(name, first, limit)
        figures = overall(await store.freshness.overall(None, first, name))
        ends = await store.log.outcomes(
            dataset=found[0].dataset, model=name, state=None, after=("", 0, ""), limit=limit
        )
        return Json(
            standing(found[0], moment)
            | {"since": first}
            | figures
            | {"versions": [passage(p, ends, moment) for p in passages]}
        )

    @routes.get("/v1/freshness", operation_id="get_freshness")
    async def of_fleet(
        request: Request,
        principal: Reader,
        since: Moment = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        """p50, p95 and p99 over all models; and how old the data of each one is, by name."""
        moment = now()
        first = aware(since) or moment - _LOOK_BACK
        owners = principal.visible
        found = await store.freshness.standings(owners=owners, after=cursor or "", limit=limit)
        following = found[-1].model if len(found) == limit else None
        fleet = overall(await store.freshness.overall(owners, first))
        items = [standing(one, moment) for one in found]
        reply = Json({"since": first, "fleet": fleet, "items": items, "next": following})
        if following is not None:
            query = request.url.include_query_params(cursor=following).query
            reply.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
        return reply

    return routes


def standing(found: Standing, now: datetime) -> dict[str, Any]:
    """What a model answers from and whether that is too old."""
    objective = found.objective
    return {
        "model": found.model,
        "dataset": found.dataset,
        "newest_version": found.newest,
        "served_version": found.served,
        "staleness_seconds": round(found.staleness(now), 3),
        "objective_seconds": objective.total_seconds() if objective else None,
        "is_stale": found.is_stale(now),
    }


def passage(one: Passage, ends: list[Outcome], now: datetime) -> dict[str, Any]:
    """One dataset version; where its story stands is told beside its times."""
    outcome = next((end for end in ends if end.dataset_version == one.version), None)
    story = ended(outcome, now) if outcome else {}
    return {
        "dataset_version": one.version,
        "published_at": one.published_at,
        "served_at": one.served_at,
        "seconds": one.seconds,
        "outcome": story.get("outcome"),
        "detail": story.get("detail"),
    }


def overall(found: Overall) -> dict[str, Any]:
    """The figures of the fleet, or of one model; of all versions since then."""
    seconds = found.seconds or (None, None, None)
    names = ("p50_seconds", "p95_seconds", "p99_seconds")
    return {"served": found.served, "waiting": found.waiting} | dict(
        zip(names, (s if s is None else round(s, 3) for s in seconds), strict=True)
    )
