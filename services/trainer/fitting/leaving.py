"""Rows not learned from because somebody annotated their period; and whether they would help."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.trainer.fitting.reading import MICROSECONDS, CannotTrain, Table
from shared.probability import t_sf

TRY_BOTH_ABOVE: Final = 0.02
"""Of all rows. When more are left out, the same is fitted with them and both are compared."""
LEVEL: Final = 0.05
"""Fitting with them must be this surely better: people had a reason to leave them out."""
BLOCKS: Final = 10
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutRows:
    """Rows of a table that are not learned from.

    Attributes:
        mask: shape (rows,).
        tags: rows by tag.
        annotations: ids of the annotations by which at least one row is left out, in order.
    """

    mask: Booleans
    tags: Mapping[str, int] = field(default_factory=dict)
    annotations: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.mask.sum())

    @property
    def share(self) -> float:
        """Of all rows."""
        return self.rows / len(self.mask) if len(self.mask) else 0.0


def left_out(
    table: Table, exclusions: Sequence[Mapping[str, Any]], leave_out: Sequence[str]
) -> LeftOutRows:
    """The rows whose last word is a tag that is left out.

    Args:
        exclusions: `annotation`, `tag`, `column`, `starts` and `ends` in microseconds since 1970,
            in the order in which they were written: of several over one row the last one counts.
        leave_out: tags.

    Raises:
        CannotTrain: the table has no such column of moments; nothing is learned from by accident.
    """
    last = np.full(table.rows, -1, dtype=np.int64)
    for place, one in enumerate(exclusions):
        moments = _moments(table, str(one["column"]))
        last[(moments >= one["starts"]) & (moments < one["ends"])] = place
    mask = np.zeros(table.rows, dtype=bool)
    tags: Counter[str] = Counter()
    named: list[str] = []
    for place, one in enumerate(exclusions):
        rows = last == place
        if one["tag"] in leave_out and rows.any():
            mask |= rows
            tags[str(one["tag"])] += int(rows.sum())
            named.append(str(one["annotation"]))
    return LeftOutRows(mask=mask, tags=dict(tags), annotations=tuple(named))


def _moments(table: Table, column: str) -> NDArray[np.float64]:
    kind = table.kinds.get(column)
    if kind not in ("time", "integer", "number"):
        raise CannotTrain(
            f"periods are annotated by the column {column!r}, which holds no moments here; lift "
            "the annotations or write them anew"
        )
    scale = 1 if kind == "time" else MICROSECONDS  # plain numbers are seconds
    values: NDArray[np.float64] = table.values[column] * scale
    return values


def is_better_with(without: NDArray[np.float64], with_them: NDArray[np.float64]) -> bool:
    """Whether fitting with the rows is shown better: a t-test over blocks of validation rows.

    Rows resemble their neighbours, so that each counts for less than one; means of ten blocks
    know nothing of each other whatever the rows do within them. Fewer rows than blocks show
    nothing.

    Args:
        without, with_them: losses of both on the same normal validation rows in the order of time,
            shape (n,).

    Source: Ibragimov and Müller (2010), J. Bus. Econ. Stat. 28(4), for t-tests of few blocks.
    """
    differences = without - with_them
    length = len(differences) // BLOCKS
    if not length:
        return False
    newest = differences[len(differences) - BLOCKS * length :]
    means = newest.reshape(BLOCKS, length).mean(axis=1)
    mean, deviation = float(means.mean()), float(means.std(ddof=1))
    if deviation == 0:
        return mean > 0
    return t_sf(mean / (deviation / sqrt(BLOCKS)), BLOCKS - 1) <= LEVEL
