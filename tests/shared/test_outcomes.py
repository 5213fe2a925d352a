"""How stories end, whatever the order in which their facts come."""

import base64
import random
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest

from shared import codec
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
from shared.ids import derived
from shared.outcomes import Outcome, State, outcomes
from tests.support.schemas import example_of

E = TypeVar("E", bound=Event)
START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def an_event(kind: type[E], **changes: Any) -> E:
    """An event about pump, version 1, trained on version 1 of pumps, unless said otherwise."""
    known = {
        "model": "pump",
        "dataset": "pumps",
        "dataset_version": 1,
        "version": 1,
        "best": None,
    }
    names = kind.__dataclass_fields__
    facts = {name: getattr(example_of(kind).event, name) for name in names if name.islower()}
    return kind(**(facts | {k: v for k, v in known.items() if k in names} | changes))


def log_of(*events: Event) -> list[Heard[Event]]:
    """The events one second apart."""
    return [
        Heard(
            event=event,
            id=derived(None, "log", place, event.TYPE),
            source="//tidewheel/test",
            time=START + timedelta(seconds=place),
            correlation=UUID(int=1),
            sequence=1,
        )
        for place, event in enumerate(events)
    ]


BEST = BestAsked(by="vera", metric="mae", reason="", ranking=((1, None),))
DEFINED = an_event(ModelDefined)
PUBLISHED = an_event(DatasetPublished)
TRAINED = (an_event(TrainingStarted), an_event(TrainingCompleted))
REGISTERED = (*TRAINED, an_event(ModelRegistered))
ACCEPTED = (*REGISTERED, an_event(EvaluationCompleted, accepted=True))
PROPOSED = (*ACCEPTED, an_event(RolloutProposed))

STORIES: dict[str, tuple[tuple[Event, ...], State]] = {
    "published": ((), State.IN_PROGRESS),
    "trained": (TRAINED, State.IN_PROGRESS),
    "skipped": ((an_event(TrainingSkipped, reason="nothing_new"),), State.WITHHELD),
    "coalesced": ((an_event(TrainingSkipped, reason="superseded"),), State.SUPERSEDED),
    "failed": ((an_event(TrainingStarted), an_event(TrainingFailed)), State.FAILED),
    "late": ((*TRAINED, an_event(CandidateSuperseded)), State.SUPERSEDED),
    "rejected": ((*REGISTERED, an_event(EvaluationCompleted, accepted=False)), State.REJECTED),
    "waiting": ((*PROPOSED, an_event(ApprovalRequested)), State.WAITING),
    "approved": (
        (*PROPOSED, an_event(ApprovalRequested), an_event(ApprovalGranted, missing=0)),
        State.IN_PROGRESS,
    ),
    "approved by one of two": (
        (*PROPOSED, an_event(ApprovalRequested, needed=2), an_event(ApprovalGranted, missing=1)),
        State.WAITING,
    ),
    "an approval taken back": (
        (*PROPOSED, an_event(ApprovalGranted, missing=0), an_event(ApprovalWithdrawn, missing=1)),
        State.WAITING,
    ),
    "held back by a freeze in the middle of its canary": (
        (*PROPOSED, an_event(RolloutAdvanced, step=2), an_event(WindowAwaited)),
        State.WAITING,
    ),
    "let through by breaking the glass": (
        (*PROPOSED, an_event(WindowAwaited), an_event(WindowOverridden)),
        State.IN_PROGRESS,
    ),
    "going on after a wait": (
        (*PROPOSED, an_event(WindowAwaited), an_event(RolloutAdvanced, stage="shadow")),
        State.IN_PROGRESS,
    ),
    "not approved in time": (
        (*PROPOSED, an_event(ApprovalRequested), an_event(RolloutAborted, reason="expired")),
        State.ABORTED,
    ),
    "harmful up to its cap": (
        (*PROPOSED, an_event(RolloutAborted, reason="cap_reached")),
        State.ABORTED,
    ),
    "an experiment that is over": (
        (
            *PROPOSED,
            an_event(RolloutAdvanced, stage="experiment"),
            an_event(RolloutAborted, reason="experiment_over"),
        ),
        State.ABORTED,
    ),
    "judged again against another champion": (
        (
            *PROPOSED,
            an_event(RolloutAborted, reason="champion_changed"),
            an_event(EvaluationCompleted, accepted=False),
        ),
        State.REJECTED,
    ),
    "aborted": ((*PROPOSED, an_event(RolloutAborted, reason="worse")), State.ABORTED),
    "overtaken": ((*PROPOSED, an_event(RolloutSuperseded)), State.SUPERSEDED),
    "promoted": ((*PROPOSED, an_event(RolloutAdvanced), an_event(ModelPromoted)), State.PROMOTED),
    "judged again": (
        (
            *PROPOSED,
            an_event(RolloutAborted, reason="stale_verdict"),
            an_event(EvaluationCompleted, accepted=False),
        ),
        State.REJECTED,
    ),
    "waiting while another question is answered with no": (
        (
            *PROPOSED,
            an_event(ApprovalRequested),
            an_event(EvaluationCompleted, accepted=False, best=BEST),
        ),
        State.WAITING,
    ),
    "tried again": (
        (
            *REGISTERED,
            an_event(EvaluationCompleted, accepted=False),
            an_event(ModelRegistered, version=2),
            an_event(ModelPromoted, version=2),
        ),
        State.PROMOTED,
    ),
    "nothing new afterwards": (
        (*PROPOSED, an_event(ModelPromoted), an_event(TrainingSkipped, reason="nothing_new")),
        State.PROMOTED,
    ),
}


