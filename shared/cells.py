"""Tests of rows of counts against others: where they lie, how wide they are, and their shape.

All are rank or count tests with exact null variance, and work on many features, windows or blocks
at once: cells are the last axis. The monitor tests windows by them; the reference calibrates them
on its own blocks. Sources: Hájek, Šidák and Sen (1999), Theory of Rank Tests, chapters 3 and 4
(van der Waerden, Klotz); Rao and Scott (1981), JASA 76, for counts of rows that resemble their
neighbours.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.sketch import Counts
from shared.tails import quantiles

Floats = NDArray[np.float64]

LEAST_EXPECTED: Final = 5.0
MOST_EXPECTED: Final = 20.0
_PER_ROW: Final = 1 / 50
_LEAST_SPREAD: Final = 1e-12
GROUPS: Final = 10


def normal_scores(totals: NDArray[np.int64]) -> Floats:
    """Van der Waerden scores of cells: the normal quantile of their middle rank."""
    rows = totals.sum(axis=-1, keepdims=True)
    return quantiles((np.cumsum(totals, axis=-1) - totals + (totals + 1) / 2) / (rows + 1))


def rank_z(counts: NDArray[np.int64], totals: NDArray[np.int64], scores: Floats) -> Floats:
    """How many standard errors the rows score above chance, by the permutation variance.

    Args:
        counts: of windows, shape (..., cells).
        totals: of window and the rows it is compared with, broadcast against `counts`.
        scores: of the cells: normal scores for location, their squares for scale.

    Returns:
        Shape (...); 0 where all rows lie in one cell, because then nothing can be said.
    """
    window = counts.sum(axis=-1).astype(np.float64)
    total = totals.sum(axis=-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (totals * scores).sum(axis=-1) / total
        spread = (totals * np.square(scores - mean[..., None])).sum(axis=-1)
        variance = window * (total - window) / (total * (total - 1)) * spread
        z = ((counts * scores).sum(axis=-1) - window * mean) / np.sqrt(variance)
    # What rounding leaves of equal scores is no variance.
    varies = (variance > 0) & (spread > _LEAST_SPREAD * total)
    return np.where(varies, np.nan_to_num(z), 0.0)


def skewness(counts: NDArray[np.int64], totals: NDArray[np.int64], scores: Floats) -> Floats:
    """How lopsided the sum of scores is by chance, shape (...); squares of scores are.

    Source: Cochran (1977), Sampling Techniques, chapter 2, for samples of a finite population.
    """
    window = counts.sum(axis=-1).astype(np.float64)
    total = totals.sum(axis=-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = scores - ((totals * scores).sum(axis=-1) / total)[..., None]
        second = (totals * off * off).sum(axis=-1) / total
        third = (totals * off * off * off).sum(axis=-1) / total
        rest = total - window
        shape = (rest - window) * np.sqrt((total - 1) / (window * rest)) / (total - 2)
        found = np.where(second > _LEAST_SPREAD, shape * third / second**1.5, 0.0)
    return np.asarray(np.nan_to_num(found, posinf=0.0, neginf=0.0))


def coarse_groups(cells: int, *, groups: int | None, is_number: bool) -> Counts:
    """To which group each cell belongs before any are joined; missing is left out.

    Args:
        cells: how many there are without the one for missing.
        groups: bring the inner cells of a number down to so many.
        is_number: below and above belong to the outermost cells then.
    """
    if not is_number:
        return np.arange(cells)
    inner = np.clip(np.arange(cells) - 1, 0, max(cells - 3, 0))
    size = int(inner[-1]) + 1
    if groups is None or size <= groups:
        return inner
    return np.asarray((groups * (inner + 0.5) / size).astype(np.int64))


def least_expected(window: Floats | float) -> Floats:
    """Rows a group of cells must be expected to hold before chi square looks at it.

    Five are the usual rule, for levels of a twentieth; levels near 1e-6 need more, where a window
    has them, because counts of few rows have a long tail.
    """
    return np.clip(np.asarray(window) * _PER_ROW, LEAST_EXPECTED, MOST_EXPECTED)


def joined_groups(totals: Counts, window: int) -> Counts:
    """To which group each cell belongs, so that every group is expected to hold enough rows.

    Args:
        totals: of window and reference, shape (cells,).
        window: rows in the window.
    """
    expected = totals * window / max(int(totals.sum()), 1)
    least = float(least_expected(window))
    if not len(expected) or expected.min() >= least:
        return np.arange(len(expected))
    joined = np.zeros(len(expected), dtype=np.int64)
    group, held, last = 0, 0.0, len(expected) - 1
    for place, rows in enumerate(expected.tolist()):
        joined[place] = group
        held += rows
        if held >= least and place < last:
            group, held = group + 1, 0.0
    if held < least and group:
        joined[joined == group] = group - 1
    return joined


def grouped(counts: NDArray[np.int64], groups: Counts) -> NDArray[np.int64]:
    """Counts per group, shape (..., groups)."""
    into = np.zeros((len(groups), int(groups.max()) + 1), dtype=np.int64)
    into[np.arange(len(groups)), groups] = 1
    return np.asarray(counts @ into)


def chi_square(counts: NDArray[np.int64], totals: NDArray[np.int64]) -> Floats:
    """Pearson's statistic of windows against the rest; degrees of freedom are groups less one."""
    window = np.asarray(counts.sum(axis=-1), dtype=np.float64)
    total = np.asarray(totals.sum(axis=-1), dtype=np.float64)
    rest = total - window
    # The sum of squares over expectations in its shorter form; empty groups add nothing to it.
    found = np.sum(np.square(counts) / np.maximum(totals, 1e-9), axis=-1)
    both = np.maximum(window * rest, 1e-9)
    return np.asarray(np.where(window * rest > 0, total / both * (total * found - window**2), 0.0))


