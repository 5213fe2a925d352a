"""First labels, a great many at once: what `join` says of most labels, said column by column.

Nearly every label is the only one that its answer ever gets, of a version that is known, and of a
kind that the version can have. Nobody else's turn has to be thought of then, and thousands are
joined for the price of a few that have to be. All others are left to `join`.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from services.drift_monitor.quality.joining import (
    Answers,
    Joined,
    Key,
    Observed,
    Value,
    join,
)
from shared.usable import can_come_true


class Firsts(NamedTuple):
    """First labels beside their answers, column by column; those of a version stand together.

    Attributes:
        spans: where the labels of each version stand.
        compared: predictions that somebody compares with other answers.
    """

    spans: Mapping[Key, slice]
    compared: Sequence[str] = ()
    id: Sequence[str] = ()
    place: Sequence[int] = ()
    model: Sequence[str] = ()
    version: Sequence[int] = ()
    window: Sequence[int | None] = ()
    answer: Sequence[Value] = ()
    score: Sequence[float | None] = ()
    at: Sequence[datetime] = ()
    value: Sequence[Value] = ()
    revision: Sequence[int] = ()
    observed_at: Sequence[datetime] = ()
    event: Sequence[UUID] = ()
    known_at: Sequence[datetime] = ()

    @property
    def labels(self) -> int:
        """How many there are."""
        return len(self.place)


NOTHING = Firsts({})


def join_many(
    answers: Answers, observed: Sequence[Observed], classes: Mapping[Key, Sequence[Value]]
) -> tuple[Firsts, Joined]:
    """Join labels to answers: those that are simply first, and what became of all others.

    Args:
        answers: those that are known.
        observed: labels in the order in which they came.
        classes: of the versions that are known.
    """
    firsts = firsts_of(answers, observed, classes)
    if firsts.labels == len(observed):
        return firsts, Joined()
    done = set(firsts.id)
    rest = [one for one in observed if one.prediction not in done]
    return firsts, join(answers.given(besides=done), rest, classes)


def firsts_of(
    answers: Answers, observed: Sequence[Observed], classes: Mapping[Key, Sequence[Value]]
) -> Firsts:
    """The labels that are simply the first of their answers."""
    told = {one.prediction: one for one in observed}
    ones = [told[prediction] for prediction in answers.id]
    own = _by_version(answers, ones)
    twice = _told_twice(observed) if len(told) < len(observed) else set()
    order: list[int] = []
    spans: dict[Key, slice] = {}
    for key in sorted(key for key in own if key in classes):
        fits = _usable(own[key], ones, classes[key])
        if twice:
            fits = [place for place in fits if answers.id[place] not in twice]
        spans[key] = slice(len(order), len(order) + len(fits))
        order += fits
    if not order:
        return NOTHING
    found = [_picked(column, order) for column in answers[:8]]
    _, _, *heard = zip(*_picked(ones, order), strict=True)
    compared = [answers.id[place] for place in order if answers.is_compared[place]]
    return Firsts(spans, compared, *found, *heard)


def _told_twice(observed: Sequence[Observed]) -> set[str]:
    times = Counter(one.prediction for one in observed)
    return {prediction for prediction, count in times.items() if count > 1}


def _by_version(answers: Answers, ones: Sequence[Observed]) -> dict[Any, list[int]]:
    """Places among the answers that no label counts for yet."""
    own: dict[Any, list[int]] = defaultdict(list)
    rows = zip(answers.model, answers.version, answers.label, ones, strict=True)
    for place, (model, version, label, one) in enumerate(rows):
        if label is None and one.model == model:
            own[model, version].append(place)
    return own


def _usable(places: list[int], ones: Sequence[Observed], classes: Sequence[Value]) -> list[int]:
    values: list[Any] = [ones[place].value for place in places]
    kinds = set(map(type, values))
    # Of texts each is as good as the other, and of finite numbers where a fraction can come true.
    if kinds == {str}:
        return places if can_come_true(values[0], classes) else []
    if kinds == {float} and can_come_true(0.5, classes) and all(map(isfinite, values)):
        return places
    return [p for p, value in zip(places, values, strict=True) if can_come_true(value, classes)]


def _picked(column: Sequence[Any], order: Sequence[int]) -> Sequence[Any]:
    return itemgetter(*order)(column) if len(order) > 1 else (column[order[0]],)
