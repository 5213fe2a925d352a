"""Whether one model's losses are smaller than another's, with the uncertainty of saying so.

Everything takes d, the paired differences loss(other) - loss(candidate) per row: positive favours
the candidate. Chance comes in as a seed. Rows that follow each other in time are compared by block
means, independent rows by resampling, mistakes by their score interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.probability import normal_quantile, t_quantile

Differences = NDArray[np.float64]

DRAWS: Final = 4_999
BLOCKS: Final = 40
LEAST_BLOCKS: Final = 10
LEAST_ROWS: Final = 10
ROWS_PER_BLOCK: Final = 2
"""A short hold-out begins with fewer than 40 blocks, so that each still averages something."""
_CELLS_AT_ONCE: Final = 2_000_000
_MOST_DEGENERATE: Final = 0.01


class TooFewRows(Exception):
    """The rows cannot carry an interval; the gate stays shut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An estimate with its bounds, each one-sided at `confidence`.

    Together the bounds are a two-sided interval at 2 * confidence - 1.
    """

    estimate: float
    lower: float
    upper: float
    se: float
    rows: int
    test: str
    detail: str = ""


def block_means(d: Differences, confidence: float) -> Compared:
    """Bounds for rows in the order of time, whose losses may be alike from row to row.

    The hold-out is cut into 40 contiguous blocks (a short one into fewer, with two rows each);
    neighbours are joined while the lag-1 autocorrelation of block means exceeds 2 / sqrt(blocks).
    Blocks that differ by one row are weighted by their rows.

    Raises:
        TooFewRows: fewer than 10 blocks are left.
    """
    blocks = min(BLOCKS, max(LEAST_BLOCKS, len(d) // ROWS_PER_BLOCK))
    while blocks >= LEAST_BLOCKS and len(d) >= blocks:
        means, sizes = _blocks(d, blocks)
        if _lag_one(means) <= 2 / math.sqrt(blocks):
            return _of_blocks(means, sizes, confidence)
        blocks //= 2
    raise TooFewRows(
        f"{len(d)} rows leave fewer than {LEAST_BLOCKS} blocks that do not depend on each other"
    )


def _blocks(d: Differences, count: int) -> tuple[Differences, Differences]:
    parts = np.array_split(d, count)
    means = np.array([math.fsum(part) / len(part) for part in parts])
    return means, np.array([float(len(part)) for part in parts])


def _lag_one(means: Differences) -> float:
    centred = means - means.mean()
    total = float(np.sum(centred * centred))
    return float(np.sum(centred[:-1] * centred[1:])) / total if total > 0 else 0.0


def _of_blocks(means: Differences, sizes: Differences, confidence: float) -> Compared:
    rows = float(sizes.sum())
    estimate = math.fsum(means * sizes) / rows
    spread = math.fsum(sizes * np.square(means - estimate)) / (len(means) - 1)
    se = math.sqrt(spread / rows)
    reach = t_quantile(1 - confidence, len(means) - 1) * se
    return Compared(
        estimate=estimate,
        lower=estimate - reach,
        upper=estimate + reach,
        se=se,
        rows=int(rows),
        test="block_means_t",
        detail=f"{len(means)} contiguous blocks",
    )


def bootstrap_t(
    differences: Mapping[str, Differences], confidences: Mapping[str, float], seed: int
) -> dict[str, Compared]:
    """Bounds for independent rows, all comparisons from the same draws.

    Studentised: percentile intervals cover too little where losses are skewed.

    Args:
        differences: by a name; all of the same rows.
        confidences: by the same names.

    Raises:
        TooFewRows: fewer than 10 rows, or too few distinct losses to resample.

    Source: Efron and Tibshirani (1993), An introduction to the bootstrap, section 12.5.
    """
    table = np.vstack(list(differences.values()))
    if table.shape[1] < LEAST_ROWS:
        raise TooFewRows(f"{table.shape[1]} rows are fewer than {LEAST_ROWS}")
    pivots = _pivots(table, seed)
    return {
        name: _studentised(table[place], pivots[place], confidences[name])
        for place, name in enumerate(differences)
    }


def _pivots(table: Differences, seed: int) -> Differences:
    """t* of every comparison and draw, shape (comparisons, draws)."""
    count, rows = table.shape
    centres = table.mean(axis=1)
    generator = np.random.Generator(np.random.PCG64(seed))
    pivots = np.empty((count, DRAWS))
    at_once = max(1, _CELLS_AT_ONCE // rows)
    for start in range(0, DRAWS, at_once):
        stop = min(start + at_once, DRAWS)
        drawn = generator.integers(0, rows, size=(stop - start, rows), dtype=np.int32)
        for place in range(count):
            resampled = table[place][drawn]
            shift = resampled.mean(axis=1) - centres[place]
            se = resampled.std(axis=1, ddof=1) / math.sqrt(rows)
            with np.errstate(divide="ignore", invalid="ignore"):
                pivots[place, start:stop] = shift / se
    return pivots


def _studentised(d: Differences, pivots: Differences, confidence: float) -> Compared:
    rows = len(d)
    estimate = math.fsum(d) / rows
    se = float(d.std(ddof=1)) / math.sqrt(rows)
    if np.ptp(d) == 0:
        # The same difference on every row: there is nothing to be unsure about.
        lower = upper = estimate
    else:
        degenerate = ~np.isfinite(pivots)
        if degenerate.mean() > _MOST_DEGENERATE:
            raise TooFewRows(f"{rows} rows have too few distinct losses to resample")
        usable = pivots[~degenerate]
        lower = estimate - float(np.quantile(usable, confidence, method="higher")) * se
        upper = estimate - float(np.quantile(usable, 1 - confidence, method="lower")) * se
    return Compared(
        estimate=estimate,
        lower=lower,
        upper=upper,
        se=se,
        rows=rows,
        test="bootstrap_t",
        detail=f"{DRAWS} draws",
    )


def paired_mistakes(d: Differences, confidence: float) -> Compared:
    """Bounds for the difference of two shares of mistakes on the same independent rows.

    Args:
        d: -1, 0 or 1 per row.

    Raises:
        TooFewRows: fewer than 10 rows.

    Source: Tango (1998), Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design, Statistics in Medicine 17(8).
    """
    rows, only_other, only_candidate = len(d), int(np.sum(d > 0)), int(np.sum(d < 0))
    if rows < LEAST_ROWS:
        raise TooFewRows(f"{rows} rows are fewer than {LEAST_ROWS}")
    z = normal_quantile(confidence)
    return Compared(
        estimate=(only_other - only_candidate) / rows,
        lower=_tango_lower(only_other, only_candidate, rows, z),
        upper=-_tango_lower(only_candidate, only_other, rows, z),
        se=math.sqrt(only_other + only_candidate) / rows,
        rows=rows,
        test="tango_score",
        detail=f"{only_other} rows only the other gets wrong, {only_candidate} only the candidate",
    )


def _tango_lower(b: int, c: int, n: int, z: float) -> float:
    low, high = -1.0, (b - c) / n
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tango_score(b, c, n, middle) > z else (low, middle)
    return low


def tango_score(b: int, c: int, n: int, delta: float) -> float:
    """Z of the hypothesis that the shares differ by `delta`; McNemar's z at 0."""
    linear = -(b + c) + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    share = (root - linear) / (4 * n)
    variance = n * (2 * share + delta * (1 - delta))
    distance = b - c - n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def linearised_roots(other: Differences, candidate: Differences) -> Differences:
    """Differences per row whose mean is the difference of two root mean squares.

    Args:
        other, candidate: squared losses of the same rows.

    Source: the delta method.
    """
    roots = [math.sqrt(math.fsum(losses) / len(losses)) for losses in (other, candidate)]
    parts = [
        losses / (2 * root) if root > 0 else np.zeros_like(losses)
        for losses, root in zip((other, candidate), roots, strict=True)
    ]
    d: Differences = parts[0] - parts[1]
    d += (roots[0] - roots[1]) - d.mean()
    return d


def plain(compared: Compared) -> dict[str, Any]:
    """As JSON."""
    return {name: getattr(compared, name) for name in Compared.__slots__}


def is_finite(values: Sequence[float]) -> bool:
    """Whether all of them are numbers to decide by."""
    return all(math.isfinite(value) for value in values)
