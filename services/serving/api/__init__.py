"""The doors of serving: predictions in the protocols that clients speak, outcomes, what is served.

What predicts is a plain ASGI endpoint; the rest is as everywhere else.
"""

from collections.abc import Callable
from typing import Final

from fastapi import APIRouter
from starlette.routing import Route

from services.serving.api import control
from services.serving.api.explain import ExplainDoor
from services.serving.api.predict import PredictDoor
from services.serving.handlers.admission import Admission
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.explaining import Explanations
from services.serving.handlers.feedback import Feedback
from services.serving.handlers.predictions import Predictions

BINDINGS: Final = (
    "/v1/models/{model}",
    "/v1/models/{model}/versions/{version}",
    "/v1/models/{model}/aliases/{alias}",
)


def router(
    predictions: Predictions,
    feedback: Feedback,
    deployments: Deployments,
    explanations: Explanations,
    admission: Admission,
    *,
    rows_limit: int,
    monotonic: Callable[[], float],
) -> APIRouter:
    """All routes of serving."""
    routes = control.router(feedback, deployments, monotonic)
    predict = PredictDoor(predictions, rows_limit, admission, explanations=explanations)
    explain = ExplainDoor(predictions, rows_limit, admission, explanations=explanations)
    for path in BINDINGS:
        routes.routes.append(Route(f"{path}/predict", predict, methods=["POST"]))
        routes.routes.append(Route(f"{path}/explain", explain, methods=["POST"]))
    return routes
