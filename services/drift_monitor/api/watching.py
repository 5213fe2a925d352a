"""How the versions of a model stand: drift, quality, windows."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query

from services.drift_monitor.api.common import ABOVE_ALL, Looking, admit, champion_of, named
from services.drift_monitor.api.features import HISTORY, worst_of
from services.drift_monitor.detection import reason_of
from services.drift_monitor.domain import EVERY, Watch
from services.drift_monitor.handlers.measuring import Measuring
from services.drift_monitor.store import PostgresStore, Reading
from services.drift_monitor.store.reading import NEWEST
from services.drift_monitor.windows import Watched
from shared.errors import Fault, InvalidInput
from shared.events import Json
from shared.figures import value_is
from shared.http import page
from shared.names import ModelNameText

Limit = Annotated[int, Query(ge=1, le=1000)]
Versions = Annotated[int, Query(ge=1, le=100)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
_QUALITY: Final = (
    "version",
    "window",
    "rows",
    "labels",
    "completeness",
    "started_at",
    "ended_at",
    "state",
    "revision",
    "quality",
    "estimate",
)


def router(store: PostgresStore, reading: Reading, measuring: Measuring) -> APIRouter:
    """The routes that only look."""
    routes = APIRouter()
    routes.include_router(_at_a_moment(store, measuring))

    @routes.get("/models/{model}/drift")
    async def drift(
        model: ModelNameText,
        principal: Looking,
        version: Version = None,
        limit: Versions = 20,
        cursor: str = "",
    ) -> Json:
        """The champion first, then the newest versions; or the one that is named."""
        await admit(store, model, principal)
        standing = await store.standing(model)
        if version is not None:
            versions, following = [await named(store, model, version)], None
        else:
            versions, following = await _versions(store, model, limit, cursor)
        shown = [await _state(reading, one, standing.champion) for one in versions]
        course = (await store.course(model)).course
        return {
            "model": model,
            "champion": standing.champion,
            "phase": course.phase,
            "phase_detail": course.detail,
            "cools_until": course.cools_until,
            "retraining_asked_at": course.asked_at or standing.asked_at,
            "versions": shown,
            "next": following,
        }

    @routes.get("/models/{model}/quality")
    async def quality(
        model: ModelNameText,
        principal: Looking,
        version: Version = None,
        limit: Limit = 100,
        cursor: str = "",
    ) -> Json:
        """How wrong the answers of each window were, or are estimated to be before labels come."""
        await admit(store, model, principal)
        found = await reading.windows(
            model, version=version, before=_place(cursor), limit=limit, measured=True
        )
        keys = {(model, window["version"]) for window in found}
        versions = await store.versions(keys) if keys else {}
        items = [
            {name: window[name] for name in _QUALITY}
            | _figure(versions.get((model, window["version"])))
            for window in found
        ]
        waiting = await reading.waiting_labels(model)
        return {"model": model, "labels_waiting": waiting, **page(items, _next(found, limit))}

    @routes.get("/models/{model}/windows")
    async def windows(
        model: ModelNameText,
        principal: Looking,
        version: Version = None,
        limit: Limit = 100,
        cursor: str = "",
    ) -> Json:
        await admit(store, model, principal)
        found = await reading.windows(model, version=version, before=_place(cursor), limit=limit)
        return page(found, _next(found, limit))

    return routes


def _at_a_moment(store: PostgresStore, measuring: Measuring) -> APIRouter:
    routes = APIRouter()

    @routes.get("/models/{model}/versions/{version}/windows/{window}/quality")
    async def as_known(
        model: ModelNameText,
        version: Number,
        window: Number,
        principal: Looking,
        at: datetime | None = None,
    ) -> Json:
        """How wrong the answers of a window were, as far as could be known at a moment."""
        await admit(store, model, principal)
        watched = await named(store, model, version)
        moment = _aware(at) if at else measuring.now()
        found = await measuring.as_known(watched, window, moment)
        plain = None if found is None else asdict(found)
        return {
            "model": model,
            "version": version,
            "window": window,
            "at": moment,
            "quality": plain,
        }

    return routes


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        fault = Fault("/query/at", "without an offset", "add Z or an offset such as +01:00")
        raise InvalidInput("A moment needs its offset.", [fault])
    return at


async def _versions(
    store: PostgresStore, model: str, limit: int, cursor: str
) -> tuple[list[Watched], str | None]:
    """The champion, then the others from the newest on, and what leads to more of them."""
    champion = await champion_of(store, model)
    first = [champion] if champion and not cursor else []
    others = await store.newest_versions(
        model,
        limit - len(first) + 1,
        below=_below(cursor),
        without=champion.version if champion else None,
    )
    found = [*first, *others][:limit]
    if len(first) + len(others) <= limit:
        return found, None
    return found, str(ABOVE_ALL if found == first else found[-1].version)


def _below(cursor: str) -> int:
    if not cursor:
        return ABOVE_ALL
    if cursor.isascii() and cursor.isdigit() and len(cursor) < 11 and int(cursor) <= ABOVE_ALL:
        return int(cursor)
    raise _unknown_cursor()


async def _state(reading: Reading, version: Watched, champion: int | None) -> Json:
    key = (str(version.model), version.version)
    opened, told = await reading.filling(*key), await reading.telling(*key)
    seen = await reading.closed(*key, HISTORY, told["season"]) if told else []
    last = await reading.last_closed(*key)
    return {
        "version": version.version,
        "is_champion": version.version == champion,
        "drift": version.watch.drift,
        "is_degraded": version.watch.is_degraded,
        "metric": version.metric,
        "value_is": value_is(version.metric),
        "window_rows": version.policy.window,
        "open_window": _rows(opened) if opened else None,
        "last_window": last,
        "not_judged": reason_of(last["detail"])
        if last and last["mode"] == "insufficient"
        else None,
        "drifted_seasons": _seasons(version.watch),
        "worst": worst_of(seen, version.policy.shift),
    }


def _seasons(watch: Watch) -> list[Json]:
    """Those with drift, each with the window of it that was closed last."""
    return [
        {"season": name, "drift": one.drift, "window": one.newest[-1]}
        for name, one in sorted(watch.series.items())
        if name != EVERY and one.drift and one.newest
    ]


def _figure(version: Watched | None) -> Json:
    """Which metric the figures of a window are of, and what they are."""
    if version is None:
        return {"metric": None, "value_is": None}
    return {"metric": version.metric, "value_is": value_is(version.metric)}


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
    raise _unknown_cursor()


def _unknown_cursor() -> InvalidInput:
    fault = Fault("/query/cursor", "not a cursor", "leave it out to begin anew")
    return InvalidInput("This cursor was not given by this list.", [fault])
