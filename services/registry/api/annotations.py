"""HTTP: what people say of periods of a dataset, with a second pair of eyes where it is much."""

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.registry.api.replies import DATASET, Cursor, Limit, page_of
from services.registry.domain.annotations import State, Tag, approved, declined, lifted
from services.registry.handlers.annotations import MAY_AGREE, MAY_WRITE, Annotations, Wanted
from shared.access import Principal, see
from shared.errors import Fault, InvalidInput
from shared.events import DatasetAnnotated, Heard
from shared.http import allow
from shared.idempotency import once
from shared.names import ColumnNameText, DatasetNameText, ModelNameText

Writer = Annotated[Principal, Depends(allow(*MAY_WRITE))]
Second = Annotated[Principal, Depends(allow(*MAY_AGREE))]
Words = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00]*\S[^\x00]*$")]
MOST_MODELS = 100
MOST_EVIDENCE = 50
STEPS = {"approve": approved, "decline": declined, "lift": lifted}


class Annotating(BaseModel):
    """What a period is, and why.

    Without a tag or a period those of the monitor's `proposal`; without a column the one that
    models of the dataset call the row's moment; without models all that learn from the dataset.
    """

    model_config = ConfigDict(extra="forbid")

    tag: Tag | None = None
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None
    reason: Words
    column: ColumnNameText | None = None
    models: list[ModelNameText] = Field(default_factory=list, max_length=MOST_MODELS)
    evidence: list[UUID] = Field(default_factory=list, max_length=MOST_EVIDENCE)
    proposal: UUID | None = None

    def wanted(self) -> Wanted:
        """As the handler takes it."""
        return Wanted(
            tag=self.tag,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            reason=self.reason,
            column=self.column,
            models=tuple(self.models),
            evidence=tuple(self.evidence),
            proposal=self.proposal,
        )


class Saying(BaseModel):
    """Why it is approved, declined or lifted."""

    model_config = ConfigDict(extra="forbid")

    reason: Words


def router(annotations: Annotations) -> APIRouter:
    """The routes about periods; before those of datasets, because a name may hold slashes."""
    routes = APIRouter(tags=["annotations"], dependencies=[Depends(allow())])
    store = annotations.store

    @routes.get(f"{DATASET}/annotations", operation_id="list_annotations")
    async def every(
        request: Request,
        name: DatasetNameText,
        state: State | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        """What was said, newest first; on the first page also what the monitor proposes."""
        owner = await store.owners.dataset(name)
        see(request.state.principal, owner, "There is no such dataset.")
        found = await store.annotations.of(
            name, states=[state] if state else [], before=_place(cursor), limit=limit
        )
        items: list[dict[str, Any]] = [asdict(one) for one in found]
        if cursor is None and state in (None, "proposed"):
            told = await store.annotations.proposals(name, limit)
            items = [{**one, "state": "suggested", "author": "tidewheel"} for one in told] + items
        following = found[-1].annotation if len(found) == limit else None
        return page_of(request, items, following)

    @routes.post(f"{DATASET}/annotations", operation_id="annotate", status_code=201)
    async def write(
        request: Request, name: DatasetNameText, principal: Writer, asked: Annotating
    ) -> Response:
        """Say what a period is; above a twentieth of the rows a second person must approve."""
        prepared = await annotations.prepare(name, asked.wanted(), principal)

        async def action() -> tuple[int, Any]:
            return 201, _said(await annotations.write(prepared))

        return await once(request, store.database, principal, action)

    for verb, step in STEPS.items():
        _add_step(routes, annotations, verb, step)
    return routes


def _add_step(routes: APIRouter, annotations: Annotations, verb: str, step: Any) -> None:
    @routes.post(
        f"{DATASET}/annotations/{{annotation}}/{verb}",
        operation_id=f"{verb}_annotation",
    )
    async def change(
        request: Request, name: DatasetNameText, annotation: UUID, principal: Second, asked: Saying
    ) -> Response:
        """Agree as the second person, refuse to, or end it."""

        async def action() -> tuple[int, Any]:
            said = await annotations.change(name, annotation, principal, asked.reason, step)
            return 200, _said(said)

        return await once(request, annotations.store.database, principal, action)


def _said(heard: Heard[DatasetAnnotated]) -> dict[str, Any]:
    return {**asdict(heard.event), "event_id": heard.id}


def _place(cursor: str | None) -> UUID | None:
    if not cursor:
        return None
    try:
        return UUID(cursor)
    except ValueError as error:
        fault = Fault("/query/cursor", "not a cursor", "leave it out to begin anew")
        raise InvalidInput("This cursor was not given by this list.", [fault]) from error
