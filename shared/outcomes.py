"""How the story of a dataset version ends for a model: one outcome per pair, from facts alone.

Every fact claims a state with a weight. The heaviest claim is the outcome. Among equals the newest
counts while the story goes on, and the earliest once it has ended; so facts may be folded in any
order and more than once.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from shared import codec
from shared.errors import TidewheelError
from shared.events import (
    ApprovalGranted,
    ApprovalRequested,
    ApprovalWithdrawn,
    BestAsked,
    CandidateSuperseded,
    DatasetPublished,
    EvaluationCompleted,
    Event,
    EventParked,
    Heard,
    ModelDefined,
    ModelPromoted,
    ModelRegistered,
    RolloutAborted,
    RolloutAdvanced,
    RolloutProposed,
    RolloutSuperseded,
    TrainingCompleted,
    TrainingFailed,
    TrainingSkipped,
    TrainingStarted,
    WindowAwaited,
    WindowOverridden,
)


class State(StrEnum):
    """Where a pair stands; all but the first are terminal outcomes."""

    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    DEAD_LETTERED = "dead_lettered"
    WITHHELD = "withheld"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"
    ABORTED = "aborted"
    PROMOTED = "promoted"


TERMINAL: Final = frozenset(State) - {State.IN_PROGRESS}

_ENDS: Final[Mapping[State, int]] = {
    # How far an attempt came. A later attempt on the same data counts when it came further.
    State.DEAD_LETTERED: 1_000,
    State.WITHHELD: 1_100,
    State.FAILED: 1_200,
    State.SUPERSEDED: 1_300,
    State.REJECTED: 1_400,
    State.ABORTED: 1_500,
    State.PROMOTED: 1_600,
}
FIRST_END: Final = 1_000
"""From this weight on a claim ends the story."""

_ROLLOUT_WEIGHT: Final = 60
"""Of every fact between a rollout's proposal and its end: it may wait, go on and wait again."""

