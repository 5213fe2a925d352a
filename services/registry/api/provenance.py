"""Where the answers of a version came from."""

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from services.registry.api.audit import Moment, aware
from services.registry.api.production import step_of, verdict_of
from services.registry.api.replies import LARGEST_INTEGER
from services.registry.provenance import Origin, approvers, role_of, since, story, strategy
from services.registry.store import Store
from shared.access import Principal, Role, see
from shared.artifacts import ArtifactStore
from shared.clock import Clock
from shared.errors import NotFound, TidewheelError
from shared.events import DatasetAnnotated, Digest, Heard
from shared.http import Json, allow
from shared.names import ModelNameText

Reader = Annotated[Principal, Depends(allow())]
Number = Annotated[int | None, Query(ge=1, le=LARGEST_INTEGER)]
_TRAINED: Final = (
    "run", "attempt", "trigger", "requested_by", "use", "hyperparameters", "seed",
    "rows_trained", "rows_held_out", "rows_left_out", "metrics", "split", "exclusions_digest",
)  # fmt: skip


def router(store: Store, artifacts: ArtifactStore, now: Clock) -> APIRouter:
    """The route of one model's origins."""
    routes = APIRouter(tags=["models"])

    @routes.get("/v1/models/{name}/provenance", operation_id="get_provenance")
    async def provenance(
        name: ModelNameText,
        principal: Reader,
        at: Moment = None,
        version: Number = None,
        generation: Number = None,
    ) -> Response:
        """What an answer of this version rests on; without a version, an answer of the rule."""
        definition = await store.models.definition(name)
        owner = str(definition.spec["owner"]) if definition else None
        see(principal, owner, "There is no such model.")
        moment = aware(at) or now()
        origin = await store.origins.of(name, version, moment, generation)
        if version is not None and origin.registered is None:
            raise NotFound("There is no such version of this model.")
        exact = principal.may_in(owner or "", frozenset({Role.AUDITOR}))
        period = await _period(artifacts, origin)
        return Json(
            {
                "model": name,
                "version": version,
                "at": moment,
                "role": role_of(origin, version, moment),
                "story": story(origin),
                "since_then": since(origin),
                "data": _data(origin, period),
                "code": _code(origin),
                "training": _training(origin),
                "verdict": verdict_of(origin.verdict, exact=exact),
                "rollout": _rollout(origin),
                "deployment": _deployment(origin),
            }
        )

    return routes


def _data(origin: Origin, period: dict[str, Any] | None) -> dict[str, Any] | None:
    if origin.registered is None:
        return None
    made, published = origin.registered.event, origin.published
    return {
        "dataset": made.dataset,
        "version": made.dataset_version,
        "digest": made.dataset_digest,
        "rows": published.event.rows if published else None,
        "published_by": published.event.published_by if published else None,
        "published_at": published.time if published else None,
        "event_id": published.id if published else None,
        "period": period,
        "left_out": [_annotation(one) for one in origin.annotations],
    }


def _annotation(heard: Heard[DatasetAnnotated]) -> dict[str, Any]:
    event = heard.event
    return {
        "annotation": event.annotation,
        "tag": event.tag,
        "from": event.starts_at,
        "to": event.ends_at,
        "author": event.author,
        "reason": event.reason,
        "event_id": heard.id,
    }


def _code(origin: Origin) -> dict[str, Any] | None:
    if origin.registered is None:
        return None
    made = origin.registered.event
    return {
        "code_digest": made.code_digest,
        "spec_digest": made.spec_digest,
        "authors": dict(made.authors),
    }


def _training(origin: Origin) -> dict[str, Any] | None:
    if origin.trained is None or origin.registered is None:
        return None
    event = origin.trained.event
    return {
        **{name: getattr(event, name) for name in _TRAINED},
        "manifest": event.manifest,
        "completed_at": origin.trained.time,
        "completed": origin.trained.id,
        "registered": origin.registered.id,
        "cascade": origin.registered.correlation,
    }


def _rollout(origin: Origin) -> dict[str, Any] | None:
    if not origin.rollout:
        return None
    return {
        "strategy": strategy(origin),
        "approved_by": approvers(origin),
        "steps": [step_of(heard) for heard in origin.rollout],
    }


def _deployment(origin: Origin) -> dict[str, Any] | None:
    if origin.desired is None:
        return None
    event = origin.desired.event
    return {
        "generation": event.generation,
        "arms": event.arms,
        "ladder": event.ladder,
        "desired_at": origin.desired.time,
        "event_id": origin.desired.id,
    }


async def _period(artifacts: ArtifactStore, origin: Origin) -> dict[str, Any] | None:
    """First and last moment of the rows, from the file's profile; None where no column tells it."""
    made, published = origin.registered, origin.published
    column = ((made.event.spec.get("data") or {}).get("time")) if made else None
    if published is None or column is None:
        return None
    try:
        profile = orjson.loads(await artifacts.aget(Digest(published.event.profile)))
    except (TidewheelError, ValueError):
        return None
    found = next((one for one in profile["columns"] if one["name"] == column), None)
    if found is None:
        return None
    return {"column": column, "from": found["minimum"], "to": found["maximum"]}
