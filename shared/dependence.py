"""Whether rows of a reference are independent, and whether its own blocks look alike.

Sources: Box and Pierce (1970), JASA 65, for correlations of neighbours; Clopper and Pearson (1934),
Biometrika 26, for how many alarms among the blocks are too many.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared import cells
from shared.budget import ALPHA, CATEGORY, NUMBER, NumberTest
from shared.moderation import without_each, witnesses
from shared.probability import binomial_tail, z_of
from shared.sketch import CategoryCells, Counts, Layout
from shared.stacks import Stack, counts_per_block, shapes
from shared.tails import chi_square_tails, normal_tails, t_tails

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

LEAST_ROWS: Final = 5000
"""With fewer rows, neighbours could resemble each other enough to matter without being caught."""
LAGS: Final = (1, 2, 3, 5, 8, 13, 24)
_WRONG: Final = 1e-3
"""How often independent rows are taken for dependent ones; that costs power, no false alarms."""
_SURE: Final = 0.01
_RANKS: Final[tuple[NumberTest, NumberTest]] = ("location", "scale")


def seems_independent(layout: Layout, places: Sequence[Counts], window: int) -> bool:
    """Whether nothing speaks against rows that know nothing of their neighbours.

    Neighbours must not resemble each other, blocks must vary no more than chance lets them, and
    judged as windows they must raise no more alarms than such rows would.
    """
    rows = max((len(place) for place in places), default=0)
    if rows < LEAST_ROWS or rows < 2 * window:
        return False
    values = [_values(layout, i, place) for i, place in enumerate(places) if len(place) == rows]
    known = [value for value in values if value.std() > 0]
    if not known or _resembles(known):
        return False
    columns = [place if len(place) == rows else place[:0] for place in places]
    counts = counts_per_block(columns, layout, min(window, rows // 2), most=400)
    members = [i for i, place in enumerate(columns) if len(place)]
    return not _varies(layout, members, counts) and _alarms(layout, members, counts) <= (
        most_alarms(len(counts))
    )


def most_alarms(blocks: int, alpha: float = ALPHA) -> int:
    """As many alarms of so many blocks are still chance; more happen in one of 100 cases."""
    alarms = 0
    while binomial_tail(alarms + 1, blocks, alpha) > _SURE:
        alarms += 1
    return alarms


def alarms_in_blocks(layout: Layout, places: Sequence[Counts], window: int, most: int) -> int:
    """How many blocks alarm by their ranks, each judged by factors learned from the others."""
    rows = max(len(place) for place in places)
    columns = [place if len(place) == rows else place[:0] for place in places]
    counts = counts_per_block(columns, layout, window, most)
    stack = Stack.of(layout, [i for i, place in enumerate(columns) if len(place)])
    alarmed = np.zeros(len(counts), dtype=np.bool_)
    for name, z in zip(_RANKS, _ranks(stack, counts), strict=True):
        moving = z[np.any(z, axis=1)]
        if len(moving):
            factors, free = without_each(moving)
            level = ALPHA * NUMBER[name] / len(layout.features)
            alarmed |= np.any(2 * t_tails(np.abs(moving / factors), free) <= level, axis=0)
    return int(alarmed.sum())


def _values(layout: Layout, feature: int, places: Counts) -> Floats:
    """One number per row: the score of its cell, or whether it has the most frequent level."""
    cell = layout.features[feature]
    counts = np.bincount(places, minlength=cell.size)
    if isinstance(cell, CategoryCells):
        return np.asarray(places == int(counts.argmax()), dtype=np.float64)
    scores = np.append(cells.location_scores(counts[:-1]), 0.0)
    return np.asarray(scores[places])


def _resembles(values: Sequence[Floats]) -> bool:
    lags = [lag for lag in LAGS if lag * 4 < len(values[0])]
    limit = z_of(_WRONG / (2 * len(values) * len(lags))) / np.sqrt(len(values[0]))
    for value in values:
        centred = value - value.mean()
        total = float(centred @ centred)
        if any(abs(float(centred[lag:] @ centred[:-lag])) > limit * total for lag in lags):
            return True
    return False


def _ranks(stack: Stack, counts: Whole) -> tuple[Floats, Floats]:
    """Location and scale of every block against the others, shape (F, B) each."""
    if not stack.features:
        return np.zeros((0, len(counts))), np.zeros((0, len(counts)))
    present = stack.present(counts)
    totals = present.sum(axis=0)
    scores = cells.normal_scores(totals)
    location = cells.rank_z(present, totals, scores)
    return location.T, cells.rank_z(present, totals, np.square(scores)).T


def _varies(layout: Layout, members: Sequence[int], counts: Whole) -> bool:
    """Whether blocks lie further apart than those of independent rows."""
    for z in _ranks(Stack.of(layout, members), counts):
        moving = z[np.any(z, axis=1)]
        if len(moving):
            spread = np.sqrt(2 / (witnesses(moving) * max(len(counts) - 1, 1)))
            if float(np.mean(np.square(moving))) > 1 + z_of(_WRONG) * spread:
                return True
    return False


def _alarms(layout: Layout, members: Sequence[int], counts: Whole) -> int:
    """How many blocks alarm by the levels of independent rows."""
    alarmed = np.zeros(len(counts), dtype=np.bool_)
    part = ALPHA / len(layout.features)
    stack = Stack.of(layout, members)
    for name, z in zip(_RANKS, _ranks(stack, counts), strict=True):
        if len(z):
            alarmed |= np.any(2 * normal_tails(np.abs(z)) <= part * NUMBER[name], axis=0)
    if stack.features:
        present = stack.present(counts)
        ((found, df),) = shapes(present, present.sum(axis=0)[None], [stack.tens])
        alarmed |= np.any(chi_square_tails(found, df) <= part * NUMBER["shape"], axis=1)
    for i in members:
        if isinstance(layout.features[i], CategoryCells):
            alarmed |= _category_alarms(
                counts[:, layout.offsets[i] : layout.offsets[i + 1] - 1], part
            )
    return int(alarmed.sum())


def _category_alarms(counts: Whole, part: float) -> NDArray[np.bool_]:
    totals = counts.sum(axis=0)
    groups = cells.joined_groups(totals, int(np.median(counts.sum(axis=1))))
    found = cells.chi_square(cells.grouped(counts, groups), cells.grouped(totals, groups))
    return np.asarray(chi_square_tails(found, float(groups.max())) <= part * CATEGORY["shape"])
