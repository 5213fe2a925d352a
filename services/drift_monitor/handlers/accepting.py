"""What of a label can be believed: anybody may have sent it, and may have written anything."""

from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR, datetime, timedelta
from math import isfinite
from typing import Final

from services.drift_monitor.quality import Observed
from shared.events import GroundTruthObserved, Heard

MOST_CHARACTERS: Final = 1000
MOST_REVISIONS: Final = 2**31
DOOR: Final = "//tidewheel/serving/"
"""Begins the source of what came through serving's door, which writes the time at which it did."""
LONGEST_WAY: Final = timedelta(hours=72)
"""From the door to the broker; so long serving's spool keeps what it cannot send, by default."""

Told = Heard[GroundTruthObserved]


def sane_of(heards: Sequence[Told]) -> list[Observed]:
    """The labels that can be kept at all."""
    observed = [
        Observed(
            told.prediction,
            told.model,
            told.value,
            told.revision,
            told.observed_at,
            heard.key or heard.id,
            accepted_at(heard) if heard.came_at else heard.time,
        )
        for heard in heards
        for told in (heard.event,)
    ]
    return observed if _are_plain(observed) else [one for one in observed if _is_sane(one)]


def accepted_at(heard: Told) -> datetime:
    """When a label was accepted, by clocks of ours alone.

    Nobody can have known a label before it was on the broker, so that says when; but what has
    waited in serving's spool was accepted at its door before. Whoever claims that falsely puts
    a label back by `LONGEST_WAY`, and never forward.
    """
    came_at = heard.came_at
    if came_at is None:
        return heard.time
    if not heard.source.startswith(DOOR):
        return came_at
    return min(came_at, max(heard.time, came_at - LONGEST_WAY))


def _are_plain(observed: Sequence[Observed]) -> bool:
    """Whether all can be kept, of one kind of values; looking at columns is cheap."""
    if not observed:
        return True
    predictions, models, values, revisions, moments, _, _ = zip(*observed, strict=True)
    kinds, texts = set(map(type, values)), {*predictions, *models}
    if kinds <= {str, bool}:
        texts.update(map(str, values))
    elif kinds != {float} or not all(map(isfinite, values)):
        return False
    return (
        max(map(len, texts)) <= MOST_CHARACTERS
        and "\0" not in "".join(texts)
        and min(revisions) >= 0
        and max(revisions) < MOST_REVISIONS
        and all(map(_is_moment, moments))
    )


def _is_sane(one: Observed) -> bool:
    value = one.value
    return (
        _is_short(one.prediction)
        and _is_short(one.model)
        and (isfinite(value) if isinstance(value, float) else _is_short(str(value)))
        and 0 <= one.revision < MOST_REVISIONS
        and _is_moment(one.observed_at)
    )


def _is_moment(at: datetime) -> bool:
    """Whether it can be kept: at the ends of time an offset leads out of it."""
    return at.tzinfo is not None and MINYEAR < at.year < MAXYEAR


def _is_short(text: str) -> bool:
    return len(text) <= MOST_CHARACTERS and "\0" not in text
