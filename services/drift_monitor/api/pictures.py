"""HTTP: what the monitor saw, as pictures."""

import asyncio
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import Response

from services.drift_monitor.api.common import Looking, admit, chosen
from services.drift_monitor.api.features import cells_of, columns_of, said_of
from services.drift_monitor.handlers import Profiles
from services.drift_monitor.pictures import Guessed, Judged, Shares, distribution, heat, quality
from services.drift_monitor.store import PostgresStore, Reading
from services.drift_monitor.windows import Watched
from shared.errors import Conflict, Fault, InvalidInput, NotFound
from shared.events import Json
from shared.names import ModelNameText
from shared.reference import Reference
from shared.sketch import Cells, NumberCells

Limit = Annotated[int, Query(ge=1, le=500)]
Number = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
Feature = Annotated[str | None, Query(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]
_HEADERS: Final = {
    # Names in it were chosen by others: it may be looked at, and nothing in it may run.
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


def router(store: PostgresStore, reading: Reading, profiles: Profiles) -> APIRouter:
    """The routes of pictures: of the champion, unless a version is named."""
    routes = APIRouter(prefix="/models/{model}/pictures")

    @routes.get("/drift.svg")
    async def drift(
        model: ModelNameText, principal: Looking, version: Number = None, limit: Limit = 60
    ) -> Response:
        """Features by time, the worst on top."""
        await admit(store, model, principal)
        shown = await chosen(store, model, version)
        closed = (await reading.closed(model, shown.version, limit))[::-1]
        # Of many windows and features it takes longer than others should wait.
        return _svg(await asyncio.to_thread(_map, shown, closed))

    @routes.get("/quality.svg")
    async def over_time(
        model: ModelNameText, principal: Looking, version: Number = None, limit: Limit = 60
    ) -> Response:
        """Realised and estimated quality by window, beside what was promised and the rule."""
        await admit(store, model, principal)
        shown = await chosen(store, model, version)
        found = await reading.windows(model, version=shown.version, limit=limit, measured=True)
        # Windows of seasons that come seldom end after later ones.
        judged = sorted(map(_judged, reversed(found)), key=lambda one: one.at)
        return _svg(quality(_name(shown), shown.metric, judged))

    @routes.get("/distribution.svg")
    async def one_feature(
        model: ModelNameText,
        principal: Looking,
        feature: Feature = None,
        version: Number = None,
        window: Number = None,
    ) -> Response:
        """One feature, the worst by default, of a window, the newest by default."""
        await admit(store, model, principal)
        shown = await chosen(store, model, version)
        seen = await _window(reading, shown, window)
        place = (str(shown.model), shown.version, int(seen["window"]))
        reference = await profiles.of(shown.reference)
        names = [cell.name for cell in reference.layout.features]
        feature = feature or _worst(seen, names)
        if feature not in names:
            fault = Fault("/query/feature", "it is not watched", f"one of {', '.join(names)}")
            raise InvalidInput("This version has no such feature.", [fault])
        sketch = reference.layout.read((await store.sketches([place]))[place])
        index = names.index(feature)
        shares = shares_of(
            reference.layout.features[index],
            reference.layout.split(sketch.counts)[index],
            counts_of(reference, index, seen["season"]),
        )
        said = said_of(seen, feature, shown.policy.shift)
        about = beside(reference, index, seen["season"])
        return _svg(distribution(_name(shown), shares, f"{said}{about}"))

    return routes


def _map(version: Watched, closed: list[Json]) -> bytes:
    columns = columns_of(closed)
    cells = cells_of(closed, version.policy.shift)
    # A window that could not be compared has none.
    alpha = next((one["alpha"] for one in reversed(closed) if one["alpha"]), 1.0)
    return heat(_name(version), columns, cells, alpha=alpha)


def _worst(window: Json, names: list[str]) -> str:
    """Of those that have a distribution: some findings are about several features together."""
    found = (one["feature"] for one in window["features"] or () if one["feature"] in names)
    return next(found, names[0])


# --- what a window is compared with -----------------------------------------------------------


def counts_of(reference: Reference, index: int, season: str) -> Any:
    """Rows per cell of a feature that windows of a season are compared with.

    Where no training row lies in the season that is nothing, and nothing is shown instead of it.
    """
    if season and reference.season is not None and season not in reference.seasons:
        return np.zeros_like(reference.counts[index])
    return reference.of_season(season).counts[index]


def beside(reference: Reference, index: int, season: str) -> str:
    """What the outline is of, where it is not of all training rows."""
    if not season or reference.season is None:
        return ""
    if not np.sum(counts_of(reference, index, season)):
        return f". The reference has no rows of it in the season {season}"
    return f". The reference is of the season {season}"


def shares_of(cells: Cells, window: Any, reference: Any) -> Shares:
    """Counts as shares, with names that people can read."""
    return Shares(
        feature=cells.name,
        names=names_of(cells),
        window=tuple((window / max(int(np.sum(window)), 1)).tolist()),
        reference=tuple((reference / max(int(np.sum(reference)), 1)).tolist()),
    )


def names_of(cells: Cells) -> tuple[str, ...]:
    """What each cell of a feature holds."""
    if not isinstance(cells, NumberCells):
        return (*map(str, cells.levels), "other", "missing")
    edges = [f"{edge:.4g}" for edge in cells.edges]
    if not edges:
        return ("any", "missing")
    inner = [f"to {edge}" for edge in edges[1:]]
    return ("below", *inner, "above", "missing")


# --- quality ----------------------------------------------------------------------------------


def _judged(window: Json) -> Judged:
    found, guess = window["quality"] or {}, window["estimate"]
    # Labels of too few of the scores stand for nothing.
    told = {} if window["state"] == "censored" else found
    return Judged(
        at=window["ended_at"],
        value=told.get("value"),
        low=told.get("low"),
        high=told.get("high"),
        reference=found.get("reference"),
        baseline=told.get("baseline"),
        completeness=window["completeness"],
        expected=found.get("expected"),
        estimate=_guessed(guess) if guess else None,
    )


def _guessed(guess: Json) -> Guessed | None:
    figures = [guess.get(name) for name in ("value", "low", "high", "reference")]
    value, low, high, reference = (0.0 if one is None else float(one) for one in figures)
    if None in figures:
        return None
    return Guessed(value=value, low=low, high=high, reference=reference)


async def _window(reading: Reading, version: Watched, number: int | None) -> Json:
    model = str(version.model)
    if number is None:
        found = await reading.last_closed(model, version.version)
        if found is None:
            raise Conflict("No window of this version is full yet; ask again when one is.")
        return found
    found = await reading.window(model, version.version, number)
    if found is None:
        raise NotFound(f"Version {version.version} has no window {number}.")
    return found


def _name(version: Watched) -> str:
    return f"{version.model} v{version.version}"


def _svg(body: bytes) -> Response:
    return Response(body, media_type="image/svg+xml", headers=dict(_HEADERS))
