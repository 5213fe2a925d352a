"""Which label of a prediction counts: a function of the set of labels, not of their order.

Labels come late, early, twice, revised, or never. Beside the label that counts now, those are kept
that counted at some earlier moment, so that what was known then can be told later.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from shared.usable import can_come_true

Value = float | str | bool
Key = tuple[str, int]
"""Model and version."""
Labelled = Literal["joined", "revised", "duplicate", "conflict", "invalid", "unknown"]


class Label(NamedTuple):
    """One outcome as somebody observed it."""

    # A tuple, as all of these: a few are made per label, and making a frozen dataclass costs more
    # than joining it.
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


class Observed(NamedTuple):
    """A label for a prediction, as it was heard.

    Attributes:
        known_at: when it was accepted; what is known at a moment are the labels until then.
    """

    prediction: str
    model: str
    value: Value
    revision: int
    observed_at: datetime
    event: UUID
    known_at: datetime

    @property
    def label(self) -> Label:
        """Without what it is about."""
        return Label(self.value, self.revision, self.observed_at, self.event)


class Given(NamedTuple):
    """An answer, as far as joining its label needs it.

    Attributes:
        place: in the order of all predictions; the key of its outcomes.
        is_compared: whether somebody compares it with other answers.
        label, known_at: that counted before all that come now, and when it was accepted.
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


class Answers(NamedTuple):
    """Many answers, column by column: each is an attribute of `Given`, in the same order."""

    id: Sequence[str] = ()
    place: Sequence[int] = ()
    model: Sequence[str] = ()
    version: Sequence[int | None] = ()
    window: Sequence[int | None] = ()
    answer: Sequence[Value] = ()
    score: Sequence[float | None] = ()
    at: Sequence[datetime] = ()
    is_compared: Sequence[bool] = ()
    label: Sequence[Label | None] = ()
    known_at: Sequence[datetime | None] = ()

    def given(self, besides: Container[str] = ()) -> dict[str, Given]:
        """One by one, by prediction, but for these."""
        rows = map(Given._make, zip(*self, strict=True))
        return {row.id: row for row in rows if row.id not in besides}


class Outcome(NamedTuple):
    """A label that counts now, or that counted once.

    Attributes:
        counts: whether it counts now.
    """

    given: Given
    label: Label
    known_at: datetime
    counts: bool = True


@dataclass(slots=True, kw_only=True)
class Joined:
    """What a few labels change.

    Attributes:
        now: the labels that have come to count, by prediction.
        past: labels that count only in what was known at some earlier moment.
        parked: labels whose predictions are not known.
        became: how many became what.
    """

    now: dict[str, Outcome] = field(default_factory=dict)
    past: list[Outcome] = field(default_factory=list)
    parked: list[Observed] = field(default_factory=list)
    became: Counter[Labelled] = field(default_factory=Counter)


def join(
    given: Mapping[str, Given],
    observed: Iterable[Observed],
    classes: Mapping[Key, Sequence[Value]],
) -> Joined:
    """Join labels to answers.

    Args:
        given: the answers that are known, by prediction.
        observed: labels in the order in which they came.
        classes: of the versions that are known.
    """
    joined = Joined()
    for one in observed:
        row = given.get(one.prediction)
        if row is None:
            joined.parked.append(one)
            joined.became["unknown"] += 1
        else:
            own = classes.get((row.model, row.version or 0))
            joined.became[_take(one, row, joined, own)] += 1
    return joined


def _take(one: Observed, row: Given, joined: Joined, classes: Sequence[Value] | None) -> Labelled:
    if row.model != one.model:
        return "conflict"
    if classes is not None and not can_come_true(one.value, classes):
        return "invalid"
    newer, new = joined.now.get(row.id), one.label
    label, known_at = (newer.label, newer.known_at) if newer else (row.label, row.known_at)
    became = becomes(label, new)
    if became == "joined" or became == "revised":
        if newer is not None:
            # It came to count among these and is replaced among these: it was known for a time.
            joined.past.append(newer._replace(counts=False))
        joined.now[row.id] = Outcome(row, new, one.known_at)
    elif known_at is not None and (one.known_at < known_at or classes is None):
        # What counts may turn out to be unusable once the version is known.
        joined.past.append(Outcome(row, new, one.known_at, counts=False))
    return became
