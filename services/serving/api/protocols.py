"""The doors that speak protocols of others, and the descriptions of single models."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter
from starlette.routing import Route

from services.serving.api import documents, invocations, metadata
from services.serving.api.inference import InferDoor
from services.serving.api.invocations import InvocationsDoor
from services.serving.handlers.admission import Admission
from services.serving.handlers.predictions import Predictions
from shared.events import ModelName

INFER_PATHS: Final = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")


def router(
    predictions: Predictions,
    admission: Admission,
    *,
    rows_limit: int,
    monotonic: Callable[[], float],
    ready: Callable[[], Mapping[str, Any]],
    default_model: str,
) -> APIRouter:
    """All of them.

    Args:
        default_model: whom the bare `/invocations` asks; without one there is no such route.
    """
    routes = APIRouter()
    infer = InferDoor(predictions, rows_limit, admission)
    score = InvocationsDoor(predictions, rows_limit, admission)
    plain = [Route(path, infer, methods=["POST"]) for path in INFER_PATHS]
    plain.append(Route("/v1/models/{model}/invocations", score, methods=["POST"]))
    if default_model:
        bare = InvocationsDoor(
            predictions, rows_limit, admission, default_model=ModelName(default_model)
        )
        plain.append(Route("/invocations", bare, methods=["POST"]))
    routes.routes.extend(plain)
    for more in (
        metadata.server_router(ready),
        metadata.models_router(predictions, monotonic),
        invocations.router(ready),
        documents.router(predictions),
    ):
        routes.include_router(more)
    return routes
