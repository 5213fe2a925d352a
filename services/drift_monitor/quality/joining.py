"""Which label of a prediction counts: a function of the set of labels, not of their order.

Labels come late, early, twice, revised, or never. Beside the label that counts now, those are kept
that counted at some earlier moment, so that what was known then can be told later.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import isfinite
from typing import Literal
from uuid import UUID

Value = float | str | bool
Labelled = Literal["joined", "revised", "duplicate", "conflict", "invalid", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One outcome as somebody observed it."""

    value: Value
    revision: int
    observed_at: datetime
    event: UUID


def becomes(old: Label | None, new: Label) -> Labelled:
    """What a further label of a prediction means; `joined` and `revised` ones count from now on.

    The higher revision counts. Of two of one revision the one that was observed first counts, and
    of two observed at once the one with the smaller id, so that order plays no part; where they
    differ, that is a conflict.
    """
    if old is None:
        return "joined"
    if new.revision > old.revision or (new.revision == old.revision and rank(new) > rank(old)):
        return "revised"
    return "conflict" if new.revision == old.revision and new.value != old.value else "duplicate"


def rank(label: Label) -> tuple[int, float, int]:
    """Of two labels of a prediction the one with the higher rank counts."""
    return label.revision, -label.observed_at.timestamp(), -label.event.int


def is_usable(value: Value, classes: Sequence[Value]) -> bool:
    """Whether a label can be an outcome of the model: a finite number, or a label for classes."""
    if classes:
        return not isinstance(value, float) or isfinite(value)
    return isinstance(value, float | int) and not isinstance(value, bool) and isfinite(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A label for a prediction, as it was heard.

    Attributes:
        known_at: when it was accepted; what is known at a moment are the labels until then.
    """

    prediction: str
    model: str
    label: Label
    known_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer, as far as joining its label needs it.

    Attributes:
        place: in the order of all predictions; the key of its outcomes.
        is_compared: whether somebody compares it with other answers.
        label, known_at: that counts now, and when it was accepted.
    """

    id: str
    place: int
    model: str
    version: int | None
    window: int | None
    answer: Value
    score: float | None
    at: datetime
    is_compared: bool = False
    label: Label | None = None
    known_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A label that counts now, or that counted once.

    Attributes:
        counts: whether it counts now.
        is_first: whether its prediction had none before.
    """

    given: Given
    label: Label
    known_at: datetime
    counts: bool
    is_first: bool


@dataclass(slots=True, kw_only=True)
class Joined:
    """What a few labels change.

    Attributes:
        given: all answers, with the labels that count now.
        before: the label that counted before all of these, by prediction.
        past: labels that count only in what was known at some earlier moment.
        parked: labels whose predictions are not known.
        became: how many became what.
    """

    given: dict[str, Given]
    before: dict[str, Label | None] = field(default_factory=dict)
    past: list[Outcome] = field(default_factory=list)
    parked: list[Observed] = field(default_factory=list)
    became: Counter[Labelled] = field(default_factory=Counter)

    def now(self) -> list[Outcome]:
        """The labels that have come to count, one per prediction."""
        return [
            Outcome(
                given=row,
                label=row.label,
                known_at=row.known_at,
                counts=True,
                is_first=before is None,
            )
            for row, before in ((self.given[name], before) for name, before in self.before.items())
            if row.label is not None and row.known_at is not None
        ]


def join(
    given: Mapping[str, Given],
    observed: Iterable[Observed],
    classes_of: Callable[[Given], Sequence[Value] | None],
) -> Joined:
    """Join labels to answers.

    Args:
        given: the answers that are known, by prediction.
        observed: labels in the order in which they came.
        classes_of: of the version that answered; None while nobody knows it.
    """
    joined = Joined(given=dict(given))
    for one in observed:
        joined.became[_take(one, joined, classes_of)] += 1
    return joined


def _take(
    one: Observed, joined: Joined, classes_of: Callable[[Given], Sequence[Value] | None]
) -> Labelled:
    row = joined.given.get(one.prediction)
    if row is None:
        joined.parked.append(one)
        return "unknown"
    if row.model != one.model:
        return "conflict"
    classes = classes_of(row)
    if classes is not None and not is_usable(one.label.value, classes):
        return "invalid"
    became = becomes(row.label, one.label)
    if became in ("joined", "revised"):
        _remember(joined, row)
        joined.before.setdefault(row.id, row.label)
        joined.given[row.id] = replace(row, label=one.label, known_at=one.known_at)
    elif row.known_at is not None and one.known_at < row.known_at:
        joined.past.append(_past(row, one.label, one.known_at))
    return became


def _remember(joined: Joined, row: Given) -> None:
    """A label that came to count among these and is replaced among these was known for a time."""
    if row.id in joined.before and row.label is not None and row.known_at is not None:
        joined.past.append(_past(row, row.label, row.known_at))


def _past(row: Given, label: Label, known_at: datetime) -> Outcome:
    return Outcome(given=row, label=label, known_at=known_at, counts=False, is_first=False)
