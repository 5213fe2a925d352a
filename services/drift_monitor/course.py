"""The way of one model from a confirmed change to a fresh version.

healthy → suspect → confirmed → retraining → cooling → healthy. A retraining that came to nothing
leads to backoff instead of cooling; a model that the brake holds is held. Everything here is a
function of the state and of what is heard; the clock is an argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil, fsum
from typing import Final, Literal

from services.drift_monitor.domain import Policy, Signs, Subject, Why
from shared.events import (
    DatasetName,
    Event,
    FallbackAdvised,
    FallbackEnded,
    ModelName,
    RetrainingRequested,
    RetrainingWithheld,
)

LONGEST_COOL_DOWN: Final = timedelta(days=7)
LONGEST_TRAINING: Final = timedelta(hours=24)
"""What was started and never heard of again does not keep a model from being retrained."""
SHARE_OF_ROWS: Final = 0.2
"""Of the training rows: so many new ones make a retraining worth its while."""

Reason = Literal[
    "cool_down",
    "not_confirmed",
    "trigger_off",
    "budget",
    "brake",
    "no_labels",
    "duplicate",
    "transient",
]


class Phase(StrEnum):
    """Where a model is on its way."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    CONFIRMED = "confirmed"
    RETRAINING = "retraining"
    COOLING = "cooling"
    BACKOFF = "backoff"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """The rung below answers for a version."""

    version: int
    window: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How one model stands.

    Attributes:
        version: the champion that all of it is about.
        why, window, windows, detail: of the change that was last confirmed.
        confirmed_at: since when a change is confirmed; None while none is.
        asked_at: when a fresh version was last asked for.
        cools_until: not before is it asked for again.
        vain: retrainings in a row that came to nothing.
        training_at: since when a training of it, whoever wanted it, is on its way.
        refused: the last reason for a refusal; it is said once.
        checked: whether it was asked if others have changed at the same time.
        regime: the change has outlasted the horizon, and that was said.
        fallback: the rung below answers.
        fell_at: the newest window that has answers of the last such time or of before it; only
            later ones may be a reason again.
    """

    phase: Phase = Phase.HEALTHY
    version: int = 0
    why: Why = "drift"
    window: int = 0
    windows: tuple[int, ...] = ()
    detail: str = ""
    confirmed_at: datetime | None = None
    asked_at: datetime | None = None
    cools_until: datetime | None = None
    vain: int = 0
    training_at: datetime | None = None
    refused: str = ""
    checked: bool = False
    regime: bool = False
    fallback: Fallback | None = None
    fell_at: int = 0

    @property
    def wants(self) -> bool:
        """Whether a fresh version would be asked for if nothing spoke against it."""
        return self.confirmed_at is not None and self.phase is not Phase.RETRAINING

    def is_training(self, now: datetime) -> bool:
        """Whether a training is on its way."""
        return self.training_at is not None and now < self.training_at + LONGEST_TRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whose course it is.

    Attributes:
        labels: new rows with outcomes since the champion was made; None where nobody counted.
        rows_trained: of the champion.
        annotated: people say that what happens now is abnormal and passes.
    """

    model: ModelName
    version: int
    owner: str
    policy: Policy
    now: datetime
    labels: int | None = None
    rows_trained: int = 0
    annotated: str = ""

    @property
    def dataset(self) -> DatasetName:
        """What the model learns from."""
        return DatasetName(self.policy.dataset)

    @property
    def least_labels(self) -> int:
        """New rows with outcomes that are enough: the lesser of two bounds."""
        share = ceil(SHARE_OF_ROWS * self.rows_trained)
        return min(self.policy.least_labels, share) if share else self.policy.least_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """The course from now on, and what is said."""

    course: Course
    events: tuple[Event, ...] = ()


# --- what windows change ------------------------------------------------------------------------


def follow(course: Course, signs: Signs, subject: Subject) -> Stepped:
    """What the signs of the champion's newest window change."""
    if course.version != subject.version:
        course = crowned(course, subject.version)
    course = cooled(unheard(course, subject.policy, subject.now), subject.now)
    if signs.confirmed is not None:
        return _confirmed(course, signs, subject)
    if signs.calm and course.confirmed_at is not None:
        calmed, told = _calmed(course, subject), "the change is over"
        ended = fall_back_over(calmed, subject.model, told, subject.window)
        return Stepped(course=ended.course, events=ended.events)
    if course.confirmed_at is not None:
        return Stepped(course=course)
    if course.phase in (Phase.HEALTHY, Phase.SUSPECT):
        phase = Phase.SUSPECT if signs.suspect else Phase.HEALTHY
        course = replace(course, phase=phase, refused=course.refused if signs.suspect else "")
    if signs.doubtful is None:
        return Stepped(course=course)
    doubtful = replace(course, window=subject.window, detail=signs.detail)
    return refused(doubtful, _about(subject), "not_confirmed", "more windows must agree")


