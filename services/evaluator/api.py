"""HTTP: what was decided and why."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from services.evaluator.store import PostgresStore
from shared.access import Role
from shared.errors import Fault, InvalidInput, NotFound
from shared.events import Json
from shared.http import allow, page

Reader = Depends(allow(Role.VIEWER, Role.DATA_SCIENTIST, Role.APPROVER, Role.AUDITOR))
Limit = Annotated[int, Query(ge=1, le=1000)]
_NEWEST = 2**62


def router(store: PostgresStore) -> APIRouter:
    """The routes of the evaluator."""
    routes = APIRouter(prefix="/v1", dependencies=[Reader])

    @routes.get("/models/{model}/verdicts")
    async def verdicts(model: str, limit: Limit = 100, cursor: str = "") -> dict[str, Any]:
        if "\0" in model:
            raise NotFound("There is no such model.")
        found = await store.verdicts(model, below=_below(cursor), limit=limit)
        return page(found, str(found[-1]["sequence"]) if len(found) == limit else None)

    @routes.get("/verdicts/{event_id}")
    async def verdict(event_id: UUID) -> Json:
        found = await store.verdict(event_id)
        if found is None:
            raise NotFound(f"No verdict has the id {event_id}.")
        return found

    return routes


def _below(cursor: str) -> int:
    if not cursor:
        return _NEWEST
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise InvalidInput(
            "This cursor was not given by this list.",
            [Fault("/query/cursor", "not a cursor", "leave it out to begin anew")],
        )
    return int(cursor)