_JUDGED_AGAIN_WEIGHT: Final = 1_250
"""An abort because the champion is another by now: the candidate is judged again."""
_JUDGED_AGAIN: Final = frozenset({"stale_verdict", "champion_changed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one fact says about one pair, or about all models of a dataset version.

    Attributes:
        model: None for every model that is defined on the dataset at that time.
        dataset, dataset_version: None where the fact names the model's version instead.
        version: of the model.
    """

    state: State
    weight: int
    detail: str
    model: str | None
    dataset: str | None = None
    dataset_version: int | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where a pair stands, since when, and by which event."""

    dataset: str
    dataset_version: int
    model: str
    state: State
    detail: str
    at: datetime
    event_id: UUID

    @property
    def is_terminal(self) -> bool:
        """Whether the story has come to an end; waiting for a person or a window is one."""
        return self.state in TERMINAL


def claim_of(event: Event) -> Claim | None:
    """What an event claims; most claim nothing."""
    match event:
        case DatasetPublished(dataset=dataset, version=version):
            return Claim(
                state=State.IN_PROGRESS,
                weight=0,
                detail="published",
                model=None,
                dataset=dataset,
                dataset_version=version,
            )
        case TrainingStarted() | TrainingCompleted() | TrainingFailed() | TrainingSkipped():
            return _of_training(event)
        case CandidateSuperseded(by_version=newer):
            detail = f"version {newer} was trained on newer data"
            return _of_data(event, State.SUPERSEDED, _ENDS[State.SUPERSEDED], detail)
        case ModelRegistered(version=version):
            return _of_data(event, State.IN_PROGRESS, 30, f"registered as version {version}")
        case EvaluationCompleted(best=BestAsked()):
            # Somebody asked whether it is the best of several; what its own data led to stands.
            return None
        case EvaluationCompleted():
            return _of_verdict(event)
        case EventParked():
            return _of_parked(event)
        case _:
            return _of_rollout(event)


def _of_data(
    event: TrainingStarted
    | TrainingCompleted
    | TrainingFailed
    | TrainingSkipped
    | CandidateSuperseded
    | ModelRegistered
    | EvaluationCompleted,
    state: State,
    weight: int,
    detail: str,
) -> Claim:
    return Claim(
        state=state,
        weight=weight,
        detail=detail,
        model=event.model,
        dataset=event.dataset,
        dataset_version=event.dataset_version,
    )


def _of_training(
    event: TrainingStarted | TrainingCompleted | TrainingFailed | TrainingSkipped,
) -> Claim:
    match event:
        case TrainingStarted(attempt=attempt):
            return _of_data(event, State.IN_PROGRESS, 10, f"training, attempt {attempt}")
        case TrainingCompleted():
            return _of_data(event, State.IN_PROGRESS, 20, "trained")
        case TrainingFailed(reason=reason, detail=detail):
            return _of_data(event, State.FAILED, _ENDS[State.FAILED], f"{reason}: {detail}")
        case TrainingSkipped(reason=reason, detail=detail):
            state = State.SUPERSEDED if reason == "superseded" else State.WITHHELD
            return _of_data(event, state, _ENDS[state], f"{reason}: {detail}")


def _of_verdict(event: EvaluationCompleted) -> Claim:
    if event.accepted:
        return _of_data(event, State.IN_PROGRESS, 40, "accepted")
    return _of_data(event, State.REJECTED, _ENDS[State.REJECTED], event.reason)


def _of_rollout(event: Event) -> Claim | None:
    """Facts of the rollout know the model's version, not the data's."""
    match event:
        case RolloutSuperseded(by_version=newer):
            state, weight = State.SUPERSEDED, _ENDS[State.SUPERSEDED]
            detail = f"version {newer} took its place"
        case RolloutAborted(reason=reason, detail=why):
            state, detail = State.ABORTED, f"{reason}: {why}"
            weight = _JUDGED_AGAIN_WEIGHT if reason in _JUDGED_AGAIN else _ENDS[State.ABORTED]
        case ModelPromoted(generation=generation):
            state, weight = State.PROMOTED, _ENDS[State.PROMOTED]
            detail = f"champion from generation {generation}"
        case _:
            return _of_progress(event)
    return Claim(
        state=state, weight=weight, detail=detail, model=event.model, version=event.version
    )


def _of_progress(event: Event) -> Claim | None:
    """On the way: going on, or waiting for a person, a window, the end of a freeze, an event."""
    weight = _ROLLOUT_WEIGHT
    match event:
        case RolloutProposed():
            state, weight, detail = State.IN_PROGRESS, _ROLLOUT_WEIGHT - 10, "rollout proposed"
        case ApprovalRequested(needed=needed):
            who = "approval" if needed == 1 else f"approval of {needed} people"
            state, detail = State.WAITING, who
        case ApprovalGranted(by=by, missing=0):
            state, detail = State.IN_PROGRESS, f"approved by {by}"
        case ApprovalGranted(by=by, missing=missing):
            state, detail = State.WAITING, f"approved by {by}, {missing} more needed"
        case ApprovalWithdrawn(by=by, missing=missing):
            state, detail = State.WAITING, f"{by} took the approval back, {missing} more needed"
        case WindowAwaited(opens_at=opens_at, reason=why):
            moment = opens_at.isoformat() if opens_at else "an event"
            state, detail = State.WAITING, f"{why or 'window'}: opens at {moment}"
        case WindowOverridden(by=by, reason=why):
            state, detail = State.IN_PROGRESS, f"{by} broke the glass: {why}"
        case RolloutAdvanced(stage=stage, weight=share):
            state, detail = State.IN_PROGRESS, f"{stage} at {share:g}"
        case _:
            return None
    return Claim(
        state=state, weight=weight, detail=detail, model=event.model, version=event.version
    )


_CARRIED_ON_BY: Final = {
    DatasetPublished: "trainer",
    TrainingCompleted: "registry",
    ModelRegistered: "evaluator",
    EvaluationCompleted: "deployer",
}
"""Whose work moves the cascade on after an event; parked elsewhere it stops nothing."""


def _of_parked(event: EventParked) -> Claim | None:
    """The pair stops where the event that carries it on was set aside."""
    try:
        inner = codec.decode(
            base64.b64decode(event.payload),
            [(name, value.encode()) for name, value in event.headers.items()],
        ).event
    except (TidewheelError, ValueError):
        return None
    if _CARRIED_ON_BY.get(type(inner)) != event.service:
        return None
    claim = claim_of(inner)
    if claim is None or claim.state in TERMINAL:
        return None
    return Claim(
        state=State.DEAD_LETTERED,
        weight=_ENDS[State.DEAD_LETTERED],
        detail=f"{event.event} was set aside by {event.service}: {event.reason}"[:500],
        model=claim.model,
        dataset=claim.dataset,
        dataset_version=claim.dataset_version,
    )


def outcomes(log: Iterable[Heard[Event]]) -> list[Outcome]:
    """The outcome of every pair that the log tells of, ordered by dataset, version and model.

    A dataset version concerns the models defined on it before it was published, and those that a
    later fact names with it.
    """
    heards = sorted(log, key=lambda heard: (heard.time, str(heard.id)))
    fold = _Fold()
    for heard in heards:
        fold.learn(heard.event)
    for heard in heards:
        fold.claim(heard)
    return sorted(
        (outcome for _, outcome in fold.best.values()),
        key=lambda outcome: (outcome.dataset, outcome.dataset_version, outcome.model),
    )


@dataclass(slots=True)
class _Fold:
    """What is known on the way through a log."""

    defined: dict[str, str] = field(default_factory=dict)
    data_of: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    best: dict[tuple[str, int, str], tuple[int, Outcome]] = field(default_factory=dict)

    def learn(self, event: Event) -> None:
        """Which data a model's version was trained on: needed whatever the order."""
        if isinstance(event, ModelRegistered):
            self.data_of[event.model, event.version] = (event.dataset, event.dataset_version)

    def claim(self, heard: Heard[Event]) -> None:
        """Weigh one fact against what is known."""
        if isinstance(heard.event, ModelDefined):
            self.defined[heard.event.model] = heard.event.dataset
        claim = claim_of(heard.event)
        if claim is None:
            return
        for model, dataset, version in self._pairs(claim):
            outcome = Outcome(
                dataset=dataset,
                dataset_version=version,
                model=model,
                state=claim.state,
                detail=claim.detail,
                at=heard.time,
                event_id=heard.id,
            )
            known = self.best.get((dataset, version, model))
            # Of equal claims the later one counts while the story goes on: facts come in order.
            ongoing = claim.weight < FIRST_END
            if known is None or (claim.weight, ongoing) > (known[0], False):
                self.best[dataset, version, model] = (claim.weight, outcome)

    def _pairs(self, claim: Claim) -> Iterator[tuple[str, str, int]]:
        data = (claim.dataset, claim.dataset_version)
        if claim.model is not None and claim.version is not None:
            data = self.data_of.get((claim.model, claim.version), (None, None))
        dataset, version = data
        if dataset is None or version is None:
            return
        if claim.model is not None:
            yield claim.model, dataset, version
            return
        for model, fed_by in self.defined.items():
            if fed_by == dataset:
                yield model, dataset, version