def _confirmed(course: Course, signs: Signs, subject: Subject) -> Stepped:
    is_new = course.confirmed_at is None
    # What only follows a change, such as an estimate, is not the reason for it.
    is_evidence = is_new or signs.doubtful is not None
    course = replace(
        course,
        why=signs.confirmed or course.why,
        window=subject.window,
        windows=signs.windows,
        detail=signs.detail if is_evidence else course.detail,
        confirmed_at=course.confirmed_at or subject.now,
        refused="" if is_new else course.refused,
        checked=course.checked and not is_new,
    )
    if course.phase in (Phase.HEALTHY, Phase.SUSPECT):
        course = replace(course, phase=Phase.CONFIRMED)
    if _would_do_better(course, signs, subject.policy):
        return _fall_back(course, subject, signs.detail)
    return Stepped(course=course)


def _would_do_better(course: Course, signs: Signs, policy: Policy) -> bool:
    """Whether the rung below is to answer, by as many windows as confirm a change."""
    if policy.transient != "fallback" or course.fallback is not None:
        return False
    return sum(window > course.fell_at for window in signs.below) >= policy.confirm


def _calmed(course: Course, subject: Subject) -> Course:
    """The change is over: what was on its way because of it was vain."""
    calmed = replace(course, confirmed_at=None, refused="", regime=False)
    if course.phase in (Phase.CONFIRMED, Phase.HELD):
        return replace(calmed, phase=Phase.HEALTHY)
    if course.phase is Phase.RETRAINING and not course.is_training(subject.now):
        return _vain(calmed, subject.policy.cool_down)
    return calmed


def crowned(course: Course, version: int) -> Course:
    """Another version is champion: what was confirmed was about the one before it."""
    phase = course.phase
    if phase in (Phase.CONFIRMED, Phase.HELD, Phase.SUSPECT):
        phase = Phase.HEALTHY
    return replace(
        course,
        phase=phase,
        version=version,
        confirmed_at=None,
        windows=(),
        refused="",
        regime=False,
        fallback=None,
        fell_at=0,
    )


def still_cooling(course: Course, subject: Subject) -> Course:
    """A request of the time before courses were kept has its cool-down, too."""
    if course.asked_at is not None or subject.asked_at is None:
        return course
    until = subject.asked_at + subject.policy.cool_down
    return replace(course, asked_at=subject.asked_at, cools_until=until)


def cooled(course: Course, now: datetime) -> Course:
    """After its cool-down a model is as it would be without one."""
    if course.phase not in (Phase.COOLING, Phase.BACKOFF):
        return course
    if course.cools_until is not None and now < course.cools_until:
        return course
    phase = Phase.HEALTHY if course.confirmed_at is None else Phase.CONFIRMED
    return replace(course, phase=phase)


# --- asking -------------------------------------------------------------------------------------


def objection(course: Course, about: About) -> tuple[Reason, str] | None:
    """What of the model itself speaks against a fresh version now; None for nothing."""
    policy, now = about.policy, about.now
    if not policy.may_retrain(course.why):
        return "trigger_off", f"triggers.{course.why} is off"
    if course.is_training(now):
        return "duplicate", f"a training began at {course.training_at:%Y-%m-%d %H:%M:%S}"
    if course.cools_until is not None and now < course.cools_until:
        times = f" after {course.vain} vain ones" if course.vain else ""
        return "cool_down", f"not again before {course.cools_until:%Y-%m-%d %H:%M:%S}{times}"
    if about.annotated and policy.transient != "adapt":
        return "transient", about.annotated
    if about.labels is not None and about.labels < about.least_labels:
        return (
            "no_labels",
            f"{about.labels} new rows with outcomes, {about.least_labels} are needed",
        )
    return None


def refused(course: Course, about: About, reason: Reason, detail: str) -> Stepped:
    """A fresh version would be wanted and is not asked for; the same reason is said once."""
    phase = course.phase
    if reason == "brake":
        phase = Phase.HELD
    elif phase is Phase.HELD:
        phase = Phase.CONFIRMED
    elif reason == "cool_down" and phase is Phase.CONFIRMED:
        phase = Phase.BACKOFF if course.vain else Phase.COOLING
    changed = replace(course, phase=phase, refused=reason)
    if course.refused == reason:
        return Stepped(course=changed)
    withheld = RetrainingWithheld(
        model=about.model,
        version=about.version,
        reason=reason,
        window=course.window,
        detail=f"{detail}; {course.detail}" if course.detail else detail,
    )
    return Stepped(course=changed, events=(withheld,))


