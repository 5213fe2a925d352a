"""How the versions of a model stand: drift, quality, windows."""

from typing import Annotated, Final

from fastapi import APIRouter, Query

from services.drift_monitor.api.common import Looking, versions_of
from services.drift_monitor.api.features import HISTORY, worst_of
from services.drift_monitor.store import PostgresStore, Reading
from services.drift_monitor.store.reading import NEWEST
from services.drift_monitor.windows import Watched
from shared.errors import Fault, InvalidInput
from shared.events import Json
from shared.http import page

Limit = Annotated[int, Query(ge=1, le=1000)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
_QUALITY: Final = (
    "version",
    "window",
    "rows",
    "labels",
    "completeness",
    "started_at",
    "ended_at",
    "quality",
)


def router(store: PostgresStore, reading: Reading) -> APIRouter:
    """The routes that only look."""
    routes = APIRouter()

    @routes.get("/models/{model}/drift")
    async def drift(model: str, principal: Looking) -> Json:
        versions = await versions_of(store, model, principal)
        standing = await store.standing(model)
        shown = []
        for version in versions:
            newest = await reading.windows(model, version=version.version, limit=HISTORY + 1)
            shown.append(_state(version, standing.champion, newest))
        return {
            "model": model,
            "champion": standing.champion,
            "retraining_asked_at": standing.asked_at,
            "versions": shown,
        }

    @routes.get("/models/{model}/quality")
    async def quality(
        model: str,
        principal: Looking,
        version: Version = None,
        limit: Limit = 100,
        cursor: str = "",
    ) -> Json:
        await versions_of(store, model, principal)
        found = await reading.windows(
            model, version=version, before=_place(cursor), limit=limit, labelled=True
        )
        items = [{name: window[name] for name in _QUALITY} for window in found]
        waiting = await reading.waiting_labels(model)
        return {"model": model, "labels_waiting": waiting, **page(items, _next(found, limit))}

    @routes.get("/models/{model}/windows")
    async def windows(
        model: str,
        principal: Looking,
        version: Version = None,
        limit: Limit = 100,
        cursor: str = "",
    ) -> Json:
        await versions_of(store, model, principal)
        found = await reading.windows(model, version=version, before=_place(cursor), limit=limit)
        return page(found, _next(found, limit))

    return routes


def _state(version: Watched, champion: int | None, newest: list[Json]) -> Json:
    opened = [window for window in newest if window["closed_at"] is None]
    closed = [window for window in newest if window["closed_at"] is not None]
    return {
        "version": version.version,
        "is_champion": version.version == champion,
        "drift": version.watch.drift,
        "is_degraded": version.watch.is_degraded,
        "metric": version.metric,
        "window_rows": version.policy.window,
        "open_window": _rows(opened[0]) if opened else None,
        "last_window": closed[0] if closed else None,
        "worst": worst_of(closed),
    }


def _rows(window: Json) -> Json:
    return {"window": window["window"], "rows": window["rows"]}


def _next(found: list[Json], limit: int) -> str | None:
    return f"{found[-1]['version']}.{found[-1]['window']}" if len(found) == limit else None


def _place(cursor: str) -> tuple[int, int]:
    if not cursor:
        return NEWEST
    version, _, window = cursor.partition(".")
    if all(part.isascii() and part.isdigit() and len(part) < 10 for part in (version, window)):
        return int(version), int(window)
    fault = Fault("/query/cursor", "not a cursor", "leave it out to begin anew")
    raise InvalidInput("This cursor was not given by this list.", [fault])
