"""Files come in: by upload, streamed to disk, or by reference."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from services.registry.api.replies import DATASET
from services.registry.handlers import Intake, Receipt, Refusal
from services.registry.handlers.intake import Look
from services.registry.store.uploads import Arrived
from shared.access import Principal, Role
from shared.errors import Fault, InvalidInput, Refused, TooLarge, wrong_things
from shared.events import DatasetName, Digest, Reason
from shared.http import allow, problem
from shared.idempotency import once
from shared.names import DatasetNameText, ModelNameText
from shared.postgres import Cause, Database

UNLIMITED: Final = ("/versions",)
"""Paths whose bodies this file limits itself."""
_FILES: Final = frozenset(
    {
        "",
        "text/csv",
        "application/csv",
        "application/vnd.apache.parquet",
        "application/x-parquet",
        "application/octet-stream",
    }
)
_REFERENCE_BYTES: Final = 64_000

Uploader = Annotated[Principal, Depends(allow(Role.PRODUCER))]
Team = Annotated[ModelNameText | None, Query()]
Named = Annotated[Literal["csv", "parquet"] | None, Query(alias="format")]


class UnsupportedMedia(Refused):
    """The body is of a kind that is not taken here."""

    status = 415
    code = "unsupported_media_type"


class Reference(BaseModel):
    """A file that lies at a configured root."""

    model_config = ConfigDict(extra="forbid", strict=True)

    uri: str = Field(min_length=3, max_length=1200)
    format: Literal["csv", "parquet"] | None = None
    digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class Door:
    """Takes files in over HTTP."""

    intake: Intake
    database: Database
    seconds: float

    async def take(
        self, request: Request, dataset: DatasetName, principal: Principal, owner: str | None
    ) -> Response:
        """Receive, look, settle; the answer is a receipt or every reason."""
        team = await self.intake.registry.team_for(dataset, principal, owner)
        async with self._arriving(request) as arrived:
            look = await self.intake.look(dataset, arrived, offered_by=principal.name)
            return await self._settled(request, look, principal, team)

    def _arriving(self, request: Request) -> AbstractAsyncContextManager[Arrived | Reason]:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedMedia("Send the file itself, without Content-Encoding.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return _referred(self.intake, request)
        if kind not in _FILES:
            raise UnsupportedMedia(
                "Send text/csv, application/vnd.apache.parquet, or JSON with a reference."
            )
        return self.intake.uploads.receive(_chunks(request, self.seconds))

    async def _settled(
        self, request: Request, look: Look, principal: Principal, team: str
    ) -> Response:
        async def action() -> tuple[int, Any]:
            settled = await self.intake.settle(look, Cause.outside(), owner=team)
            return _reply(settled)

        identity = f"{request.url.path}\n{look.digest}".encode()
        response = await once(
            request,
            self.database,
            principal,
            action,
            body_hash=hashlib.sha256(identity).digest(),
        )
        return _as_problem(request, response) if response.status_code == 422 else response


def router(intake: Intake, database: Database, *, seconds: float) -> APIRouter:
    """The route by which files come in."""
    routes = APIRouter(tags=["datasets"])
    door = Door(intake, database, seconds)

    @routes.post(f"{DATASET}/versions", operation_id="publish_dataset_version")
    async def publish(
        request: Request,
        name: DatasetNameText,
        principal: Uploader,
        declared: Named = None,
        owner: Team = None,
    ) -> Response:
        """A new version from the body, or from the reference in it; the bytes decide the format.

        `owner` is the team that a new dataset belongs to; by default the only one in which the
        caller may publish.
        """
        _ = declared
        return await door.take(request, DatasetName(name), principal, owner)

    return routes


def _referred(intake: Intake, request: Request) -> AbstractAsyncContextManager[Arrived | Reason]:
    return _Referred(intake, request)


class _Referred(AbstractAsyncContextManager[Arrived | Reason]):
    """The body is read only once the block is entered."""

    def __init__(self, intake: Intake, request: Request) -> None:
        self._intake = intake
        self._request = request
        self._inner: AbstractAsyncContextManager[Arrived | Reason] | None = None

    async def __aenter__(self) -> Arrived | Reason:
        reference = await _reference(self._request)
        digest = Digest(reference.digest) if reference.digest else None
        self._inner = self._intake.fetched(reference.uri, digest)
        return await self._inner.__aenter__()

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._inner.__aexit__(*error) if self._inner else None


async def _reference(request: Request) -> Reference:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _REFERENCE_BYTES:
            raise TooLarge(f"A reference has at most {_REFERENCE_BYTES} bytes.")
    try:
        return Reference.model_validate_json(bytes(body))
    except ValidationError as error:
        faults = [
            Fault("".join(f"/{part}" for part in item["loc"]), item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise InvalidInput(wrong_things(faults), faults) from error


async def _chunks(request: Request, seconds: float) -> AsyncGenerator[bytes, None]:
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                yield chunk
    except TimeoutError as error:
        raise Refused("The file did not arrive in time.", code="upload_timeout") from error
    except ClientDisconnect as error:
        raise Refused("The sender left before the file was whole.", code="disconnected") from error


def _reply(settled: Receipt | Refusal) -> tuple[int, Any]:
    if isinstance(settled, Refusal):
        reasons = [(r.pointer, r.detail, r.hint) for r in settled.reasons]
        return 422, {
            "dataset": settled.dataset,
            "event_id": settled.event_id,
            "reasons": reasons,
        }
    return (201 if settled.created else 200), {
        "event_id": settled.event_id,
        "dataset": settled.dataset,
        "version": settled.version,
        "digest": settled.digest,
        "rows": settled.rows,
        "cascade": settled.cascade,
        "cascade_url": f"/v1/cascades/{settled.cascade}",
        "status_url": f"/v1/datasets/{settled.dataset}/versions/{settled.version}",
        "created": settled.created,
    }


def _as_problem(request: Request, response: Response) -> Response:
    """A refusal is kept like any answer, and told like any problem."""
    refused = orjson.loads(bytes(response.body))
    count = len(refused["reasons"])
    detail = (
        f"The file is no new version of {refused['dataset']}: {count} "
        f"reason{'s' if count != 1 else ''}. Event {refused['event_id']}."
    )
    faults = [Fault(*reason) for reason in refused["reasons"]]
    told = problem(
        request.state.request_id, request.url.path, 422, "dataset_refused", detail, faults
    )
    if "idempotency-replayed" in response.headers:
        told.headers["Idempotency-Replayed"] = "true"
    return told
