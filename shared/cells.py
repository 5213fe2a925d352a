"""Tests of rows of counts against others: where they lie, how wide they are, and their shape.

All are rank or count tests with exact null variance, and work on many features, windows or blocks
at once: cells are the last axis. The monitor tests windows by them; the reference calibrates them
on its own blocks. Sources: Hájek, Šidák and Sen (1999), Theory of Rank Tests, chapters 3 and 4
(van der Waerden, Klotz); Rao and Scott (1981), JASA 76, for counts of rows that resemble their
neighbours.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.sketch import Counts
from shared.tails import quantiles

Floats = NDArray[np.float64]
Rows = NDArray[np.int64] | Floats
"""Counts of rows, whole either way."""

LEAST_EXPECTED: Final = 5.0
MOST_EXPECTED: Final = 20.0
_PER_ROW: Final = 1 / 50
_LEAST_SPREAD: Final = 1e-12
GROUPS: Final = 10


def normal_scores(totals: Rows) -> Floats:
    """Van der Waerden scores of cells: the normal quantile of their middle rank; 0 if empty."""
    return scores_of_ranks(totals, reached(totals))


def reached(counts: Rows) -> Floats:
    """Rows before each cell, and before the end of the last one, shape (..., cells + 1)."""
    found = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1), dtype=counts.dtype)
    np.cumsum(counts, axis=-1, out=found[..., 1:])
    return np.asarray(found, dtype=np.float64)


def scores_of_ranks(totals: Rows, before: Floats) -> Floats:
    """Normal scores where it is known already how many rows lie before each cell, see `reached`."""
    ranks = (before[..., :-1] + (totals + 1) / 2) / (before[..., -1:] + 1)
    # Many cells are there only because another feature has so many.
    scores, held = np.zeros(ranks.shape), totals > 0
    scores[held] = quantiles(ranks[held])
    return scores


def rank_z(counts: Rows, totals: Rows, scores: Floats) -> Floats:
    """How many standard errors the rows score above chance, by the permutation variance.

    Args:
        counts: of windows, shape (..., cells).
        totals: of window and the rows it is compared with, broadcast against `counts`.
        scores: of the cells: normal scores for location, their squares for scale.

    Returns:
        Shape (...); 0 where all rows lie in one cell, because then nothing can be said.
    """
    return Ranks.of(counts, totals, scores).z()


def skewness(counts: Rows, totals: Rows, scores: Floats) -> Floats:
    """How lopsided the sum of scores is by chance, shape (...); squares of scores are."""
    return Ranks.of(counts, totals, scores).skewness()


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """What both have in common, see `rank_z`.

    Attributes:
        window, total: rows, shape (...).
        off: scores less the mean score of all rows, shape (..., cells).
        squares: of these, added over the rows of each cell; `spread` their sum, shape (...).
    """

    counts: Rows
    window: Floats
    total: Floats
    off: Floats
    squares: Floats
    spread: Floats

    @classmethod
    def of(cls, counts: Rows, totals: Rows, scores: Floats) -> "Ranks":
        """The sums over all cells."""
        window, total = (np.asarray(rows.sum(axis=-1), np.float64) for rows in (counts, totals))
        return cls.scored(counts, totals, scores, window, total)

    @classmethod
    def scored(
        cls, counts: Rows, totals: Rows, scores: Floats, window: Floats, total: Floats
    ) -> "Ranks":
        """The same where the sums of both are known already."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.vecdot(totals, scores) / total
            off = scores - mean[..., None]
            squares = totals * off
            spread = np.vecdot(squares, off)
            squares *= off
        return cls(counts, window, total, off, squares, spread)

    def z(self) -> Floats:
        """How many standard errors the rows score above chance."""
        window, total = self.window, self.total
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = window * (total - window) / (total * (total - 1)) * self.spread
            # What rounding leaves of equal scores is no variance.
            varies = (variance > 0) & (self.spread > _LEAST_SPREAD * total)
            above = np.vecdot(self.counts, self.off)
            found = np.zeros_like(above)
            np.divide(above, np.sqrt(variance), out=found, where=varies)
        return np.asarray(found)

    def skewness(self) -> Floats:
        """How lopsided the sum of scores is by chance.

        Source: Cochran (1977), Sampling Techniques, chapter 2, for samples of a finite population.
        """
        window, total = self.window, self.total
        with np.errstate(divide="ignore", invalid="ignore"):
            second, third = self.spread / total, np.vecdot(self.squares, self.off) / total
            rest = total - window
            shape = (rest - window) * np.sqrt((total - 1) / (window * rest)) / (total - 2)
            found = np.where(second > _LEAST_SPREAD, shape * third / second**1.5, 0.0)
        return np.asarray(np.where(np.isfinite(found), found, 0.0))


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
    least = np.maximum(np.asarray(window) * _PER_ROW, LEAST_EXPECTED)
    return np.asarray(np.minimum(least, MOST_EXPECTED))


