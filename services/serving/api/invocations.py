"""MLflow's scoring protocol, so that its callers change nothing but an address."""

from collections.abc import Callable, Mapping, Sequence
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
    drawn_ids,
    header_of,
    is_utf8,
    read_body,
)
from services.serving.domain.endpoints import Endpoint, Step
from services.serving.handlers.lanes import Write
from services.serving.handlers.log import Prediction
from services.serving.handlers.predictions import apart
from services.serving.prediction.decoding import Decoder, Values
from services.serving.prediction.frames import read_csv, read_frame
from services.serving.prediction.plain_frames import read_plain_frame
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
            model, batch.rows, body_bytes=len(body), form=batch.form, ids=drawn_ids(scope)
        )
        return Reply(_body(answered))

    def permitted(self, scope: Scope) -> ModelName:
        """The model that the path names, or the default one."""
        if self.default_model is not None:
            scope["path_params"]["model"] = self.default_model
        return super().permitted(scope)


def _body(answered: Sequence[Prediction]) -> bytes:
    steps = [one.step or Step(rung="none") for one in answered]
    return orjson.dumps(
        {
            "predictions": [one.value for one in answered],
            "prediction_ids": [one.id for one in answered],
            "rungs": [step.rung for step in steps],
            "versions": [step.version for step in steps],
        }
    )


def read_plain_invocation(
    decoder: Decoder, body: bytes, rows_limit: int
) -> tuple[Sequence[Values], Write] | None:
    """The rows of a plain request, and how their answers are told; None for all others."""
    rows = read_plain_frame(decoder, body, rows_limit)
    return None if rows is None else (rows, _told)


def _told(_: Endpoint, answered: Sequence[Prediction]) -> bytes:
    return _body(answered)


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
