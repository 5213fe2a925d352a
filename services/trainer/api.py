"""HTTP: ask for a training, see what became of runs."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from services.trainer.handlers import Outcome, Trainer
from services.trainer.store import PostgresStore
from shared.access import Principal, Role, act
from shared.errors import Fault, InvalidInput, NotFound
from shared.events import Json, ModelName
from shared.http import Json as JsonResponse
from shared.http import allow, page
from shared.idempotency import once

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
    async def train(model: str, request: Request, principal: Scientist) -> Response:
        owner = await store.owner(_text(model))
        act(principal, owner, MAY_TRAIN, f"There is no model {model}.")

        async def action() -> tuple[int, Json]:
            return 202, _outcome(await trainer.train(ModelName(_text(model)), principal.name))

        return await once(request, store.database, principal, action)

    @routes.get("/runs")
    async def runs(
        principal: Looking, model: str = "", limit: Limit = 100, cursor: str = ""
    ) -> Response:
        before = _read_cursor(cursor) if cursor else None
        found = await store.runs(
            model=_text(model), before=before, limit=limit, owners=principal.visible
        )
        last = _cursor(found[-1]) if len(found) == limit else None
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


def _text(value: str) -> str:
    if "\0" in value:
        raise InvalidInput(
            "Names hold no control characters.", [Fault("/path", "control character")]
        )
    return value


def _cursor(run: Json) -> str:
    queued: datetime = run["queued_at"]
    return f"{queued.isoformat()}_{run['run']}"


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    moment, _, run = cursor.partition("_")
    try:
        # A plus sign arrives as a space where it was not escaped.
        return datetime.fromisoformat(moment.replace(" ", "+")).astimezone(UTC), UUID(run)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            "This cursor was not given by this list.",
            [Fault("/query/cursor", "not a cursor", "leave it out to begin anew")],
        ) from error
