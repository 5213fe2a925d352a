"""HTTP: brakes that keep models from being retrained, and people who release them."""

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.drift_monitor.api.common import Looking
from services.drift_monitor.handlers.brakes import MAY_RELEASE, Brakes, is_scope
from shared.access import Principal
from shared.errors import Fault, InvalidInput
from shared.events import Json
from shared.http import allow, page
from shared.idempotency import once

Releasing = Annotated[Principal, Depends(allow(*MAY_RELEASE))]
Limit = Annotated[int, Query(ge=1, le=1000)]
LONGEST_SCOPE: Final = 300


class Release(BaseModel):
    """Whose brake, `fleet` or `dataset/` and a name, and why; the reason is kept in the log."""

    model_config = ConfigDict(extra="forbid")

    scope: str = Field(min_length=1, max_length=LONGEST_SCOPE, pattern=r"^[^\x00]*$")
    reason: str = Field(min_length=1, max_length=2000, pattern=r"^[^\x00]*\S[^\x00]*$")


def router(brakes: Brakes) -> APIRouter:
    """The routes about brakes."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/brakes")
    async def every(principal: Looking, limit: Limit = 100) -> Json:
        return page(await brakes.listed(principal, limit), None)

    @routes.post("/brakes/release")
    async def release(request: Request, principal: Releasing, asked: Release) -> Response:
        if not is_scope(asked.scope):
            fault = Fault("/scope", "no scope", "use `fleet`, or `dataset/` and a dataset's name")
            raise InvalidInput("This is no scope of a brake.", [fault])

        async def action() -> tuple[int, Json]:
            said = await brakes.lift(asked.scope, principal, asked.reason)
            return 200, {**asdict(said.event), "event_id": said.id}

        return await once(request, brakes.store.database, principal, action)

    return routes
