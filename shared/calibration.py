"""How far windows of neighbouring rows differ from the whole by chance alone.

Neighbours resemble each other, so a window may differ far more than independent rows would. Every
statistic is calibrated on blocks of the reference itself, each against all the others, with
variances moderated over the features.

Source: Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3(1), for the moderated variances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared import cells, probability
from shared.sketch import Cells, Counts, NumberCells

LEAST_BLOCKS: Final = 10
LEAST_LENGTH: Final = 20
_FREE: Final = 1e9
"""Degrees of freedom that stand for as many as one likes; JSON knows no infinity."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """By how much the statistics of one feature vary more than for independent rows; 1 is as much.

    Attributes:
        location, scale: factor of the standard error of the rank tests, at least 1.
        location_df, scale_df, shape_df: degrees of freedom of these factors.
        shape: mean of the chi square statistic over its degrees of freedom; `shape_cells` is the
            part of these that is left, because groups of cells rise and fall together, and
            `shape_spread` the factor of its z after both.
        low, high, missing: factor of the variance of the share in the lowest tenth, in the
            highest tenth, and missing.
    """

    location: float = 1.0
    location_df: float = _FREE
    scale: float = 1.0
    scale_df: float = _FREE
    shape: float = 1.0
    shape_cells: float = 1.0
    shape_spread: float = 1.0
    shape_df: float = _FREE
    low: float = 1.0
    high: float = 1.0
    missing: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The calibration for windows of up to `length` rows; None for a feature with too few."""

    length: int
    blocks: int
    factors: tuple[Factors | None, ...]