def joined_groups(totals: Rows, window: int) -> Counts:
    """To which group each cell belongs, so that every group is expected to hold enough rows.

    Args:
        totals: of window and reference, shape (cells,).
        window: rows in the window.
    """
    expected = totals * window / max(int(totals.sum()), 1)
    least = float(least_expected(window))
    if not len(expected) or expected.min() >= least:
        return np.arange(len(expected))
    joined: list[int] = []
    group, held, last = 0, 0.0, len(expected) - 1
    for place, rows in enumerate(expected.tolist()):
        joined.append(group)
        held += rows
        if held >= least and place < last:
            group, held = group + 1, 0.0
    if held < least and group:
        return np.minimum(joined, group - 1)
    return np.array(joined)


def grouped(counts: Rows, groups: Counts) -> Rows:
    """Counts per group, shape (..., groups), of cells that are joined with their neighbours."""
    starts = np.searchsorted(groups, np.arange(int(groups[-1]) + 1))
    return np.asarray(np.add.reduceat(counts, starts, axis=-1))


def chi_square(counts: Rows, totals: Rows, *, is_padded: bool = False) -> Floats:
    """Pearson's statistic of windows against the rest; degrees of freedom are groups less one.

    Args:
        is_padded: whether some have empty groups at their end, which must not change a digit.
    """
    window, total = (np.asarray(rows.sum(axis=-1), np.float64) for rows in (counts, totals))
    parts = np.square(counts) / np.maximum(totals, 1)
    # One after the other, nothing that is added at the end plays a part; a sum takes them in pairs.
    found = np.cumsum(parts, axis=-1)[..., -1] if is_padded else np.sum(parts, axis=-1)
    return chi_square_of(found, window, total)


def chi_square_of(found: Floats, window: Floats, total: Floats) -> Floats:
    """The statistic by the sum of the groups' squared rows over their totals; empty ones add none.

    This is the sum of squares over expectations in its shorter form.
    """
    both = window * (total - window)
    statistic = total / np.maximum(both, 1e-9) * (total * found - np.square(window))
    return np.asarray(np.where(both > 0, statistic, 0.0))


def location_scores(reference: Counts) -> Floats:
    """Mean normal score within each cell, in standard deviations of the reference, shape (..., C).

    Args:
        reference: rows per cell, shape (..., C); one row of cells is a reference by itself.
    """
    shares, z = _shares(reference)
    ends = _density(z)
    return _inside(ends[..., :-1] - ends[..., 1:], shares, reference)


def scale_scores(reference: Counts) -> Floats:
    """Mean of the squared normal score within each cell, less one, shape (..., C)."""
    shares, z = _shares(reference)
    ends = np.clip(z, -40, 40) * _density(z)
    outer = _inside(np.zeros(shares.shape), shares, reference)
    mass = ends[..., :-1] - ends[..., 1:]
    return np.where(shares > 0, _ratio(mass, shares), np.square(outer) - 1)


def _density(z: Floats) -> Floats:
    # Beyond forty nothing is left of it, at infinity neither.
    return np.asarray(np.exp(-np.square(np.clip(z, -40, 40)) / 2) / np.sqrt(2 * np.pi))


def _shares(reference: Counts) -> tuple[Floats, Floats]:
    rows = reference.sum(axis=-1, keepdims=True)
    shares = reference / np.maximum(rows, 1)
    reached = np.cumsum(reference, axis=-1)[..., :-1]
    inner = quantiles(reached / np.maximum(rows, 1))
    inner = np.where(reached <= 0, -np.inf, np.where(reached >= rows, np.inf, inner))
    end = np.full((*inner.shape[:-1], 1), np.inf)
    return shares, np.concatenate([-end, inner, end], axis=-1)


def _inside(mass: Floats, shares: Floats, reference: Counts) -> Floats:
    """Mean normal score within each cell; cells without reference rows lie just outside."""
    rows = reference.sum(axis=-1, keepdims=True)
    outside = -quantiles(0.5 / (rows + 1))
    before = np.cumsum(reference, axis=-1) - reference
    beyond = np.where(before * 2 < rows, -outside, outside)
    # An empty cell between full ones is no outlier: it takes the score of its quantile.
    middle = quantiles((np.minimum(before, rows) + 0.5) / (rows + 1))
    lone = np.where((before > 0) & (before < rows), middle, beyond)
    return np.where(shares > 0, _ratio(mass, shares), lone)


def _ratio(mass: Floats, shares: Floats) -> Floats:
    return np.divide(mass, shares, out=np.zeros(shares.shape), where=shares > 0)
