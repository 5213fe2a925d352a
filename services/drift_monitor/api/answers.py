"""One answer as it was given: what was asked, who answered, and how it turned out."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from fastapi.responses import Response

from services.drift_monitor.api.common import Looking
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.predictions import Answered
from shared.errors import NotFound
from shared.http import Json

Prediction = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]+$")]
_UNKNOWN: Final = (
    "No such prediction is known. It may not have arrived yet, or it is older than the time for "
    "which predictions are kept."
)


def router(store: PostgresStore) -> APIRouter:
    """The route of one prediction."""
    routes = APIRouter()

    @routes.get("/predictions/{prediction}", operation_id="get_prediction")
    async def one(prediction: Prediction, principal: Looking) -> Response:
        """Features, answer, rung, arm, version and digest; the outcome where it is known."""
        found = await store.answered(prediction)
        if found is None or not principal.may_see(await store.owner(found.row.model)):
            raise NotFound(_UNKNOWN)
        return Json(plain(found))

    return routes


def plain(found: Answered) -> dict[str, Any]:
    """An answer for programs."""
    row, label = found.row, found.row.label
    return {
        "prediction_id": row.id,
        "model": row.model,
        "at": row.at,
        "features": row.row(),
        "entity": row.entity,
        "answer": row.answer,
        "score": row.score,
        "version": row.version,
        "manifest": row.manifest,
        "generation": row.generation,
        "rung": row.rung,
        "arm": row.arm,
        "weight": row.weight,
        "window": row.window,
        "outcome": None
        if label is None
        else {
            "value": label.value,
            "revision": label.revision,
            "observed_at": label.observed_at,
            "loss": found.loss,
            "baseline_loss": found.baseline_loss,
        },
    }
