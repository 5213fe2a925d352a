"""What a score meant on the held-out rows, cell by cell: how often it was right, how wrong it was.

Scores of a window, counted in the same cells, then say how good its answers are likely to be before
any label has come.

Source: pool-adjacent-violators as in Ayer et al. (1955), Annals of Mathematical Statistics 26.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.sketch import NumberCells

CELLS: Final = 64
LEAST_IN_CELL: Final = 4
"""Held-out rows per cell: one of a single row would not know how much its losses differ."""
THRESHOLD: Final = 0.5
"""Of two classes the second one is answered above."""
BORROWED: Final = 4
"""Rows that the spread of all cells counts as in the spread of one."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One entry per cell of a number: below, between the edges, above; missing is left out.

    Attributes:
        rows: held-out rows with this score.
        rates: how often the second class came true, never falling from cell to cell; empty for
            regression, where scores are the answers themselves.
        losses: mean loss of the watched metric.
        deviations: standard deviations of the losses around the mean of their cell.
    """

    rows: tuple[int, ...]
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    deviations: tuple[float, ...]


def score_cells(name: str, values: Floats, thresholds: Sequence[float] = ()) -> NumberCells:
    """Cells between the quantiles of these scores, with an edge at every threshold among them.

    A threshold below or above all scores has an edge too, so that no cell is on both of its sides.
    """
    finite = np.sort(np.asarray(values, dtype=np.float64)[np.isfinite(values)])
    if not len(finite):
        return NumberCells(name=name, edges=())
    count = min(CELLS, max(1, len(finite) // LEAST_IN_CELL))
    ranks = np.ceil(np.arange(1, count) / count * len(finite)).astype(np.int64) - 1
    least = np.nextafter(finite[0], -np.inf)
    edges = np.unique(np.concatenate([[least], finite[ranks], finite[-1:], thresholds]))
    return NumberCells(name=name, edges=tuple(edges.tolist()))


def scores_profile(
    cells: NumberCells, values: Floats, losses: Floats, hits: NDArray[np.bool_] | None
) -> Scores | None:
    """The profile of these held-out rows; None when there is nothing to learn from.

    Args:
        cells: of the score.
        values: scores, shape (n,).
        losses: of the watched metric, shape (n,); rows without a finite one are left out.
        hits: whether the second class came true, shape (n,); None for regression.
    """
    known = np.isfinite(values) & np.isfinite(losses)
    if not cells.edges or known.sum() < 2:
        return None
    places = cells.places(np.ascontiguousarray(values[known], dtype=np.float64))
    size = cells.size - 1
    rows = np.bincount(places, minlength=size).astype(np.float64)
    means, deviations = _spread(places, np.asarray(losses, dtype=np.float64)[known], rows)
    rates: Floats = np.zeros(0)
    if hits is not None:
        came = np.bincount(places, weights=hits[known].astype(np.float64), minlength=size)
        rates = _nearest(monotone(_ratio(came, rows), rows), rows)
    return Scores(
        rows=tuple(int(n) for n in rows),
        rates=tuple(rates.tolist()),
        losses=tuple(_nearest(means, rows).tolist()),
        deviations=tuple(_nearest(deviations, rows).tolist()),
    )


def monotone(values: Floats, weights: Floats) -> Floats:
    """The never falling sequence closest in weighted squares; a weight of 0 counts nothing."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, length = value, weight, 1
        while blocks and (total == 0 or blocks[-1][1] == 0 or blocks[-1][0] >= mean):
            before, more, longer = blocks.pop()
            both = total + more
            mean = (mean * total + before * more) / both if both else mean
            total, length = both, length + longer
        blocks.append((mean, total, length))
    return np.repeat([mean for mean, _, _ in blocks], [length for _, _, length in blocks])


def _spread(places: NDArray[np.int64], losses: Floats, rows: Floats) -> tuple[Floats, Floats]:
    means = _ratio(np.bincount(places, weights=losses, minlength=len(rows)), rows)
    off = np.square(losses - means[places])
    squares = np.bincount(places, weights=off, minlength=len(rows))
    # A cell of few rows knows its own spread badly and borrows from all others.
    free = np.maximum(rows - 1, 0)
    common = squares.sum() / free.sum() if free.any() else losses.var(ddof=1)
    return means, np.sqrt((squares + BORROWED * common) / (free + BORROWED))


def _ratio(part: NDArray[Any], whole: Floats) -> Floats:
    found: Floats = part / np.maximum(whole, 1)
    return found


def _nearest(values: Floats, rows: Floats) -> Floats:
    """Cells without rows take the value of the nearest cell that has some."""
    full = np.flatnonzero(rows)
    places = np.arange(len(rows))
    found: Floats = values[full[np.abs(places[:, None] - full[None, :]).argmin(axis=1)]]
    return found
