"""What is served, and what came of it: the routes of serving that do not predict."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from services.serving.api.wire import check_media_type
from services.serving.domain.endpoints import Endpoint, standing
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.feedback import OBSERVERS, Feedback
from services.serving.handlers.predictions import UNKNOWN_MODEL
from services.serving.prediction.reading import read_json
from shared.access import Principal
from shared.errors import NotFound
from shared.events import ModelName
from shared.http import Json, allow
from shared.names import ModelNameText

MOST_LISTED: Final = 500
MAY_OBSERVE: Final = allow(*OBSERVERS)
Looking = Annotated[Principal, Depends(allow())]


def router(
    feedback: Feedback, deployments: Deployments, monotonic: Callable[[], float]
) -> APIRouter:
    """These routes."""
    routes = APIRouter()

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
    async def models(
        principal: Looking,
        cursor: str = "",
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    ) -> Response:
        """What this replica serves, by name; `next` is the cursor of the next page."""
        names = sorted(
            name
            for name in deployments.endpoints
            if name > cursor and principal.may_see(deployments.owner_of(name) or "")
        )
        found = []
        for name in names[:limit]:
            endpoint = deployments.seen(name)
            if endpoint is not None:
                found.append(summary(endpoint, monotonic()))
            await asyncio.sleep(0)  # whoever asks for answers goes first
        return Json({"items": found, "next": names[limit - 1] if len(names) > limit else None})

    @routes.get("/v1/models/{model}")
    async def model(model: ModelNameText, principal: Looking) -> Response:
        """How this replica serves one model."""
        endpoint = deployments.endpoints.get(ModelName(model))
        if endpoint is None or not principal.may_see(deployments.owner_of(endpoint.model) or ""):
            raise NotFound(UNKNOWN_MODEL)
        wanted = deployments.wanted[endpoint.model].generation
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
                "open": path[0].loaded is not None and path[0].loaded.opened is not None,
                "engine": None if path[0].loaded is None else path[0].loaded.engine,
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
