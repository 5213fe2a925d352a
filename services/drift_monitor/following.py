"""What the champion's windows change on its way to a fresh version, and while the rule answers."""

from collections.abc import Sequence
from dataclasses import replace
from math import fsum

from services.drift_monitor.asking import refused
from services.drift_monitor.course import About, Course, Fallback, Phase, Stepped
from services.drift_monitor.domain import Policy, Signs, Subject
from services.drift_monitor.trainings import came_to_nothing, cooled, crowned, unheard
from shared.events import FallbackAdvised, FallbackEnded, ModelName


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
        return came_to_nothing(calmed, subject.policy)
    return calmed


def _about(subject: Subject) -> About:
    return About(
        model=subject.model,
        version=subject.version,
        owner="",
        policy=subject.policy,
        now=subject.now,
    )


# --- the rung below ------------------------------------------------------------------------------


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
