"""HTTP: ask for a batch of answers, see how far it is, fetch the file."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from services.trainer.batch.asking import Batches
from services.trainer.batch.store import BatchStore
from services.trainer.paging import cursor_of, read_cursor
from services.trainer.store import PostgresStore
from shared.access import Principal, Role, act
from shared.artifacts import ArtifactStore
from shared.errors import Conflict, NotFound
from shared.events import Digest, Json
from shared.http import Json as JsonResponse
from shared.http import allow, page
from shared.idempotency import once
from shared.names import DatasetNameText, ModelNameText

MAY_ASK: Final = frozenset({Role.DATA_SCIENTIST, Role.OPERATOR, Role.PREDICTOR})
Asker = Annotated[Principal, Depends(allow(*MAY_ASK))]
Limit = Annotated[int, Query(ge=1, le=1000)]
_MEDIA: Final = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_LARGEST: Final = 2**31 - 1


class Wanted(BaseModel):
    """Which version answers which rows; by default the champion, the newest of its own dataset."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(default=None, ge=1, le=_LARGEST)
    dataset: DatasetNameText | None = None
    dataset_version: int | None = Field(default=None, ge=1, le=_LARGEST)


def router(
    store: PostgresStore, asked: BatchStore, batches: Batches, artifacts: ArtifactStore
) -> APIRouter:
    """The routes of batches."""
    routes = APIRouter(prefix="/v1")
    routes.include_router(_asking(store, asked, batches))
    routes.include_router(_fetching(store, asked, artifacts))
    return routes


def _asking(store: PostgresStore, asked: BatchStore, batches: Batches) -> APIRouter:
    routes = APIRouter()

    @routes.post("/models/{model}/batches", status_code=202, operation_id="ask_batch")
    async def ask(
        model: ModelNameText, request: Request, principal: Asker, wanted: Wanted | None = None
    ) -> Response:
        """Every row of a dataset version is answered by one version, in a file."""
        owner = await store.owner(model)
        act(principal, owner, MAY_ASK, f"There is no model {model}.")
        choice = wanted or Wanted()

        async def action() -> tuple[int, Json]:
            dataset = choice.dataset or await asked.dataset_of(model)
            batch = await batches.ask(
                model, choice.version, dataset, choice.dataset_version, principal.name
            )
            return 202, {"batch": batch, "status_url": f"/v1/batches/{batch}"}

        return await once(request, store.database, principal, action)

    @routes.get("/models/{model}/batches", operation_id="list_batches")
    async def newest(
        model: ModelNameText, principal: Asker, limit: Limit = 100, cursor: str = ""
    ) -> Response:
        """The batches of a model, newest first."""
        owner = await store.owner(model)
        act(principal, owner, MAY_ASK, f"There is no model {model}.")
        before = read_cursor(cursor) if cursor else None
        found = await asked.newest(model, before, limit)
        last = found[-1] if len(found) == limit else None
        following = cursor_of(last["queued_at"], last["batch"]) if last else None
        return JsonResponse(page(list(found), following))

    return routes


def _fetching(store: PostgresStore, asked: BatchStore, artifacts: ArtifactStore) -> APIRouter:
    routes = APIRouter()

    @routes.get("/batches/{batch}", operation_id="get_batch")
    async def one(batch: UUID, principal: Asker) -> Response:
        """How far it is, or what came of it."""
        return JsonResponse(await _found(store, asked, batch, principal))

    @routes.get("/batches/{batch}/output", operation_id="get_batch_output")
    async def output(batch: UUID, principal: Asker) -> Response:
        """The file of answers, a row for every row of the dataset version, in its order."""
        found = await _found(store, asked, batch, principal)
        if found["output"] is None:
            raise Conflict(f"This batch is {found['state']}; its state is at /v1/batches/{batch}.")
        kind, size = found["format"], found["size_bytes"]
        name = f"{found['model']}-v{found['version']}-answers-{found['dataset_version']}.{kind}"
        return StreamingResponse(
            artifacts.stream(Digest(found["output"]), 0, size),
            headers={
                "Content-Disposition": f'attachment; filename="{name}"',
                "Content-Length": str(size),
                "ETag": f'"{found["output"]}"',
            },
            media_type=_MEDIA[kind],
        )

    return routes


async def _found(
    store: PostgresStore, asked: BatchStore, batch: UUID, principal: Principal
) -> Json:
    found = await asked.find(batch)
    unknown = f"There is no batch {batch}."
    if found is None:
        raise NotFound(unknown)
    act(principal, await store.owner(found["model"]), MAY_ASK, unknown)
    return found
