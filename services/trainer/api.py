"""HTTP: ask for a training, see what became of runs."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from services.trainer.handlers import Outcome, Trainer
from services.trainer.paging import cursor_of, read_cursor
from services.trainer.store import PostgresStore
from shared.access import Principal, Role, act
from shared.errors import NotFound
from shared.events import Json, ModelName
from shared.http import Json as JsonResponse
from shared.http import allow, page
from shared.idempotency import once
from shared.names import ModelNameText

Looking = Annotated[
    Principal,
    Depends(allow(Role.VIEWER, Role.DATA_SCIENTIST, Role.APPROVER, Role.OPERATOR, Role.AUDITOR)),
]
MAY_TRAIN: Final = frozenset({Role.DATA_SCIENTIST, Role.OPERATOR})
Scientist = Annotated[Principal, Depends(allow(*MAY_TRAIN))]
Limit = Annotated[int, Query(ge=1, le=1000)]


def router(store: PostgresStore, trainer: Trainer) -> APIRouter:
    """The routes of the trainer."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/models/{model}/train")
    async def train(model: ModelNameText, request: Request, principal: Scientist) -> Response:
        owner = await store.owner(model)
        act(principal, owner, MAY_TRAIN, f"There is no model {model}.")

        async def action() -> tuple[int, Json]:
            return 202, _outcome(await trainer.train(ModelName(model), principal.name))

        return await once(request, store.database, principal, action)

    @routes.get("/runs")
    async def runs(
        principal: Looking, model: ModelNameText | None = None, limit: Limit = 100, cursor: str = ""
    ) -> Response:
        before = read_cursor(cursor) if cursor else None
        found = await store.runs(
            model=model or "", before=before, limit=limit, owners=principal.visible
        )
        last = cursor_of(found[-1]["queued_at"], found[-1]["run"]) if len(found) == limit else None
        return JsonResponse(page(found, last))

    @routes.get("/runs/{run}")
    async def one_run(run: UUID, principal: Looking) -> Response:
        found = await store.run(run)
        if found is None or not principal.may_see(await store.owner(found["model"]) or ""):
            raise NotFound(f"There is no run {run}.")
        return JsonResponse(found)

    return routes


def _outcome(outcome: Outcome) -> dict[str, Any]:
    if outcome.skipped is not None:
        return {
            "run": None,
            "skipped": outcome.skipped.reason,
            "detail": outcome.skipped.detail,
            "dataset_version": outcome.skipped.dataset_version,
        }
    return {"run": outcome.run, "skipped": None, "joined": outcome.joined}
