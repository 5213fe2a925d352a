"""The numbers of a layout beside each other, so that one test looks at all of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared import cells
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
        tens, fine: to which of about 10 or 32 groups each cell belongs, shape (F, C, groups).
    """

    features: tuple[int, ...]
    gather: Whole
    gone: Whole
    above: Whole
    tens: Floats
    fine: Floats

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
            tens=_membership(sizes, most, cells.GROUPS),
            fine=_membership(sizes, most, None),
        )

    def present(self, counts: Whole) -> Whole:
        """Rows per cell, shape (..., F, C), of rows of counts, shape (..., cells of all)."""
        nothing = np.zeros((*counts.shape[:-1], 1), dtype=np.int64)
        return np.asarray(np.concatenate([counts, nothing], axis=-1)[..., self.gather])


def shapes(counts: Whole, totals: Whole, groups: Floats) -> tuple[Floats, Floats]:
    """Chi square of windows against the rest, and its degrees of freedom, shape (n, F) each.

    Args:
        counts: shape (n, F, C).
        totals: of window and rest, shape (n, F, C), or (1, F, C) when all share them.
        groups: to which group each cell belongs, shape (F, C, groups).
    """
    held, whole = (
        np.matmul(part.transpose(1, 0, 2), groups).transpose(1, 0, 2) for part in (counts, totals)
    )
    window = held.sum(axis=-1)
    statistic = cells.chi_square(held, whole)
    df = np.broadcast_to(np.maximum((whole > 0).sum(axis=-1) - 1.0, 0.0), statistic.shape).copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = whole * (window / whole.sum(axis=-1))[..., None]
    least = cells.least_expected(window)[..., None]
    few = np.any((expected < least) & (whole > 0), axis=-1)
    for row, feature in _to_join(few, shared=len(totals) == 1):
        total = whole[row if len(totals) > 1 else 0, feature]
        into = cells.joined_groups(total, int(np.median(window[row, feature])))
        merged = cells.grouped(held[row, feature], into), cells.grouped(total, into)
        statistic[row, feature] = cells.chi_square(*merged)
        df[row, feature] = float(into.max()) if len(into) else 0.0
    return np.nan_to_num(statistic), df


def _to_join(few: NDArray[np.bool_], *, shared: bool) -> list[tuple[int | slice, int]]:
    if shared:
        return [(slice(None), int(feature)) for feature in np.flatnonzero(few.any(axis=0))]
    return [(int(row), int(feature)) for row, feature in np.argwhere(few)]


def _membership(sizes: Sequence[int], most: int, groups: int | None) -> Floats:
    into = [cells.coarse_groups(size, groups=groups, is_number=True) for size in sizes]
    wide = max((int(found.max()) + 1 for found in into if len(found)), default=1)
    member = np.zeros((len(sizes), most, wide))
    for row, found in enumerate(into):
        member[row, np.arange(len(found)), found] = 1
    return member


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
