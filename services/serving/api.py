"""The door of serving: predictions, outcomes, and what is served.

`predict` is a plain ASGI endpoint: per request it reads the body once, and neither builds a
request object nor validates through pydantic, which would cost more than most models.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from services.serving.domain.endpoints import Endpoint, Step, standing
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.feedback import OBSERVERS, Feedback
from services.serving.handlers.log import Prediction, arm_name
from services.serving.handlers.predictions import UNKNOWN_MODEL, Predictions, apart
from services.serving.prediction.reading import Row, read_json, rows_of
from shared.access import Principal, Role
from shared.errors import NotFound, NotPermitted, Refused
from shared.events import ModelName
from shared.http import Allowed, Json, allow, problem_of

MAY_PREDICT: Final = allow(Role.PREDICTOR)
MAY_OBSERVE: Final = allow(*OBSERVERS)
Looking = Annotated[Principal, Depends(allow())]


class MediaTypeNotAccepted(Refused):
    """The body is in another form than JSON."""

    status = 415
    code = "media_type_not_accepted"


class Gone(Refused):
    """The client left in the middle of its request."""

    code = "client_left"


@dataclass(frozen=True)
class PredictDoor:
    """`POST /v1/models/{model}/predict`."""

    predictions: Predictions
    rows_limit: int
    allowed: Allowed = field(default=MAY_PREDICT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            if not scope["state"]["principal"].may(self.allowed.roles):
                raise NotPermitted("This needs the role predictor.")
            check_media_type(scope)
            body = await read_body(receive)
            rows = await apart(len(body) // 100, read_rows, body, self.rows_limit)
            model = ModelName(scope["path_params"]["model"])
            self.predictions.check(scope["state"]["principal"], model, self.allowed.roles)
            endpoint, answered = await self.predictions.predict(model, rows, body_bytes=len(body))
        except Refused as error:
            refusal = problem_of(error, scope["state"]["request_id"], scope["path"])
            await refusal(scope, receive, send)
            return
        reply = orjson.dumps(
            {
                "model": endpoint.model,
                "predictions": [plain_prediction(endpoint, one) for one in answered],
            }
        )
        headers = [*_JSON, (b"content-length", str(len(reply)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})


def read_rows(body: bytes, limit: int) -> list[Row]:
    """The rows that a body holds."""
    return rows_of(read_json(body), limit)


_JSON: Final = [(b"content-type", b"application/json")]


def plain_prediction(endpoint: Endpoint, prediction: Prediction) -> dict[str, Any]:
    """An answer with everything that tells where it came from."""
    step = prediction.step or Step(rung="none")
    found: dict[str, Any] = {
        "prediction_id": prediction.id,
        "answer": prediction.value,
        "version": step.version,
        "digest": step.digest,
        "rung": step.rung,
        "arm": arm_name(endpoint, prediction),
        "generation": endpoint.generation,
    }
    if prediction.probabilities is not None and step.loaded is not None:
        labels = step.loaded.manifest.classes
        found["probabilities"] = {
            _label(label): share
            for label, share in zip(labels, prediction.probabilities, strict=False)
        }
    return found


def _label(label: float | str | bool) -> str:
    return label if isinstance(label, str) else orjson.dumps(label).decode()


def check_media_type(scope: Scope) -> None:
    """Only JSON in UTF-8, not compressed.

    Raises:
        MediaTypeNotAccepted: it is something else.
    """
    kind = encoding = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-encoding":
            encoding = value
    if kind != b"application/json":
        _check_parameters(kind.decode("latin-1"))
    if encoding.strip().lower() not in (b"", b"identity"):
        raise MediaTypeNotAccepted("Compressed bodies are not taken; send it as it is.")


def _check_parameters(kind: str) -> None:
    plain, _, parameters = kind.partition(";")
    named = parameters.replace(" ", "").replace('"', "").lower()
    if plain.strip().lower() != "application/json" or named not in ("", "charset=utf-8"):
        raise MediaTypeNotAccepted("Send JSON in UTF-8, with `Content-Type: application/json`.")


async def read_body(receive: Receive) -> bytes:
    """The whole body; its size is limited further out.

    Raises:
        Gone: the client left before its end.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone("The client left in the middle of the body.")
        body += message.get("body", b"")
    return body


def router(
    predictions: Predictions,
    feedback: Feedback,
    deployments: Deployments,
    *,
    rows_limit: int,
    monotonic: Callable[[], float],
) -> APIRouter:
    """All routes of serving."""
    routes = APIRouter()
    door = PredictDoor(predictions, rows_limit)
    routes.routes.append(Route("/v1/models/{model}/predict", door, methods=["POST"]))

    @routes.post("/v1/feedback", status_code=202)
    async def observe(
        request: Request, principal: Annotated[Principal, Depends(MAY_OBSERVE)]
    ) -> Response:
        """Take outcomes of earlier predictions; they are joined later."""
        check_media_type(request.scope)
        document = read_json(await request.body())
        taken = feedback.take(document, principal)
        return Json({"accepted": taken}, status_code=202)

    @routes.get("/v1/models")
    async def models(principal: Looking) -> Response:
        """What this replica serves."""
        now = monotonic()
        endpoints = [deployments.endpoints[name] for name in sorted(deployments.endpoints)]
        found = [
            summary(one, now)
            for one in endpoints
            if principal.may_see(deployments.owner_of(one.model) or "")
        ]
        return Json({"items": found, "next": None})

    @routes.get("/v1/models/{model}")
    async def model(model: str, principal: Looking) -> Response:
        """How this replica serves one model."""
        endpoint = deployments.endpoints.get(ModelName(model))
        if endpoint is None or not principal.may_see(deployments.owner_of(endpoint.model) or ""):
            raise NotFound(UNKNOWN_MODEL)
        wanted = deployments.wanted[endpoint.model].event.generation
        problems = deployments.describe(endpoint.model)
        found = summary(endpoint, monotonic()) | details(endpoint)
        return Json(found | {"wanted_generation": wanted, "problems": problems})

    return routes


def summary(endpoint: Endpoint, now: float) -> dict[str, Any]:
    """One model in a list."""
    rung, cause = standing(endpoint, now)
    return {
        "model": endpoint.model,
        "generation": endpoint.generation,
        "rung": rung,
        "cause": cause,
        "arms": [
            {
                "role": arm.role,
                "version": arm.version,
                "digest": arm.manifest,
                "weight": arm.weight,
                "loaded": path[0].loaded is not None,
                "stopped": endpoint.stopped.get(index),
            }
            for index, (arm, path) in enumerate(
                zip(endpoint.desired.arms, endpoint.paths, strict=False)
            )
        ],
    }


def details(endpoint: Endpoint) -> dict[str, Any]:
    """What else is known of one model."""
    desired = endpoint.desired
    manifest = endpoint.manifest
    return {
        "rollout": desired.rollout,
        "probation": desired.probation,
        "ladder": [
            {"kind": rung.kind, "version": rung.version, "digest": rung.manifest, "rule": rung.rule}
            for rung in desired.ladder
        ],
        "task": None if manifest is None else manifest.task,
        "entity": endpoint.schema.entity,
        "lineage": None if manifest is None else manifest.lineage,
        "columns": [{"name": c.name, "kind": c.kind} for c in endpoint.schema.columns],
    }
