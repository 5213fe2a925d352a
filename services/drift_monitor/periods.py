"""Which periods the monitor takes for abnormal. It proposes; people decide what is left out.

A period is told in the moments at which its rows were predicted, and these are taken for the
moments in the dataset's own column of time: the rows that were asked about then are the rows that
come back with their outcomes. Where a series is replayed at another time, or has no such column,
the two have nothing to do with each other; then nothing is proposed, or people say what is right.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from services.drift_monitor.course import About, Course
from services.drift_monitor.domain import Spell
from shared.events import AnnotationProposed, WindowEvaluated
from shared.ids import derived, id_said

Tag = Literal["transient", "corrupt", "new_regime"]


def has_passed(about: About, spell: Spell) -> Tag | None:
    """What a disturbance was that has ended by itself; None for one that was none.

    One that has outlasted the horizon was the new normal when it ended.
    """
    if spell.ended_at - spell.began_at > about.policy.horizon:
        return None
    return "corrupt" if spell.is_of_the_data else "transient"


def has_outlasted(course: Course, about: About) -> bool:
    """Whether a change has lasted so long that it is the new normal, which is said once."""
    confirmed_at = course.confirmed_at
    if confirmed_at is None or course.regime:
        return False
    return about.now - confirmed_at > about.policy.horizon


def proposal(
    about: About, spell: Spell, tag: Tag, evidence: Sequence[UUID]
) -> AnnotationProposed | None:
    """What is proposed; None where the dataset has no moments to look for."""
    if about.policy.time is None or not about.dataset:
        return None
    lasted = _words(spell.ended_at - spell.began_at)
    return AnnotationProposed(
        model=about.model,
        version=about.version,
        dataset=about.dataset,
        starts_at=spell.began_at,
        ends_at=spell.ended_at,
        tag=tag,
        windows=spell.windows,
        evidence=tuple(evidence),
        detail=f"{_WHAT[tag]}; {len(spell.windows)} windows showed it over {lasted}",
    )


def is_known(
    starts_at: datetime, ends_at: datetime, others: Sequence[tuple[datetime, datetime]]
) -> bool:
    """Whether most of a period was told before, by whatever model of the same dataset."""
    length = ends_at - starts_at
    return any(
        min(ends_at, other_end) - max(starts_at, other_start) >= length / 2
        for other_start, other_end in others
    )


def base_of_verdict(model: str, version: int, window: int) -> UUID:
    """What the ids of a window's verdict and of all that follows from it are derived from.

    The window alone: with whatever others it is judged, in the same transaction or again.
    """
    return derived(None, "judged", model, version, window)


def verdict_of(model: str, version: int, window: int) -> UUID:
    """The id of the verdict about a window, which is the first that is said of it."""
    return id_said(base_of_verdict(model, version, window), WindowEvaluated.TYPE, model)


_WHAT = {
    "transient": "a change was confirmed and ended by itself",
    "corrupt": "only missing, out-of-range and unseen values showed it",
    "new_regime": "a change has outlasted the horizon",
}


def _words(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
