"""HTTP: what was decided and why, the same again, by other rules, and requests of people."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.evaluator.domain import is_retired
from services.evaluator.handlers import MAY_ASK, must_judge
from services.evaluator.replaying import Again, read_backtest
from services.evaluator.store import PostgresStore
from services.evaluator.telling import plain
from shared import telemetry
from shared.access import Principal, Role, act, see
from shared.artifacts import ArtifactStore
from shared.clock import Clock
from shared.coarse import coarse
from shared.errors import Conflict, Fault, InvalidInput, NotFound, Unavailable
from shared.events import AnchorRetired, BestAsked, EvaluationCompleted, Heard, Json, ModelName
from shared.http import allow, page
from shared.idempotency import once
from shared.ids import uuid7
from shared.names import ModelNameText
from shared.postgres import Cause
from shared.spec_gate import check_metric

Reader = Annotated[
    Principal,
    Depends(allow(Role.VIEWER, Role.DATA_SCIENTIST, Role.APPROVER, Role.OPERATOR, Role.AUDITOR)),
]
EXACT: Final = frozenset({Role.AUDITOR})
"""Who sees every digit while held-out rows still judge; and admins."""
MAY_RETIRE: Final = frozenset({Role.OPERATOR})
Operator = Annotated[Principal, Depends(allow(*MAY_RETIRE))]
Asker = Annotated[Principal, Depends(allow(*MAY_ASK))]
Judge = Annotated[
    Principal, Depends(allow(Role.DATA_SCIENTIST, Role.APPROVER, Role.OPERATOR, Role.AUDITOR))
]
Limit = Annotated[int, Query(ge=1, le=1000)]
Words = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
"""The database keeps no text with zero characters."""
_NEWEST: Final = 2**62
_PAGE_HEADERS: Final = {
    # A page of ours, yet opened from a disk or in a frame it may do nothing.
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:"
}


class Retirement(BaseModel):
    """Why an anchor counts no more."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[Words, Field(min_length=1)]


class BestWanted(BaseModel):
    """By which metric the best registered version is looked for, and why."""

    model_config = ConfigDict(extra="forbid")

    metric: Annotated[str, AfterValidator(check_metric)]
    reason: Words = ""


def router(store: PostgresStore, artifacts: ArtifactStore, again: Again, now: Clock) -> APIRouter:
    """The routes of the evaluator."""
    routes = APIRouter(prefix="/v1")
    _add_verdicts(routes, store, again)
    _add_records(routes, store, artifacts)
    _add_requests(routes, store, now)
    return routes


def _add_verdicts(routes: APIRouter, store: PostgresStore, again: Again) -> None:
    """What was decided, and the same once more."""
    views = _Views(store)

    @routes.get("/models/{model}/verdicts")
    async def verdicts(
        model: ModelNameText, who: Reader, limit: Limit = 100, cursor: str = ""
    ) -> dict[str, Any]:
        see(who, await store.owner(model))
        found = await store.verdicts(model, below=_below(cursor), limit=limit)
        last = str(found[-1].sequence) if len(found) == limit else None
        return page([await views.shown(one, who) for one in found], last)

    @routes.get("/verdicts/{event_id}")
    async def verdict(event_id: UUID, who: Reader) -> Json:
        return await views.shown(await views.visible(event_id, who), who)

    @routes.post("/verdicts/{event_id}/replay")
    async def replay(event_id: UUID, who: Reader) -> Json:
        heard = await views.visible(event_id, who)
        found = await again.replay(heard)
        if found["differences"] and not await views.is_exact(heard.event, who):
            found["differences"] = [{"field": one["field"]} for one in found["differences"]]
        return found

    @routes.post("/backtests")
    async def backtest(who: Judge, body: Annotated[Any, Body()] = None) -> Response:
        asked = read_backtest({} if body is None else body)
        if asked.model is not None:
            see(who, await store.owner(asked.model))
        lines = _lines(again.backtest(asked, who.visible))
        return StreamingResponse(lines, media_type="application/x-ndjson")


def _add_records(routes: APIRouter, store: PostgresStore, artifacts: ArtifactStore) -> None:
    """Cards and anchors."""

    @routes.get("/models/{model}/versions/{version}/card")
    async def card(
        model: ModelNameText, version: int, who: Reader, format: Literal["md", "html"] = "html"
    ) -> Response:
        see(who, await store.owner(model))
        digests = await store.cards(model, version) if 0 < version < _NEWEST else None
        if digests is None:
            raise NotFound(f"Version {version} of {model} has no card; it has none before it is "
                           "judged on held-out rows.")  # fmt: skip
        data = await artifacts.aget(digests[0] if format == "md" else digests[1])
        media = "text/markdown" if format == "md" else "text/html"
        name = f'attachment; filename="{model}-{version}.{format}"'
        headers = {"Content-Disposition": name, **(_PAGE_HEADERS if format == "html" else {})}
        return Response(data, media_type=f"{media}; charset=utf-8", headers=headers)

    @routes.get("/models/{model}/anchor")
    async def anchor(model: ModelNameText, who: Reader) -> Json:
        see(who, await store.owner(model))
        history = await store.anchors(model)
        present = next((one for one in history if one["retired_at"] is None), None)
        return {"model": model, "anchor": present, "history": history}


