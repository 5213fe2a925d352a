"""MLflow's scoring protocol, so that its callers change nothing but an address."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope

from services.serving import VERSION
from services.serving.api.wire import (
    MediaTypeNotAccepted,
    PlainDoor,
    Reply,
    check_encoding,
    header_of,
    is_utf8,
    read_body,
)
from services.serving.domain.endpoints import Step
from services.serving.handlers.predictions import apart
from services.serving.prediction.frames import read_csv, read_frame
from shared.events import ModelName
from shared.http import Json


@dataclass(frozen=True)
class InvocationsDoor(PlainDoor):
    """`POST /v1/models/{model}/invocations`, and `POST /invocations` for a default model."""

    default_model: ModelName | None = None

    async def answer(self, scope: Scope, receive: Receive) -> Reply:
        """The predictions for the rows of one request."""
        kind = header_of(scope, b"content-type")
        is_csv = is_utf8(kind, "text/csv")
        if not is_csv and not is_utf8(kind, "application/json"):
            raise MediaTypeNotAccepted("Send application/json or text/csv, in UTF-8.")
        check_encoding(scope)
        model = self.permitted(scope)
        schema = self.predictions.endpoint_of(model).schema
        body = await read_body(receive)
        read = read_csv if is_csv else read_frame
        batch = await apart(len(body) // 100, read, body, schema, self.rows_limit)
        _, answered = await self.predictions.predict(
            model, batch.rows, body_bytes=len(body), form=batch.form
        )
        steps = [one.step or Step(rung="none") for one in answered]
        return Reply(
            orjson.dumps(
                {
                    "predictions": [one.value for one in answered],
                    "prediction_ids": [one.id for one in answered],
                    "rungs": [step.rung for step in steps],
                    "versions": [step.version for step in steps],
                }
            )
        )

    def permitted(self, scope: Scope) -> ModelName:
        """The model that the path names, or the default one."""
        if self.default_model is not None:
            scope["path_params"]["model"] = self.default_model
        return super().permitted(scope)


def router(ready: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """What MLflow's callers ask about the server."""
    routes = APIRouter()

    @routes.get("/ping")
    @routes.get("/health")
    async def ping(request: Request) -> Response:
        """Whether requests are answered."""
        answered = bool(ready().get("ready")) and not request.app.state.stopping
        return Json({"ready": answered}, status_code=200 if answered else 503)

    @routes.get("/version")
    async def version() -> Response:
        """The version of this server."""
        return PlainTextResponse(VERSION)

    return routes
