"""Where an answer came from: the version's data, code, verdict and people, at the answer's moment.

Everything is taken from facts, so it can be told as long as the log lasts, also after the version
has been rolled back, superseded or forgotten by everybody who served it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar, cast

from services.registry.lineage.narration import sentence
from services.registry.production import Crowning
from shared.events import (
    ApprovalGranted,
    DatasetAnnotated,
    DatasetPublished,
    DeploymentDesired,
    DeploymentRolledBack,
    EvaluationCompleted,
    Event,
    Heard,
    ModelPromoted,
    ModelRegistered,
    RolloutProposed,
    TrainingCompleted,
    as_kind,
)

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The facts behind the answers of one version, or of the rule where there is no version.

    Attributes:
        trained: the run that the registered candidate came of.
        published: the dataset version that it learned from.
        annotations: by which rows were left out, as they stood at the training.
        verdict: that the rollout rests on; the last one before the moment if there was no rollout.
        rollout: every fact of the rollout that brought the version to people.
        desired: the state of the endpoint at the moment.
        later: who was champion afterwards, the next first.
    """

    registered: Heard[ModelRegistered] | None = None
    trained: Heard[TrainingCompleted] | None = None
    published: Heard[DatasetPublished] | None = None
    annotations: Sequence[Heard[DatasetAnnotated]] = ()
    verdict: Heard[EvaluationCompleted] | None = None
    rollout: Sequence[Heard[Event]] = ()
    desired: Heard[DeploymentDesired] | None = None
    later: Sequence[Heard[Crowning]] = ()


def story(origin: Origin) -> list[str]:
    """How the version came to answer, a sentence per fact, in the order of the facts."""
    facts: list[Heard[Event] | None] = [
        _plain(origin.published),
        *(_plain(one) for one in origin.annotations),
        _plain(origin.trained),
        _plain(origin.registered),
        _plain(origin.verdict),
        *origin.rollout,
    ]
    return [sentence(heard.event) for heard in facts if heard is not None]


def since(origin: Origin) -> list[str]:
    """What became of the endpoint after the moment."""
    return [_said(heard) for heard in origin.later]


def approvers(origin: Origin) -> list[str]:
    """Who allowed it: the people whom the promotion names, or, before one, who said yes so far."""
    promoted = first(origin.rollout, ModelPromoted)
    if promoted is not None:
        return list(promoted.event.approved_by)
    yes = [heard.event.by for heard in every(origin.rollout, ApprovalGranted)]
    return list(dict.fromkeys(yes))


def role_of(origin: Origin, version: int | None, at: datetime) -> str:
    """What the version was to the endpoint at the moment, in words."""
    if origin.desired is None:
        return "the log has no desired state of this endpoint at that moment"
    desired = origin.desired.event
    for arm in desired.arms:
        if arm.version == version:
            return f"{arm.role} with {arm.weight:.0%} of the requests, generation {_from(origin)}"
    for rung in desired.ladder:
        if rung.version == version:
            return f"on the ladder as {rung.kind}, generation {_from(origin)}"
    return f"not part of generation {_from(origin)}, which was desired at {at:%Y-%m-%d %H:%M:%S}"


def first(facts: Sequence[Heard[Event]], kind: type[E]) -> Heard[E] | None:
    """The first fact of a kind."""
    return next(iter(every(facts, kind)), None)


def every(facts: Sequence[Heard[Event]], kind: type[E]) -> list[Heard[E]]:
    """The facts of a kind, in order."""
    found = (as_kind(heard, kind) for heard in facts)
    return [heard for heard in found if heard is not None]


def strategy(origin: Origin) -> str:
    """How it was brought to people; empty where it never was."""
    proposed = first(origin.rollout, RolloutProposed)
    return proposed.event.strategy if proposed else ""


def _from(origin: Origin) -> int:
    return origin.desired.event.generation if origin.desired else 0


def _plain(heard: Heard[E] | None) -> Heard[Event] | None:
    return cast("Heard[Event] | None", heard)


def _said(heard: Heard[Crowning]) -> str:
    event = heard.event
    moment = f"{heard.time:%Y-%m-%d %H:%M:%S}"
    if isinstance(event, DeploymentRolledBack):
        to = f"version {event.to_version}" if event.to_version else "the baseline rule"
        return f"{moment}: {event.by} rolled back to {to}: {event.reason}."
    return f"{moment}: version {event.version} became champion."
