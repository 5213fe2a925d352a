"""What the Open Inference Protocol tells of a server and its models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from services.serving import VERSION
from services.serving.domain.bindings import bind, seen_versions, wanted_version
from services.serving.domain.endpoints import Endpoint, standing
from services.serving.handlers.predictions import UNKNOWN_MODEL, Predictions
from services.serving.prediction.inference import is_numeric
from services.serving.prediction.rows import Schema
from shared.access import Principal, see
from shared.errors import Saturated
from shared.events import ModelName
from shared.http import Json, allow
from shared.manifest import Manifest
from shared.names import ModelNameText

EXTENSIONS: Final = ("binary_tensor_data",)
MATRIX: Final = "input"
ANSWER: Final = "answer"
PROBABILITIES: Final = "probabilities"
PLATFORM: Final = "tidewheel_sklearn"
Looking = Annotated[Principal, Depends(allow())]
State = Callable[[], Mapping[str, Any]]


def server_router(ready: State) -> APIRouter:
    """What the protocol tells of the server."""
    routes = APIRouter()

    @routes.get("/v2/health/live")
    async def live() -> Response:
        """Whether the process runs."""
        return Json({"live": True, "ready": bool(ready().get("ready"))})

    @routes.get("/v2/health/ready")
    async def is_ready(request: Request) -> Response:
        """Whether requests are answered."""
        answered = bool(ready().get("ready")) and not request.app.state.stopping
        return Json({"live": True, "ready": answered}, status_code=200 if answered else 503)

    @routes.get("/v2")
    async def server(_: Looking) -> Response:
        """What this server is."""
        return Json({"name": "tidewheel", "version": VERSION, "extensions": EXTENSIONS})

    return routes


def models_router(predictions: Predictions, monotonic: Callable[[], float]) -> APIRouter:
    """What the protocol tells of models."""
    routes = APIRouter()

    def seen(model: str, principal: Principal) -> Endpoint:
        name = ModelName(model)
        see(principal, predictions.deployments.owner_of(name), UNKNOWN_MODEL)
        return predictions.endpoint_of(name)

    @routes.get("/v2/models/{model}")
    async def model(model: ModelNameText, principal: Looking) -> Response:
        """What a model takes and gives."""
        endpoint = seen(model, principal)
        return Json(metadata(endpoint, endpoint.schema))

    @routes.get("/v2/models/{model}/versions/{version}")
    async def model_version(model: ModelNameText, version: str, principal: Looking) -> Response:
        """What one of its versions takes and gives."""
        endpoint = seen(model, principal)
        return Json(metadata(endpoint, bind(endpoint, wanted_version(version)).schema))

    @routes.get("/v2/models/{model}/ready")
    async def model_ready(model: ModelNameText, principal: Looking) -> Response:
        """Whether a model answers."""
        endpoint = seen(model, principal)
        rung, cause = standing(endpoint, monotonic())
        if rung == "none":
            raise Saturated(f"Nothing answers for this model at the moment: {cause}.")
        return Json({"name": endpoint.model, "ready": True})

    @routes.get("/v2/models/{model}/versions/{version}/ready")
    async def version_ready(model: ModelNameText, version: str, principal: Looking) -> Response:
        """Whether one of its versions answers."""
        endpoint = seen(model, principal)
        path = bind(endpoint, wanted_version(version)).path
        if not any(step.may_answer(monotonic()) for step in path):
            raise Saturated(f"This version does not answer at the moment: {path[0].cause()}.")
        return Json({"name": endpoint.model, "ready": True})

    return routes


_DATATYPES: Final = {"number": "FP64", "boolean": "BOOL", "text": "BYTES"}


def metadata(endpoint: Endpoint, schema: Schema) -> dict[str, Any]:
    """The protocol's description of a model: an input for each column.

    The parameters say whether one tensor may hold them all, under which name and shape, and which
    further input names the entity.
    """
    parameters: dict[str, Any] = {"matrix": is_numeric(schema)}
    if is_numeric(schema):
        parameters |= {"matrix_input": MATRIX, "matrix_shape": f"[-1,{len(schema.columns)}]"}
    if schema.entity is not None and schema.entity not in schema.names:
        parameters["entity_input"] = schema.entity
    return {
        "name": endpoint.model,
        "versions": [str(version) for version in seen_versions(endpoint)],
        "platform": PLATFORM,
        "inputs": [
            {"name": column.name, "datatype": _DATATYPES[column.kind], "shape": [-1]}
            for column in schema.columns
        ],
        "outputs": outputs_of(endpoint),
        "parameters": parameters,
    }


def outputs_of(endpoint: Endpoint) -> list[dict[str, Any]]:
    """The outputs that a model has."""
    manifest = endpoint.manifest
    found: list[dict[str, Any]] = [
        {"name": ANSWER, "datatype": _answer_datatype(manifest), "shape": [-1]}
    ]
    if manifest is not None and manifest.classes:
        shape = [-1, len(manifest.classes)]
        labels = orjson.dumps(manifest.classes).decode()
        found.append(
            {
                "name": PROBABILITIES,
                "datatype": "FP64",
                "shape": shape,
                "parameters": {"classes": labels},
            }
        )
    return found


def _answer_datatype(manifest: Manifest | None) -> str:
    if manifest is None or manifest.task == "regression":
        return "FP64"
    return datatype_of(manifest.classes)


def datatype_of(values: Sequence[float | str | bool]) -> str:
    """The datatype that holds all of these values."""
    if values and all(isinstance(value, bool) for value in values):
        return "BOOL"
    is_numbers = not any(isinstance(value, bool | str) for value in values)
    return "FP64" if is_numbers else "BYTES"