def scales_of(
    features: Sequence[Cells], places: Sequence[Counts], window: int, *, time_ordered: bool
) -> list[Scale]:
    """The calibration for windows of many lengths, `window` among them.

    Args:
        features: cells of each feature.
        places: the cell of every reference row, per feature, in the order of time.
        window: a length that is calibrated exactly.
        time_ordered: without an order rows count as independent where blocks are too few.
    """
    rows = max((len(p) for p in places), default=0)
    lengths = {round(LEAST_LENGTH * 2 ** (k / 2)) for k in range(40)} | {window}
    return [
        _scale(features, places, length)
        if rows // length >= LEAST_BLOCKS
        else Scale(length=length, blocks=0, factors=tuple(Factors() for _ in features))
        for length in sorted(lengths)
        # Rows without an order are taken as independent, so that blocks are not needed.
        if rows // length >= (LEAST_BLOCKS if time_ordered else 2)
    ]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The statistics of one feature in all blocks of one length."""

    location: Floats
    scale: Floats
    shape: Floats
    shape_groups: int
    low: float
    high: float
    missing: float

    @property
    def shape_factor(self) -> float:
        """By how much the statistic is larger than its degrees of freedom; at least 1."""
        return max(1.0, float(self.shape.mean()) / max(self.shape_groups, 1))


def _scale(features: Sequence[Cells], places: Sequence[Counts], length: int) -> Scale:
    found = [
        _blocks(cell, place, length) if len(place) // length >= LEAST_BLOCKS else None
        for cell, place in zip(features, places, strict=True)
    ]
    location = _moderated([None if b is None else b.location for b in found])
    scale = _moderated([None if b is None else b.scale for b in found])
    cells_left = _cells_left([b for b in found if b is not None])
    shape = _moderated([None if b is None else _shape_z(b, cells_left) for b in found])
    factors = [
        None
        if b is None
        else Factors(
            location=location[i][0],
            location_df=location[i][1],
            scale=scale[i][0],
            scale_df=scale[i][1],
            shape=b.shape_factor,
            shape_cells=cells_left,
            shape_spread=shape[i][0],
            shape_df=shape[i][1],
            low=b.low,
            high=b.high,
            missing=b.missing,
        )
        for i, b in enumerate(found)
    ]
    blocks = max(len(place) // length for place in places)
    return Scale(length=length, blocks=blocks, factors=tuple(factors))


def _blocks(cell: Cells, places: Counts, length: int) -> _Blocks:
    """Every block of a feature against all the others."""
    number = len(places) // length
    # The oldest rows are left over: what comes next resembles the youngest most.
    kept = places[len(places) - number * length :]
    flat = np.repeat(np.arange(number), length) * cell.size + kept
    counts = np.bincount(flat, minlength=number * cell.size).reshape(number, cell.size)
    present, totals = counts[:, :-1], counts[:, :-1].sum(axis=0)
    numeric = isinstance(cell, NumberCells) and totals.sum() > 0
    scores = cells.normal_scores(totals) if numeric else np.zeros(len(totals))
    groups = cells.groups_of(totals, length, merge=numeric)
    shape = cells.chi_square(cells.grouped(present, groups), cells.grouped(totals, groups))
    gone = np.append(np.zeros(cell.size - 1), 1.0)
    return _Blocks(
        location=cells.rank_z(present, totals, scores),
        scale=cells.rank_z(present, totals, np.square(scores)),
        shape=shape,
        shape_groups=int(groups.max()),
        low=_share_factor(present, totals, _tenth(totals)) if numeric else 1.0,
        high=_share_factor(present, totals, _tenth(totals[::-1])[::-1]) if numeric else 1.0,
        missing=_share_factor(counts, counts.sum(axis=0), gone),
    )


def _tenth(totals: Counts) -> Floats:
    """1 for the cells that hold the lowest tenth of the rows."""
    before = np.cumsum(totals) - totals
    return np.asarray(before * 10 < totals.sum(), dtype=np.float64)


def _share_factor(counts: NDArray[np.int64], totals: Counts, chosen: Floats) -> float:
    z = cells.rank_z(counts, totals, chosen)
    return max(1.0, float(np.mean(np.square(z))))


def _cells_left(blocks: Sequence[_Blocks]) -> float:
    """Which part of the degrees of freedom explains how much the statistics vary.

    A sum of unequal parts varies like fewer equal ones (Satterthwaite, 1946, Biometrics 2).
    """
    tested = [b for b in blocks if b.shape_groups and b.shape.mean() > 0]
    if not tested:
        return 1.0
    parts = [
        2 * b.shape.mean() ** 2 / max(b.shape.var(ddof=1), 1e-12) / b.shape_groups for b in tested
    ]
    return float(min(1.0, 1 / np.mean([1 / part for part in parts])))


def _shape_z(block: _Blocks, cells_left: float) -> Floats:
    df = block.shape_groups * cells_left
    if not df:
        return np.zeros(len(block.shape))
    tails = [
        probability.chi_square_sf(float(x) / block.shape_factor * cells_left, df)
        for x in block.shape
    ]
    return np.array([probability.z_of(p) for p in tails])


def _moderated(z: Sequence[Floats | None]) -> list[tuple[float, float]]:
    """Factor of the standard error and its degrees of freedom, per feature.

    Variances lean towards the one that all features suggest; features that move together do not
    count as several witnesses.
    """
    known = [i for i, found in enumerate(z) if found is not None and np.any(found)]
    answer = [(1.0, _FREE)] * len(z)
    groups: dict[int, list[int]] = {}
    for i in known:
        groups.setdefault(len(z[i]), []).append(i)  # type: ignore[arg-type] # None is not known
    for blocks, members in groups.items():
        together = np.stack([f for i in members if (f := z[i]) is not None])
        variances, df = _leaning(together, blocks - 1.0)
        for i, variance in zip(members, variances, strict=True):
            answer[i] = (float(np.sqrt(max(1.0, variance))), min(df, _FREE))
    return answer


def _leaning(z: Floats, d: float) -> tuple[Floats, float]:
    own = np.mean(np.square(z), axis=1)
    witnesses = _witnesses(z)
    if witnesses < 1.5:
        return own, d
    e = np.log(own) - probability.digamma(d / 2) + np.log(d / 2)
    excess = float(np.var(e, ddof=1)) - probability.trigamma(d / 2)
    prior = 2 * probability.trigamma_inverse(excess) if excess > 0 else np.inf
    offset = probability.digamma(prior / 2) - np.log(prior / 2) if np.isfinite(prior) else 0.0
    common = float(np.exp(np.mean(e) + offset))
    d0 = min(prior, (witnesses - 1) * d)
    return (d0 * common + d * own) / (d0 + d), d0 + d


def _witnesses(z: Floats) -> float:
    """How many independent features tell as much about a variance as these do."""
    norms = np.sqrt(np.sum(np.square(z), axis=1))
    alike = np.square((z @ z.T) / np.outer(norms, norms))
    return float(len(z) ** 2 / np.sum(alike))
