"""The statistics of every block of a reference against all the others, feature by feature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared import cells
from shared.moderation import moderated
from shared.sketch import CategoryCells, Counts, Layout
from shared.stacks import Stack, counts_per_block, shapes
from shared.tails import chi_square_tails, quantiles

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

MOST_BLOCKS: Final = 400
"""The newest ones; more would hardly make the factors better known."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The statistics of one feature in all blocks of one length."""

    location: Floats
    scale: Floats
    shape: tuple[Floats, float]
    fine: tuple[Floats, float]
    low: float
    high: float
    missing: float


def blocks_of(
    layout: Layout, places: Sequence[Counts], members: Sequence[int], length: int
) -> dict[int, Blocks]:
    """Every block of these features against all the others."""
    nothing = np.zeros(0, dtype=np.int64)
    chosen = [places[i] if i in members else nothing for i in range(len(places))]
    counts = counts_per_block(chosen, layout, length, MOST_BLOCKS)
    found = _number_blocks(Stack.of(layout, members), counts)
    parts = layout.offsets
    for i in members:
        if isinstance(layout.features[i], CategoryCells):
            found[i] = _category_blocks(counts[:, parts[i] : parts[i + 1]])
    return found


def _number_blocks(stack: Stack, counts: Whole) -> dict[int, Blocks]:
    if not stack.features:
        return {}
    present = stack.present(counts)
    totals = present.sum(axis=0)
    scores = cells.normal_scores(totals)
    location = cells.rank_z(present, totals, scores)
    scale = cells.rank_z(present, totals, np.square(scores))
    (shape, shape_df), (fine, fine_df) = shapes(present, totals[None], [stack.tens, stack.fine])
    before = np.cumsum(totals, axis=-1) - totals
    after = totals.sum(axis=-1, keepdims=True) - before - totals
    whole = totals.sum(axis=-1, keepdims=True)
    low = _share_factors(present, totals, before * 10 < whole)
    high = _share_factors(present, totals, after * 10 < whole)
    missing = [_missing_factor(counts[:, gone], present[:, f]) for f, gone in enumerate(stack.gone)]
    return {
        feature: Blocks(
            location[:, f],
            scale[:, f],
            (shape[:, f], float(shape_df[0, f])),
            (fine[:, f], float(fine_df[0, f])),
            float(low[f]),
            float(high[f]),
            missing[f],
        )
        for f, feature in enumerate(stack.features)
    }


def _category_blocks(counts: Whole) -> Blocks:
    present = counts[:, :-1]
    totals = present.sum(axis=0)
    groups = cells.joined_groups(totals, int(np.median(present.sum(axis=1))))
    found = cells.chi_square(cells.grouped(present, groups), cells.grouped(totals, groups))
    shape = found, float(groups.max())
    none = np.zeros(len(counts))
    return Blocks(none, none, shape, (none, 0.0), 1.0, 1.0, _missing_factor(counts[:, -1], present))


def _share_factors(present: Whole, totals: Whole, chosen: NDArray[np.bool_]) -> Floats:
    z = cells.rank_z(present, totals, chosen.astype(np.float64))
    found: Floats = np.maximum(1.0, np.mean(np.square(z), axis=0))
    return found


def _missing_factor(gone: Whole, present: Whole) -> float:
    counts = np.column_stack([present.sum(axis=-1), gone])
    z = cells.rank_z(counts, counts.sum(axis=0), np.array([0.0, 1.0]))
    return max(1.0, float(np.mean(np.square(z))))


def shape_factors(
    found: Sequence[tuple[Floats, float]],
) -> list[tuple[float, float, float, float]]:
    """Mean factor, part of the degrees of freedom, factor of z, and degrees of freedom of that."""
    left = _cells_left(found)
    means = [max(1.0, float(x.mean()) / max(df, 1.0)) for x, df in found]
    z = [
        -quantiles(chi_square_tails(x / mean * left, df * left)) if df else np.zeros(len(x))
        for (x, df), mean in zip(found, means, strict=True)
    ]
    spread = moderated(z)
    return [(mean, left, *one) for mean, one in zip(means, spread, strict=True)]


def _cells_left(found: Sequence[tuple[Floats, float]]) -> float:
    """Which part of the degrees of freedom explains how much the statistics vary.

    A sum of unequal parts varies like fewer equal ones (Satterthwaite, 1946, Biometrics 2).
    """
    tested = [(x, df) for x, df in found if df and x.mean() > 0]
    if not tested:
        return 1.0
    parts = [2 * x.mean() ** 2 / max(x.var(ddof=1), 1e-12) / df for x, df in tested]
    return float(min(1.0, 1 / np.mean([1 / part for part in parts])))