def only(log: list[Heard[Event]]) -> Outcome:
    (outcome,) = outcomes(log)
    return outcome


@pytest.mark.parametrize("story", STORIES)
def test_every_story_ends_in_exactly_one_outcome(story: str) -> None:
    events, state = STORIES[story]

    outcome = only(log_of(DEFINED, PUBLISHED, *events))

    assert (outcome.dataset, outcome.dataset_version, outcome.model) == ("pumps", 1, "pump")
    assert outcome.state is state
    assert outcome.is_terminal is (state is not State.IN_PROGRESS)


@pytest.mark.parametrize("story", STORIES)
def test_the_order_of_arrival_and_repeats_change_nothing(story: str, seed: int) -> None:
    log = log_of(DEFINED, PUBLISHED, *STORIES[story][0])
    shuffled = log * 2
    random.Random(seed).shuffle(shuffled)

    assert outcomes(shuffled) == outcomes(log)


def test_the_event_that_ended_it_is_named_and_the_first_of_equals_counts() -> None:
    log = log_of(DEFINED, PUBLISHED, *PROPOSED, an_event(ModelPromoted), an_event(ModelPromoted))

    outcome = only(log)

    assert (outcome.event_id, outcome.at) == (log[-2].id, log[-2].time)


def test_a_version_concerns_the_models_defined_before_it_on_its_dataset() -> None:
    log = log_of(
        an_event(ModelDefined, model="one"),
        an_event(ModelDefined, model="moved"),
        an_event(ModelDefined, model="moved", dataset="others"),
        PUBLISHED,
        an_event(ModelDefined, model="later"),
        an_event(TrainingSkipped, model="asked", reason="nothing_new"),
    )

    found = [(outcome.model, outcome.state) for outcome in outcomes(log)]

    assert found == [("asked", State.WITHHELD), ("one", State.IN_PROGRESS)]


def parked(event: Event, service: str) -> EventParked:
    payload = base64.b64encode(codec.encode(log_of(event)[0])).decode()
    return an_event(EventParked, service=service, payload=payload, headers={}, event=event.TYPE)


@pytest.mark.parametrize(
    ("event", "service", "state"),
    [
        (PUBLISHED, "trainer", State.DEAD_LETTERED),
        (an_event(TrainingCompleted), "registry", State.DEAD_LETTERED),
        (an_event(ModelRegistered), "evaluator", State.DEAD_LETTERED),
        (an_event(EvaluationCompleted, accepted=True), "deployer", State.DEAD_LETTERED),
        (an_event(ModelRegistered), "drift_monitor", State.IN_PROGRESS),
        (an_event(EvaluationCompleted, accepted=False), "deployer", State.REJECTED),
    ],
)
def test_a_story_stops_where_the_event_that_carries_it_on_is_parked(
    event: Event, service: str, state: State
) -> None:
    log = log_of(DEFINED, PUBLISHED, event, parked(event, service))

    assert only(log).state is state


def test_a_parked_event_that_was_retried_is_no_end() -> None:
    log = log_of(
        DEFINED, PUBLISHED, *REGISTERED, parked(REGISTERED[-1], "evaluator"),
        an_event(EvaluationCompleted, accepted=False),
    )  # fmt: skip

    assert only(log).state is State.REJECTED


def test_a_parked_record_that_is_no_event_claims_nothing() -> None:
    broken = an_event(EventParked, service="trainer", payload="bm90IGpzb24=", headers={})

    assert outcomes(log_of(broken)) == []
