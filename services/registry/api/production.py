"""What was in production at a moment."""

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends
from fastapi.responses import Response

from services.registry.api.audit import Moment, aware
from services.registry.lineage.narration import sentence
from services.registry.production import Approved, Intervention, Production, Proposed, production
from services.registry.store import Store
from shared import codec
from shared.access import Principal, Role, see
from shared.clock import Clock
from shared.coarse import coarse
from shared.events import EvaluationCompleted, Event, Heard
from shared.http import Json, allow
from shared.names import ModelNameText

_FIGURES: Final = (
    "accepted", "reason", "mode", "version", "champion", "anchor", "gates", "slices", "checks",
    "rows", "holdout_use", "dataset", "dataset_version", "evidence", "split", "manifest",
    "policy_digest", "card", "card_html", "engine", "best",
)  # fmt: skip
Reader = Annotated[Principal, Depends(allow())]


def router(store: Store, now: Clock) -> APIRouter:
    """The route of one model's history."""
    routes = APIRouter(tags=["models"])

    @routes.get("/v1/models/{name}/production", operation_id="get_production")
    async def at_moment(name: ModelNameText, principal: Reader, at: Moment = None) -> Response:
        """The champion at a moment: since when, by whose proposal and word, on which evidence."""
        definition = await store.models.definition(name)
        owner = str(definition.spec["owner"]) if definition else None
        see(principal, owner, "There is no such model.")
        moment = aware(at) or now()
        found = production(name, moment, await store.history.known(name, moment))
        exact = principal.may_in(owner or "", frozenset({Role.AUDITOR}))
        return Json(plain(found, exact=exact))

    return routes


def plain(found: Production, *, exact: bool) -> dict[str, Any]:
    """The answer for programs; `exact` shows every digit of the verdict."""
    return {
        "model": found.model,
        "at": found.at,
        "answering": found.answering,
        "sentence": found.sentence,
        "version": found.version,
        "manifest": found.manifest,
        "generation": found.generation,
        "since": found.since,
        "until": found.until,
        "came_by": found.came_by or None,
        "event_id": found.crowned,
        "steps": [step_of(heard) for heard in found.steps],
        "proposed": _proposed(found.proposed),
        "approval": found.approval or None,
        "approved": [_approved(one) for one in found.approved],
        "excluded": list(found.excluded),
        "verdict": verdict_of(found.verdict, exact=exact),
        "break_glass": _intervention(found.break_glass),
        "rollback": _intervention(found.rollback),
    }


def step_of(heard: Heard[Event]) -> dict[str, Any]:
    """One fact in words."""
    return {
        "time": heard.time,
        "type": heard.event.TYPE,
        "text": sentence(heard.event),
        "event_id": heard.id,
    }


def _proposed(one: Proposed | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "authors": dict(one.authors),
        "trigger": one.trigger,
        "requested_by": one.requested_by or None,
        "dataset": one.dataset,
        "dataset_version": one.dataset_version,
        "dataset_digest": one.dataset_digest,
        "code_digest": one.code_digest,
        "event_id": one.registered,
    }


def _approved(one: Approved) -> dict[str, Any]:
    return {"by": one.by, "time": one.at, "comment": one.comment, "event_id": one.event_id}


def _intervention(one: Intervention | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "by": one.by,
        "time": one.at,
        "reason": one.reason,
        "from_version": one.from_version,
        "event_id": one.event_id,
    }


def verdict_of(heard: Heard[EvaluationCompleted] | None, *, exact: bool) -> dict[str, Any] | None:
    """The figures of a verdict; `exact` shows every digit."""
    if heard is None:
        return None
    fields = orjson.loads(codec.encode(heard))["data"]
    shown = fields if exact else coarse(fields)
    told = {name: shown[name] for name in _FIGURES}
    return {"event_id": heard.id, "time": heard.time, **told}