def location_scores(reference: Counts) -> Floats:
    """Mean normal score within each cell, in standard deviations of the reference."""
    shares, z = _shares(reference)
    ends = _density(z)
    return _inside(ends[:-1] - ends[1:], shares, reference)


def scale_scores(reference: Counts) -> Floats:
    """Mean of the squared normal score within each cell, less one."""
    shares, z = _shares(reference)
    ends = np.clip(z, -40, 40) * _density(z)
    outer = _inside(np.zeros(len(shares)), shares, reference)
    return np.where(shares > 0, _ratio(ends[:-1] - ends[1:], shares), np.square(outer) - 1)


def _density(z: Floats) -> Floats:
    # Beyond forty nothing is left of it, at infinity neither.
    return np.asarray(np.exp(-np.square(np.clip(z, -40, 40)) / 2) / np.sqrt(2 * np.pi))


def _shares(reference: Counts) -> tuple[Floats, Floats]:
    shares = reference / max(int(reference.sum()), 1)
    reached = np.cumsum(reference)[:-1]
    rows = int(reference.sum())
    inner = quantiles(reached / max(rows, 1))
    inner = np.where(reached <= 0, -np.inf, np.where(reached >= rows, np.inf, inner))
    return shares, np.concatenate([[-np.inf], inner, [np.inf]])


def _inside(mass: Floats, shares: Floats, reference: Counts) -> Floats:
    """Mean normal score within each cell; cells without reference rows lie just outside."""
    rows = int(reference.sum())
    outside = -float(quantiles(0.5 / (rows + 1)))
    before = np.cumsum(reference) - reference
    beyond = np.where(before * 2 < rows, -outside, outside)
    # An empty cell between full ones is no outlier: it takes the score of its quantile.
    middle = quantiles((np.minimum(before, rows) + 0.5) / (rows + 1))
    lone = np.where((before > 0) & (before < rows), middle, beyond)
    return np.where(shares > 0, _ratio(mass, shares), lone)


def _ratio(mass: Floats, shares: Floats) -> Floats:
    return np.divide(mass, shares, out=np.zeros(len(shares)), where=shares > 0)
