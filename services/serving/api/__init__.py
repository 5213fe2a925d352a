"""The doors of serving: predictions in the protocols that clients speak, outcomes, what is served.

What predicts is a plain ASGI endpoint; the rest is as everywhere else.
"""

from collections.abc import Callable
from typing import Final

from fastapi import APIRouter
from starlette.routing import Route

from services.serving.api import control
from services.serving.api.predict import PredictDoor
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.feedback import Feedback
from services.serving.handlers.predictions import Predictions

PREDICT_PATHS: Final = (
    "/v1/models/{model}/predict",
    "/v1/models/{model}/versions/{version}/predict",
    "/v1/models/{model}/aliases/{alias}/predict",
)


def router(
    predictions: Predictions,
    feedback: Feedback,
    deployments: Deployments,
    *,
    rows_limit: int,
    monotonic: Callable[[], float],
) -> APIRouter:
    """All routes of serving."""
    routes = control.router(feedback, deployments, monotonic)
    door = PredictDoor(predictions, rows_limit)
    for path in PREDICT_PATHS:
        routes.routes.append(Route(path, door, methods=["POST"]))
    return routes
