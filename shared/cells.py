"""Tests of one row of counts against another: where it lies, how wide it is, and its shape.

All are rank or count tests with exact null variance. The monitor tests windows by them; the
reference calibrates them on its own blocks. Sources: Hájek, Šidák and Sen (1999), Theory of Rank
Tests, chapters 3 and 4 (van der Waerden, Klotz); Rao and Scott (1981), JASA 76, for counts of
rows that resemble their neighbours.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.probability import normal_density, normal_quantile
from shared.sketch import Counts

Floats = NDArray[np.float64]

LEAST_EXPECTED: Final = 5.0
"""Rows a group of cells must be expected to hold before chi square looks at it."""
GROUPS: Final = 10


def normal_scores(totals: Counts) -> Floats:
    """Van der Waerden scores of cells: the normal quantile of their middle rank."""
    rows = int(totals.sum())
    middle = (np.cumsum(totals) - totals + (totals + 1) / 2) / (rows + 1)
    return np.array([normal_quantile(float(p)) for p in middle])


def rank_z(counts: NDArray[np.int64], totals: Counts, scores: Floats) -> Floats:
    """How many standard errors the rows score above chance, by the permutation variance.

    Args:
        counts: of the window, shape (..., cells); each has to hold as many rows as the first.
        totals: of window and the rows it is compared with, shape (cells,).
        scores: of the cells: normal scores for location, their squares for scale.

    Returns:
        Shape (...); 0 where all rows lie in one cell, because then nothing can be said.
    """
    window, total = counts.sum(axis=-1).astype(np.float64), float(totals.sum())
    mean = float(totals @ scores) / total
    spread = float(totals @ np.square(scores - mean))
    variance = window * (total - window) / (total * (total - 1)) * spread
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (counts @ scores - window * mean) / np.sqrt(variance)
    return np.where(variance > 0, z, 0.0)


def groups_of(totals: Counts, window: int, *, merge: bool) -> NDArray[np.int64]:
    """To which group each cell belongs, so that every group is expected to hold enough rows.

    Args:
        totals: of window and reference, shape (cells,).
        window: rows in the window.
        merge: bring numeric cells down to ten first.
    """
    size = len(totals)
    first = np.arange(size) * GROUPS // size if merge and size > GROUPS else np.arange(size)
    expected = np.bincount(first, weights=totals) * window / max(int(totals.sum()), 1)
    joined = np.zeros(len(expected), dtype=np.int64)
    group, held, last = 0, 0.0, len(expected) - 1
    for place, rows in enumerate(expected):
        joined[place] = group
        held += float(rows)
        if held >= LEAST_EXPECTED and place < last:
            group, held = group + 1, 0.0
    if held < LEAST_EXPECTED and group:
        joined[joined == group] = group - 1
    return joined[first]


def grouped(counts: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts per group, shape (..., groups)."""
    into = np.zeros((len(groups), int(groups.max()) + 1), dtype=np.int64)
    into[np.arange(len(groups)), groups] = 1
    return counts @ into


def chi_square(counts: NDArray[np.int64], totals: Counts) -> Floats:
    """Pearson's statistic of windows against the rest; degrees of freedom are groups less one."""
    window, total = counts.sum(axis=-1, keepdims=True).astype(np.float64), float(totals.sum())
    rest = total - window
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.square(
            counts * np.sqrt(rest / window) - (totals - counts) * np.sqrt(window / rest)
        )
        parts = parts / totals
    return np.asarray(np.nansum(np.where(totals > 0, parts, 0.0), axis=-1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Shift:
    """How far something lies from the reference, and how sure that is."""

    estimate: float
    error: float


def location_shift(counts: Counts, reference: Counts) -> Shift:
    """Shift of the mean, in standard deviations of the reference."""
    return _shift(counts, reference, _location_scores(reference.tobytes()))


def scale_shift(counts: Counts, reference: Counts) -> Shift:
    """Logarithm of the standard deviation over that of the reference."""
    return _shift(counts, reference, _scale_scores(reference.tobytes()))


# The scores of a reference are asked for with every window; a few thousand features are kept.
@lru_cache(maxsize=4096)
def _location_scores(counts: bytes) -> Floats:
    reference = np.frombuffer(counts, dtype=np.int64)
    shares, z = _shares(reference)
    ends = np.array([normal_density(value) for value in z])
    return _inside(ends[:-1] - ends[1:], shares, reference)


@lru_cache(maxsize=4096)
def _scale_scores(counts: bytes) -> Floats:
    reference = np.frombuffer(counts, dtype=np.int64)
    shares, z = _shares(reference)
    ends = np.array([v * normal_density(v) if np.isfinite(v) else 0.0 for v in z])
    outer = _inside(np.zeros(len(shares)), shares, reference)
    return np.where(shares > 0, _ratio(ends[:-1] - ends[1:], shares), np.square(outer) - 1)


def _shares(reference: Counts) -> tuple[Floats, list[float]]:
    shares = reference / max(int(reference.sum()), 1)
    inner = [normal_quantile(float(p)) for p in np.cumsum(shares)[:-1]]
    empty = [p <= 0 for p in np.cumsum(shares)[:-1]]
    full = [p >= 1 - 1e-12 for p in np.cumsum(shares)[:-1]]
    bounds = [
        -np.inf if low else np.inf if high else z
        for z, low, high in zip(inner, empty, full, strict=True)
    ]
    return shares, [-np.inf, *bounds, np.inf]


def _inside(mass: Floats, shares: Floats, reference: Counts) -> Floats:
    """Mean normal score within each cell; cells without reference rows lie just outside."""
    rows = int(reference.sum())
    outside = -normal_quantile(0.5 / (rows + 1))
    before = np.cumsum(reference) - reference
    beyond = np.where(before * 2 < rows, -outside, outside)
    # An empty cell between full ones is no outlier: it takes the score of its quantile.
    middle = np.array(
        [normal_quantile(float((b + 0.5) / (rows + 1))) for b in np.minimum(before, rows)]
    )
    lone = np.where((before > 0) & (before < rows), middle, beyond)
    return np.where(shares > 0, _ratio(mass, shares), lone)


def _ratio(mass: Floats, shares: Floats) -> Floats:
    return np.divide(mass, shares, out=np.zeros(len(shares)), where=shares > 0)


def _shift(counts: Counts, reference: Counts, scores: Floats) -> Shift:
    shares = reference / max(int(reference.sum()), 1)
    information = float(shares @ np.square(scores))
    window, rows = int(counts.sum()), int(reference.sum())
    if information <= 0 or not window or not rows:
        return Shift(0.0, np.inf)
    estimate = float(counts @ scores) / window / information
    return Shift(estimate, float(np.sqrt((1 / window + 1 / rows) / information)))
