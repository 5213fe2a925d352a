"""HTTP: a verdict about drift computed again, by the rules of then or by others."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query

from services.drift_monitor.api.common import Looking, admit, named
from services.drift_monitor.handlers.replaying import Replay, Replaying
from shared.events import Json
from shared.names import ModelNameText

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Alpha = Annotated[float | None, Query(gt=0, le=0.1)]
Shift = Annotated[float | None, Query(ge=0, le=100)]


def router(replaying: Replaying) -> APIRouter:
    """The route of one window's verdict."""
    routes = APIRouter()

    @routes.get("/models/{model}/versions/{version}/windows/{window}/replay")
    async def replay(
        model: ModelNameText,
        version: Number,
        window: Number,
        principal: Looking,
        alpha: Alpha = None,
        shift: Shift = None,
    ) -> Json:
        """What differs from the verdict that was recorded; other rules decide nothing."""
        await admit(replaying.store, model, principal)
        watched = await named(replaying.store, model, version)
        made = await replaying.replay(watched, window, alpha=alpha, shift=shift)
        return {"model": model, "version": version, "window": window, **_plain(made)}

    return routes


def _plain(made: Replay) -> Json:
    return {
        "same": made.same,
        "differences": list(made.differences),
        "recorded": made.recorded.severity or _unsaid(made.recorded.mode),
        "tier": made.now.tier,
        "alpha": made.now.alpha,
        "shift": made.shift,
        "mode": made.now.mode,
        "detail": made.now.detail,
        "family_p": made.now.family_p,
        "scales": list(made.now.scales),
        "windows": list(made.windows),
        "counts": made.counts,
        "recorded_counts": made.recorded_counts,
        "features": [asdict(one) for one in made.now.features],
    }


def _unsaid(mode: str | None) -> str:
    return "insufficient" if mode == "insufficient" else "clean"
