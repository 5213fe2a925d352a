"""Requests that other services decide: this door only says who asked, so that they can check.

It works while the deciding service is down: the request waits on the bus for a quarter of an hour.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.registry.handlers.requests import Requests, receipt
from shared.access import Principal, Role
from shared.events import (
    ApprovalGiven,
    BestRequested,
    Digest,
    ModelName,
    RollbackRequested,
    RolloutId,
)
from shared.http import allow
from shared.idempotency import once
from shared.names import ModelNameText
from shared.spec_gate import check_metric

Asker = Annotated[Principal, Depends(allow(Role.APPROVER, Role.OPERATOR, Role.DATA_SCIENTIST))]
Version = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
Words = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00]*$")]


class Approval(BaseModel):
    """An approval, or a denial, of the candidate that has exactly this manifest."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["approval"]
    model: ModelNameText
    rollout: UUID
    version: Version
    manifest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    granted: Annotated[bool, Field(strict=True)]
    comment: Words = ""
    evaluation: UUID | None = None

    def event(self, by: str) -> ApprovalGiven:
        """What is said of it."""
        return ApprovalGiven(
            model=ModelName(self.model),
            rollout=RolloutId(self.rollout),
            version=self.version,
            manifest=Digest(self.manifest),
            granted=self.granted,
            by=by,
            comment=self.comment,
            evaluation=self.evaluation,
        )


class Rollback(BaseModel):
    """A former champion is to answer again; the previous one when none is named."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["rollback"]
    model: ModelNameText
    reason: Annotated[Words, Field(min_length=1)]
    to: Version | None = None

    def event(self, by: str) -> RollbackRequested:
        """What is said of it."""
        model = ModelName(self.model)
        return RollbackRequested(model=model, by=by, reason=self.reason, to=self.to)


class Best(BaseModel):
    """The best registered version by this metric is to be rolled out."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["best"]
    model: ModelNameText
    metric: Annotated[str, AfterValidator(check_metric)]
    reason: Annotated[Words, Field(min_length=1)]

    def event(self, by: str) -> BestRequested:
        """What is said of it."""
        model = ModelName(self.model)
        return BestRequested(model=model, metric=self.metric, by=by, reason=self.reason)


Asked = Annotated[Approval | Rollback | Best, Body(discriminator="kind")]


def router(requests: Requests) -> APIRouter:
    """The route by which people speak on the bus."""
    routes = APIRouter(tags=["requests"])

    @routes.post("/v1/requests", operation_id="make_request", status_code=202)
    async def ask(request: Request, principal: Asker, asked: Asked) -> Response:
        """Say for the caller that it approves, denies, or asks for a version; others decide."""

        async def action() -> tuple[int, Any]:
            said = await requests.ask(asked.event(principal.name), principal)
            return 202, receipt(said)

        return await once(request, requests.store.database, principal, action)

    return routes
