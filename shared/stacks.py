"""The numbers of a layout beside each other, so that one test looks at all of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shared import cells
from shared.cells import Rows
from shared.sketch import Counts, Layout, NumberCells

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Numbers of a layout; cells that a number lacks are empty ones at its end.

    Attributes:
        features: their places in the layout.
        gather: place of each cell in a row of counts, shape (F, C); the row's length where a
            number has no such cell.
        gone, above: the cell of missing values in a row of counts; the one above, among its own.
        tens, fine: how many cells of each number lie before each of about 10 or 32 groups and
            before what follows the last one, shape (F, groups + 1).
    """

    features: tuple[int, ...]
    gather: Whole
    gone: Whole
    above: Whole
    tens: Whole
    fine: Whole

    @classmethod
    def of(cls, layout: Layout, features: Sequence[int]) -> "Stack":
        """These numbers of a layout; others are left out."""
        chosen = [i for i in features if isinstance(layout.features[i], NumberCells)]
        sizes = [layout.features[i].size - 1 for i in chosen]
        most = max(sizes, default=1)
        gather = np.full((len(chosen), most), layout.size, dtype=np.int64)
        for row, (place, size) in enumerate(zip(chosen, sizes, strict=True)):
            start = layout.offsets[place]
            gather[row, :size] = np.arange(start, start + size)
        return cls(
            features=tuple(chosen),
            gather=gather,
            gone=np.array([layout.offsets[i + 1] - 1 for i in chosen], dtype=np.int64),
            above=np.array(sizes, dtype=np.int64) - 1,
            tens=_starts(tuple(sizes), cells.GROUPS),
            fine=_starts(tuple(sizes), None),
        )

    def present(self, counts: Whole) -> Whole:
        """Rows per cell, shape (..., F, C), of rows of counts, shape (..., cells of all)."""
        nothing = np.zeros((*counts.shape[:-1], 1), dtype=np.int64)
        return np.asarray(np.concatenate([counts, nothing], axis=-1)[..., self.gather])


def shapes(counts: Rows, totals: Rows, groupings: Sequence[Whole]) -> list[tuple[Floats, Floats]]:
    """Chi square of windows against the rest, and its degrees of freedom, shape (n, F) each.

    Args:
        counts: shape (n, F, C).
        totals: of window and rest, shape (n, F, C), or (1, F, C) when all share them.
        groupings: where the groups of cells begin, shape (F, groups + 1), one by one.
    """
    return shapes_of(cells.reached(counts), cells.reached(totals), groupings)


def shapes_of(
    before: Floats, all_before: Floats, groupings: Sequence[Whole]
) -> list[tuple[Floats, Floats]]:
    """The same by the rows before each cell, see `cells.reached`."""
    window, total = before[..., -1], all_before[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # What is to be expected at least, turned into rows of window and rest.
        least = cells.least_expected(window) * total / window
    return [
        _shape(_grouped(before, starts), _grouped(all_before, starts), window, total, least)
        for starts in groupings
    ]


def _shape(
    held: Floats, whole: Floats, window: Floats, total: Floats, least: Floats
) -> tuple[Floats, Floats]:
    statistic = cells.chi_square_of(np.vecdot(held, held / np.maximum(whole, 1)), window, total)
    is_held = whole > 0
    groups = np.add.reduce(is_held, axis=-1, dtype=np.float64)
    df = np.maximum(np.subtract(groups, 1.0, out=np.empty(statistic.shape)), 0.0)
    few = np.logical_or.reduce((whole < least[..., None]) & is_held, axis=-1)
    for row, feature in _to_join(few, shared=len(whole) == 1):
        total = whole[row if len(whole) > 1 else 0, feature]
        into = cells.joined_groups(total, _middle(window[row, feature]))
        merged = cells.grouped(held[row, feature], into), cells.grouped(total, into)
        statistic[row, feature] = cells.chi_square(*merged)
        df[row, feature] = float(into.max()) if len(into) else 0.0
    return statistic, df


def _grouped(before: Floats, starts: Whole) -> Floats:
    """Rows per group, shape (n, F, groups)."""
    windows, features, size = before.shape
    flat = starts + np.arange(features)[:, None] * size
    reached = before.reshape(windows, features * size).take(flat, axis=1)
    return np.asarray(reached[..., 1:] - reached[..., :-1])


def _middle(rows: Floats) -> int:
    """The median of one or many, rounded down."""
    if np.ndim(rows) == 0:
        return int(rows)
    ordered = np.sort(np.atleast_1d(rows))
    return int((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def _to_join(few: NDArray[np.bool_], *, shared: bool) -> list[tuple[int | slice, int]]:
    if shared:
        return [(slice(None), int(feature)) for feature in np.flatnonzero(few.any(axis=0))]
    return [(int(row), int(feature)) for row, feature in np.argwhere(few)]


@lru_cache(maxsize=1024)
def _starts(sizes: tuple[int, ...], groups: int | None) -> Whole:
    """Where the groups of numbers with so many cells begin; those that one lacks are empty."""
    into = [cells.coarse_groups(size, groups=groups, is_number=True) for size in sizes]
    wide = max((int(found.max()) + 1 for found in into if len(found)), default=1)
    found = [np.searchsorted(one, np.arange(wide + 1)) for one in into]
    return np.array(found, dtype=np.int64).reshape(len(sizes), wide + 1)


def counts_per_block(places: Sequence[Counts], layout: Layout, length: int, most: int) -> Whole:
    """Rows of counts of the newest blocks, shape (B, cells of all), in the order of time.

    Args:
        places: the cell of every row, per feature; features with fewer rows than others have to
            be counted by themselves. Empty ones are left out.
        most: so many blocks are enough.
    """
    rows = max(len(place) for place in places)
    number = min(rows // length, most)
    # The oldest rows are left over: what comes next resembles the youngest most.
    block = np.repeat(np.arange(number), length) * layout.size
    flat = [
        block + offset + place[len(place) - number * length :]
        for place, offset in zip(places, layout.offsets[:-1], strict=True)
        if len(place)
    ]
    counted = sum(np.bincount(one, minlength=number * layout.size) for one in flat)
    return np.asarray(counted, dtype=np.int64).reshape(number, layout.size)