def _add_requests(routes: APIRouter, store: PostgresStore, now: Clock) -> None:
    """What people may ask for."""

    @routes.post("/models/{model}/anchor/retire")
    async def retire(
        model: ModelNameText, why: Retirement, request: Request, who: Operator
    ) -> Response:
        act(who, await store.owner(model), MAY_RETIRE)

        async def action() -> tuple[int, Any]:
            return 200, await _retire(store, ModelName(model), who.name, why.reason, now)

        return await once(request, store.database, who, action)

    @routes.post("/models/{model}/best")
    async def best(
        model: ModelNameText, wanted: BestWanted, request: Request, who: Asker
    ) -> Response:
        act(who, await store.owner(model), MAY_ASK)
        must_judge(wanted.metric, await store.newest(ModelName(model), 1))
        asked = BestAsked(by=who.name, metric=wanted.metric, reason=wanted.reason, ranking=())

        async def action() -> tuple[int, Any]:
            job = await store.queue_best(ModelName(model), asked, str(uuid7()), Cause.outside())
            if job is None:
                raise NotFound(f"{model} has no registered version.")
            return 202, {"model": model, "metric": asked.metric, "job": job}

        return await once(request, store.database, who, action)


class _Views:
    """What a reader is shown of a verdict."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    async def visible(self, event_id: UUID, who: Principal) -> Heard[EvaluationCompleted]:
        """One verdict, if the reader may see its model."""
        heard = await self._store.said(event_id)
        detail = f"No verdict has the id {event_id}."
        see(who, await self._store.owner(heard.event.model) if heard else None, detail)
        if heard is None:
            raise NotFound(detail)
        return heard

    async def shown(self, heard: Heard[EvaluationCompleted], who: Principal) -> Json:
        """Its fields; rounded while its rows still judge, but for auditors."""
        exact = await self.is_exact(heard.event, who)
        fields = plain(heard.event)
        return {
            "event_id": heard.id,
            "sequence": heard.sequence,
            "judged_at": heard.time,
            "cascade": heard.correlation,
            "rounded": not exact,
            **(fields if exact else coarse(fields)),
        }

    async def is_exact(self, event: EvaluationCompleted, who: Principal) -> bool:
        """Whether this reader may know every digit of this verdict."""
        owner = await self._store.owner(event.model)
        if event.evidence is None or who.may_in(owner or "", EXACT):
            return True
        newest = await self._store.newest_split(event.model)
        return is_retired(event, newest, await self._store.uses(event.model, event.split))


async def _retire(store: PostgresStore, model: ModelName, by: str, reason: str, now: Clock) -> Json:
    """Within one transaction: the anchor goes, the champion is the next one."""
    champion = await store.locked_champion(model)
    anchor = await store.anchor(model)
    if champion is None or anchor is None:
        raise Conflict(f"{model} has no anchor; its first champion will be one.")
    if anchor.version == champion.version:
        raise Conflict(
            f"Version {anchor.version}, the anchor of {model}, is its champion; roll it back "
            "instead."
        )
    await store.retire_anchors(model, by, reason, now())
    await store.set_anchor(model, champion.version, champion.manifest, now())
    async with store.database.transaction() as transaction:
        retired = AnchorRetired(model=model, version=anchor.version, by=by, reason=reason)
        await transaction.say([retired])
    return {"model": model, "retired": anchor.version, "anchor": champion.version}


async def _lines(told: AsyncIterator[Json]) -> AsyncIterator[bytes]:
    """One JSON document per line; what breaks off says so in its last line."""
    try:
        async for line in told:
            yield orjson.dumps(line, default=str) + b"\n"
    except Unavailable as error:
        telemetry.log("backtest_ended", level="warning", reason=str(error))
        yield orjson.dumps({"error": "a part of the system does not answer; ask again"}) + b"\n"


def _below(cursor: str) -> int:
    if not cursor:
        return _NEWEST
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise InvalidInput(
            "This cursor was not given by this list.",
            [Fault("/query/cursor", "not a cursor", "leave it out to begin anew")],
        )
    return int(cursor)
