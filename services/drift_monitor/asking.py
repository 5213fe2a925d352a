"""Asking for a fresh version, and what of the model itself speaks against it."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from services.drift_monitor.course import About, Course, Phase, Reason, Stepped
from shared.events import RetrainingRequested, RetrainingWithheld

LONGEST_COOL_DOWN: Final = timedelta(days=7)


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
