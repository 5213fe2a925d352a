"""Tests that need no draws: block means, entity sums, mistakes, areas under a curve."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.evaluator.comparison.intervals import Allowance, Discordant, Interval, Student
from services.evaluator.evidence import Floats
from services.evaluator.metrics import Insufficient

BLOCKS: Final = 40
LEAST_UNITS: Final = 10
ROWS_PER_BLOCK: Final = 2
"""A short hold-out begins with fewer than 40 blocks, so that each still averages something."""


def starting_blocks(rows: int) -> int:
    """How many blocks so many rows are cut into at first."""
    return min(BLOCKS, max(LEAST_UNITS, rows // ROWS_PER_BLOCK))


def lag_one(means: Floats) -> float:
    """Autocorrelation of neighbours."""
    centred = means - math.fsum(means) / len(means)
    total = math.fsum(centred * centred)
    return math.fsum(centred[:-1] * centred[1:]) / total if total > 0 else 0.0


def are_alike(means: Floats) -> bool:
    """Whether neighbouring blocks still depend on each other."""
    return lag_one(means) > 2 / math.sqrt(len(means))


def too_dependent(rows: int) -> Insufficient:
    """What is said when blocks cannot be made longer."""
    return Insufficient(
        f"{rows} rows leave fewer than {LEAST_UNITS} blocks that do not depend on each other"
    )


def block_means(d: Floats) -> Student:
    """Row differences in the order of time, which may be alike from row to row.

    The hold-out is cut into 40 contiguous blocks (a short one into fewer, with two rows each);
    neighbours are joined while the lag-1 autocorrelation of block means exceeds 2 / sqrt(blocks).
    Blocks that differ by one row are weighted by their rows.

    Raises:
        Insufficient: fewer than 10 blocks are left.
    """
    blocks = starting_blocks(len(d))
    while blocks >= LEAST_UNITS and len(d) >= blocks:
        parts = np.array_split(d, blocks)
        means = np.array([math.fsum(part) / len(part) for part in parts])
        if not are_alike(means):
            return _of_blocks(means, np.array([float(len(part)) for part in parts]))
        blocks //= 2
    raise too_dependent(len(d))


def _of_blocks(means: Floats, sizes: Floats) -> Student:
    rows = math.fsum(sizes)
    estimate = math.fsum(means * sizes) / rows
    spread = math.fsum(sizes * np.square(means - estimate)) / (len(means) - 1)
    return Student(
        estimate=estimate,
        se=math.sqrt(spread / rows),
        rows=int(rows),
        units=len(means),
        test="block_means_t",
        detail=f"{len(means)} contiguous blocks",
        df=len(means) - 1,
    )


def entity_sums(sums: Floats, sizes: Floats) -> Student:
    """Sums of row differences per entity, and rows per entity; a ratio of both is the mean.

    Raises:
        Insufficient: fewer than 10 entities.
    """
    entities, rows = len(sums), math.fsum(sizes)
    if entities < LEAST_UNITS:
        raise Insufficient(f"{entities} entities are fewer than {LEAST_UNITS}")
    estimate = math.fsum(sums) / rows
    spread = math.fsum(np.square(sums - estimate * sizes)) * entities / (entities - 1)
    return Student(
        estimate=estimate,
        se=math.sqrt(spread) / rows,
        rows=int(rows),
        units=entities,
        test="entity_sums_t",
        detail=f"{entities} entities",
        df=entities - 1,
    )


def mistakes(d: Floats) -> Discordant:
    """Differences of right (0) and wrong (1) on independent rows: -1, 0 or 1 each.

    Raises:
        Insufficient: fewer than 10 rows.
    """
    check_rows(len(d))
    rows, b, c = len(d), int(np.sum(d > 0)), int(np.sum(d < 0))
    return Discordant(
        estimate=(b - c) / rows,
        se=math.sqrt(max(b + c - (b - c) ** 2 / rows, 0.0)) / rows,
        rows=rows,
        units=rows,
        test="tango_score",
        detail=f"{b} rows only the other gets wrong, {c} only the candidate",
        b=b,
        c=c,
    )


def allowed_mistakes(losses: Floats, limit: float) -> Allowance:
    """What is left of a limit by the share of mistakes of independent rows.

    Raises:
        Insufficient: fewer than 10 rows.
    """
    check_rows(len(losses))
    rows, wrong = len(losses), int(losses.sum())
    share = wrong / rows
    return Allowance(
        estimate=limit - share,
        se=math.sqrt(share * (1 - share) / rows),
        rows=rows,
        units=rows,
        test="wilson_score",
        detail=f"{wrong} of {rows} rows wrong",
        limit=limit,
        mistakes=wrong,
    )


def check_rows(rows: int) -> None:
    """See that there are enough.

    Raises:
        Insufficient: there are fewer than 10.
    """
    if rows < LEAST_UNITS:
        raise Insufficient(f"{rows} rows are fewer than {LEAST_UNITS}")


# --- areas under a curve ----------------------------------------------------------------------

Side = tuple[Floats, NDArray[np.bool_]]


def areas(candidate: Sequence[Side], other: Sequence[Side] | float) -> Interval:
    """The area of the candidate less that of the other, or one minus it below a limit.

    Args:
        candidate, other: scores and positives, of two classes one pair, of more one pair for each
            class against the rest, whose areas are averaged.

    Raises:
        Insufficient: fewer than 10 rows of a class.

    Source: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44; by midranks as in Sun and Xu
    (2014), IEEE Signal Processing Letters 21(11).
    """
    for _, positive in candidate:
        _check_classes(int(positive.sum()), int((~positive).sum()))
    own = [_Area(scores, positive) for scores, positive in candidate]
    if isinstance(other, float):
        estimate = math.fsum(area.value - (1 - other) for area in own) / len(own)
        influences = [area.influence for area in own]
    else:
        against = [_Area(scores, positive) for scores, positive in other]
        pairs = list(zip(own, against, strict=True))
        estimate = math.fsum(mine.value - theirs.value for mine, theirs in pairs) / len(own)
        influences = [mine.influence - theirs.influence for mine, theirs in pairs]
    rows = len(candidate[0][0])
    classes = "" if len(own) == 1 else f", mean of {len(own)} classes against the rest"
    return Student(
        estimate=estimate,
        se=math.sqrt(_variance(influences, candidate[0][1])),
        rows=rows,
        units=rows,
        test="delong",
        detail=f"{int(candidate[0][1].sum())} positive rows{classes}",
        df=math.inf,
    )


def _check_classes(positives: int, negatives: int) -> None:
    if min(positives, negatives) < LEAST_UNITS:
        raise Insufficient(
            f"{positives} positive and {negatives} negative rows: "
            f"fewer than {LEAST_UNITS} of one class"
        )


class _Area:
    """An area and what each row adds to its deviation, shape (rows,)."""

    def __init__(self, scores: Floats, positive: NDArray[np.bool_]) -> None:
        m, n = int(positive.sum()), int((~positive).sum())
        pooled = doubled_midranks(scores)
        # Doubled ranks are whole numbers, so the area has no rounding before the division.
        above = pooled[positive] - doubled_midranks(scores[positive])
        below = pooled[~positive] - doubled_midranks(scores[~positive])
        self.value = int(above.sum()) / (2 * m * n)
        self.influence = np.empty(len(scores))
        self.influence[positive] = (above / (2 * n) - self.value) / m
        self.influence[~positive] = (1 - below / (2 * m) - self.value) / n


def doubled_midranks(values: Floats) -> NDArray[np.int64]:
    """Twice the rank of each value, from 1; equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(values)]]))
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.repeat(2 * starts + sizes + 1, sizes)
    return ranks


def _variance(influences: Sequence[Floats], positive: NDArray[np.bool_]) -> float:
    """Of two classes the sum over both of them, else over all rows: their classes are drawn too."""
    rows = len(positive)
    if len(influences) > 1:
        mean = np.add.reduce(influences) / len(influences)
        return math.fsum(np.square(mean)) * rows / (rows - 1)
    found = 0.0
    for side in (positive, ~positive):
        count = int(side.sum())
        found += math.fsum(np.square(influences[0][side])) * count / (count - 1)
    return found