def asked(course: Course, about: About) -> Stepped:
    """A fresh version is asked for."""
    said = RetrainingRequested(
        model=about.model,
        version=about.version,
        reason=course.why,
        window=course.window,
        detail=course.detail,
        windows=course.windows,
        labels=about.labels,
    )
    changed = replace(
        course,
        phase=Phase.RETRAINING,
        asked_at=about.now,
        cools_until=about.now + cool_down(about.policy.cool_down, course.vain),
        refused="",
    )
    return Stepped(course=changed, events=(said,))


def cool_down(base: timedelta, vain: int) -> timedelta:
    """Twice as long after each retraining that came to nothing, up to a week."""
    longer = base * (1 << min(vain, 20))
    return min(longer, max(base, LONGEST_COOL_DOWN))


# --- what becomes of trainings --------------------------------------------------------------------


def training_began(course: Course, now: datetime) -> Course:
    """Somebody's training of the model is on its way."""
    return replace(course, training_at=now)


def came_to_nothing(course: Course, policy: Policy | None) -> Course:
    """No new champion came of it; whoever had asked for it waits longer before the next time."""
    over = replace(course, training_at=None)
    if over.phase is not Phase.RETRAINING:
        return over
    return _vain(over, policy.cool_down if policy else timedelta(hours=24))


def waits_until(course: Course) -> datetime | None:
    """When a course changes although nothing is heard; None for one that waits for nothing."""
    match course.phase:
        case Phase.COOLING | Phase.BACKOFF:
            return course.cools_until
        case Phase.RETRAINING:
            moments = [at for at in (course.asked_at, course.training_at) if at is not None]
            return max(moments) + LONGEST_TRAINING if moments else None
        case _:
            return None


def unheard(course: Course, policy: Policy, now: datetime) -> Course:
    """Nothing was heard of what was asked for, for longer than any training takes: it was vain."""
    until = waits_until(course) if course.phase is Phase.RETRAINING else None
    return course if until is None or now < until else came_to_nothing(course, policy)


def promoted(course: Course, version: int, policy: Policy | None) -> Course:
    """A new champion came of it: the waiting begins anew."""
    over = replace(crowned(course, version), training_at=None, vain=0)
    if course.phase not in (Phase.RETRAINING, Phase.BACKOFF, Phase.COOLING) or not over.asked_at:
        return replace(over, phase=Phase.HEALTHY, cools_until=None)
    until = over.asked_at + (policy.cool_down if policy else timedelta(hours=24))
    return replace(over, phase=Phase.COOLING, cools_until=until)


def introduced(course: Course, version: int, policy: Policy, registered_at: datetime) -> Course:
    """The champion's registration is heard after its promotion: now its own cool-down is known.

    A training that began before it is over, in whatever order both are heard.
    """
    if course.version != version:
        return promoted(course, version, policy)
    began = course.training_at
    course = replace(course, training_at=began if began and began > registered_at else None)
    if course.phase is not Phase.COOLING or course.asked_at is None:
        return course
    return replace(course, cools_until=course.asked_at + policy.cool_down)


def _vain(course: Course, base: timedelta) -> Course:
    vain = course.vain + 1
    until = course.asked_at + cool_down(base, vain) if course.asked_at else None
    return replace(course, phase=Phase.BACKOFF, vain=vain, cools_until=until, refused="")


# --- the rung below -------------------------------------------------------------------------------


def _fall_back(course: Course, subject: Subject, detail: str) -> Stepped:
    begun = Fallback(
        version=subject.version,
        window=subject.window,
        since=subject.now,
    )
    said = FallbackAdvised(
        model=subject.model, version=subject.version, window=subject.window, detail=detail
    )
    return Stepped(course=replace(course, fallback=begun, fell_at=subject.window), events=(said,))


def is_as_good(champion: Sequence[float], below: Sequence[float], rows: int) -> bool | None:
    """Whether a champion nobody sees does no worse than what answers in its place.

    Args:
        champion, below: losses of both on the same newest rows.
        rows: so many are needed; None while there are fewer.
    """
    if min(len(champion), len(below)) < rows:
        return None
    return fsum(champion) <= fsum(below)


def fall_back_over(course: Course, model: ModelName, detail: str, newest: int = 0) -> Stepped:
    """The champion may answer again.

    Args:
        newest: the newest window of the champion, open or closed: it and those before it have
            answers from before the end, which are no reason to fall back once more.
    """
    fallback = course.fallback
    if fallback is None:
        return Stepped(course=course)
    said = FallbackEnded(
        model=model, version=fallback.version, window=fallback.window, detail=detail
    )
    over = replace(course, fallback=None, fell_at=max(course.fell_at, newest))
    return Stepped(course=over, events=(said,))


def _about(subject: Subject) -> About:
    return About(
        model=subject.model,
        version=subject.version,
        owner="",
        policy=subject.policy,
        now=subject.now,
    )
