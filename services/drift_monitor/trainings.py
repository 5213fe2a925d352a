"""What becomes of trainings, and of champions: the waiting that each begins or ends."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from services.drift_monitor.asking import cool_down
from services.drift_monitor.course import LONGEST_TRAINING, Course, Phase
from services.drift_monitor.domain import Policy, Subject

UNKNOWN: Final = timedelta(hours=24)
"""The cool-down of a model whose specification is not known yet."""


# --- trainings ----------------------------------------------------------------------------------


def training_began(course: Course, now: datetime) -> Course:
    """Somebody's training of the model is on its way."""
    return replace(course, training_at=now)


def came_to_nothing(course: Course, policy: Policy | None) -> Course:
    """No new champion came of it; whoever had asked for it waits longer before the next time."""
    over = replace(course, training_at=None)
    if over.phase is not Phase.RETRAINING:
        return over
    return _vain(over, policy.cool_down if policy else UNKNOWN)


def _vain(course: Course, base: timedelta) -> Course:
    vain = course.vain + 1
    until = course.asked_at + cool_down(base, vain) if course.asked_at else None
    return replace(course, phase=Phase.BACKOFF, vain=vain, cools_until=until, refused="")


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


# --- the cool-down ------------------------------------------------------------------------------


def cooled(course: Course, now: datetime) -> Course:
    """After its cool-down a model is as it would be without one."""
    if course.phase not in (Phase.COOLING, Phase.BACKOFF):
        return course
    if course.cools_until is not None and now < course.cools_until:
        return course
    phase = Phase.HEALTHY if course.confirmed_at is None else Phase.CONFIRMED
    return replace(course, phase=phase)


def still_cooling(course: Course, subject: Subject) -> Course:
    """A request of the time before courses were kept has its cool-down, too."""
    if course.asked_at is not None or subject.asked_at is None:
        return course
    until = subject.asked_at + subject.policy.cool_down
    return replace(course, asked_at=subject.asked_at, cools_until=until)


# --- champions ----------------------------------------------------------------------------------


def promoted(course: Course, version: int, policy: Policy | None) -> Course:
    """A new champion came of it: the waiting begins anew."""
    over = replace(crowned(course, version), training_at=None, vain=0)
    if course.phase not in (Phase.RETRAINING, Phase.BACKOFF, Phase.COOLING) or not over.asked_at:
        return replace(over, phase=Phase.HEALTHY, cools_until=None)
    until = over.asked_at + (policy.cool_down if policy else UNKNOWN)
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
