"""HTTP: what the monitor saw, as pictures."""

from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import Response

from services.drift_monitor.api.common import Looking, versions_of
from services.drift_monitor.api.features import tier_of, words_of
from services.drift_monitor.handlers import Profiles
from services.drift_monitor.pictures import Cell, Judged, Shares, distribution, heat, quality
from services.drift_monitor.store import PostgresStore, Reading
from services.drift_monitor.windows import Watched
from shared.errors import Conflict, Fault, InvalidInput, NotFound
from shared.events import Json
from shared.names import ModelNameText
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
    """The routes of pictures."""
    routes = APIRouter(prefix="/models/{model}/pictures")

    @routes.get("/drift.svg")
    async def drift(
        model: ModelNameText, principal: Looking, version: Number = None, limit: Limit = 60
    ) -> Response:
        """Features by time, the worst on top."""
        chosen = await _chosen(store, await versions_of(store, model, principal), version)
        closed = (await reading.closed(model, chosen.version, limit))[::-1]
        shift = chosen.policy.shift
        cells = [cell for place, one in enumerate(closed) for cell in cells_of(place, one, shift)]
        moments = [one["ended_at"] for one in closed]
        # A window that could not be compared has none.
        alpha = next((one["alpha"] for one in reversed(closed) if one["alpha"]), 1.0)
        return _svg(heat(_name(chosen), moments, cells, alpha=alpha))

    @routes.get("/quality.svg")
    async def over_time(
        model: ModelNameText, principal: Looking, version: Number = None, limit: Limit = 60
    ) -> Response:
        """Realised quality, window by window, beside what was promised and the rule."""
        chosen = await _chosen(store, await versions_of(store, model, principal), version)
        found = await reading.windows(model, version=chosen.version, limit=limit, labelled=True)
        judged = [_judged(one) for one in reversed(found) if one["quality"]]
        return _svg(quality(_name(chosen), chosen.metric, judged))

    @routes.get("/distribution.svg")
    async def one_feature(
        model: ModelNameText,
        principal: Looking,
        feature: Feature = None,
        version: Number = None,
        window: Number = None,
    ) -> Response:
        """One feature, the worst by default, of a window, the newest by default."""
        chosen = await _chosen(store, await versions_of(store, model, principal), version)
        seen = await _window(reading, chosen, window)
        place = (str(chosen.model), chosen.version, int(seen["window"]))
        reference = await profiles.of(chosen.reference)
        names = [cell.name for cell in reference.layout.features]
        feature = feature or _worst(seen, names)
        if feature not in names:
            fault = Fault("/query/feature", "it is not watched", f"one of {', '.join(names)}")
            raise InvalidInput("This version has no such feature.", [fault])
        sketch = reference.layout.read((await store.sketches([place]))[place])
        index = names.index(feature)
        cells = reference.layout.features[index]
        counts = reference.layout.split(sketch.counts)[index]
        shares = shares_of(cells, counts, reference.counts[index])
        return _svg(distribution(_name(chosen), shares, _said(seen, feature)))

    return routes


def cells_of(place: int, window: Json, shift: float) -> list[Cell]:
    """What is known of each feature of a compared window."""
    return [
        Cell(
            feature=found["feature"],
            column=place,
            p=found["p_value"],
            tier=tier_of(window, found, shift),
            words=f"window {window['window']}: {words_of(found)}",
        )
        for found in window["features"] or ()
    ]


def _worst(window: Json, names: list[str]) -> str:
    """Of those that have a distribution: some findings are about several features together."""
    found = (one["feature"] for one in window["features"] or () if one["feature"] in names)
    return next(found, names[0])


def _said(window: Json, feature: str) -> str:
    found = next((one for one in window["features"] or () if one["feature"] == feature), None)
    return f"Window {window['window']}: " + (words_of(found) if found else "like the reference")


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


def _judged(window: Json) -> Judged:
    found = window["quality"]
    return Judged(
        at=window["ended_at"],
        value=found["value"],
        low=found.get("low"),
        high=found.get("high"),
        reference=found.get("reference"),
        baseline=found.get("baseline"),
        completeness=window["completeness"],
        expected=found.get("expected"),
    )


async def _chosen(store: PostgresStore, versions: list[Watched], version: int | None) -> Watched:
    """The version that was named, else the champion, else the newest."""
    by_number = {one.version: one for one in versions}
    if version is not None:
        if version not in by_number:
            raise NotFound(f"Version {version} of this model is not watched.")
        return by_number[version]
    standing = await store.standing(versions[0].model)
    return by_number.get(standing.champion or 0, versions[0])


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
