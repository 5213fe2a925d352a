"""The tests of one feature of a window, each with its part of the level."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from shared import cells, probability
from shared.calibration import Factors
from shared.events import FeatureDrift
from shared.sketch import CategoryCells, Cells, Counts, NumberCells

Severity = Literal["warning", "critical"]

TOLERATED_SHIFT: Final = 0.05
"""Reference standard deviations (or their logarithm, for scale) that are not worth a retraining."""
TOLERATED_SHARE: Final = 0.02
"""Change of a share that is not worth a retraining."""
_NUMBER: Final = {
    "location": 0.40,
    "scale": 0.25,
    "shape": 0.15,
    "missing": 0.10,
    "below": 0.05,
    "above": 0.05,
}
_CATEGORY: Final = {"shape": 0.60, "unseen": 0.30, "missing": 0.10}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tested:
    test: str
    statistic: float
    p: float
    effect: float
    surely: float
    """How large the effect is at least, at the level of the test, beyond what is tolerated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature of the window beside the same feature of the reference."""

    cells: Cells
    counts: Counts
    reference: Counts
    factors: Factors
    share: float
    """Of alpha, before it is parted over the tests."""

    @property
    def totals(self) -> Counts:
        return self.counts + self.reference

    @property
    def tail(self) -> float:
        """Design effect of a share in a tail: the steadiest estimate of how rows cluster."""
        f = self.factors
        return max(f.low, f.high, f.location**2)

    @property
    def independent(self) -> float:
        """To how many independent rows the window amounts."""
        return float(self.counts.sum()) / self.tail

    def level(self, weight: float) -> float:
        return self.share * weight


def worst(part: Feature, alpha: float) -> tuple[FeatureDrift, Severity | None]:
    """The most telling test of a feature, and how serious it is."""
    weights = _NUMBER if isinstance(part.cells, NumberCells) else _CATEGORY
    tested = list(_tests(part))
    worst = min(tested, key=lambda t: (t.p / weights[t.test], -abs(t.effect)))
    real = [t for t in tested if t.p <= part.level(weights[t.test])]
    severity: Severity | None = None
    if real:
        severity = "critical" if any(t.surely > 0 for t in real) else "warning"
    drift = FeatureDrift(
        feature=part.cells.name,
        test=worst.test,
        statistic=worst.statistic,
        p_value=min(1.0, worst.p / part.level(weights[worst.test]) * alpha),
        effect=worst.effect,
    )
    return drift, severity


def _tests(part: Feature) -> Iterator[_Tested]:
    if part.counts[:-1].sum() and part.reference[:-1].sum():
        if isinstance(part.cells, NumberCells):
            yield from _number_tests(part)
        else:
            yield _category_shape(part)
            yield _unseen(part, part.cells)
    yield _missing(part)


def _number_tests(part: Feature) -> Iterator[_Tested]:
    counts, totals = part.counts[:-1], part.totals[:-1]
    scores = cells.normal_scores(totals)
    f = part.factors
    z = float(cells.rank_z(counts, totals, scores)) / f.location
    shift = cells.location_shift(counts, part.reference[:-1])
    yield _ranked("location", z, f.location_df, shift, f.location, part.level(_NUMBER["location"]))
    z = float(cells.rank_z(counts, totals, np.square(scores))) / f.scale
    shift = cells.scale_shift(counts, part.reference[:-1])
    # Few independent rows make a sum of squares skewed; fewer degrees of freedom cover that.
    df = 1 / (1 / f.scale_df + 1 / part.independent)
    yield _ranked("scale", z, df, shift, f.scale, part.level(_NUMBER["scale"]))
    yield _number_shape(part)
    yield _outside(part, "below", int(part.counts[0]), part.tail)
    yield _outside(part, "above", int(part.counts[-2]), part.tail)


def _ranked(
    test: str, z: float, df: float, shift: cells.Shift, factor: float, level: float
) -> _Tested:
    p = 2 * probability.t_sf(abs(z), df)
    surely = -1.0
    if p <= level:
        reach = probability.t_quantile(level / 2, df) * factor * shift.error
        surely = abs(shift.estimate) - reach - TOLERATED_SHIFT
    return _Tested(test=test, statistic=z, p=min(p, 1.0), effect=shift.estimate, surely=surely)


def _number_shape(part: Feature) -> _Tested:
    counts, totals = part.counts[:-1], part.totals[:-1]
    groups = cells.groups_of(totals, int(counts.sum()), merge=True)
    # A shape that differs says nothing about what to do: where and how wide are tests of their own.
    return _shape(part, groups, surely=-1.0)


def _shape(part: Feature, groups: Counts, *, surely: float) -> _Tested:
    counts, totals = part.counts[:-1], part.totals[:-1]
    df, f = int(groups.max()), part.factors
    statistic, p = 0.0, 1.0
    if df:
        found = cells.chi_square(cells.grouped(counts, groups), cells.grouped(totals, groups))
        statistic = float(found) / f.shape
        tail = probability.chi_square_sf(statistic * f.shape_cells, df * f.shape_cells)
        p = probability.t_sf(probability.z_of(tail) / f.shape_spread, f.shape_df)
    shares = counts / counts.sum() - part.reference[:-1] / part.reference[:-1].sum()
    effect = float(shares[np.argmax(np.abs(shares))])
    return _Tested(test="shape", statistic=statistic, p=p, effect=effect, surely=surely)


def _category_shape(part: Feature) -> _Tested:
    counts, known = part.counts[:-1], part.reference[:-1]
    rows, factor = float(counts.sum()), part.factors.shape
    z = probability.z_of(part.level(_CATEGORY["shape"]) / (2 * len(counts)))
    shares = known / known.sum()
    more = [
        probability.share_bound(x / factor, rows / factor, z) - share
        for x, share in zip(counts, shares, strict=True)
    ]
    less = [
        probability.share_bound((rows - x) / factor, rows / factor, z) - (1 - share)
        for x, share in zip(counts, shares, strict=True)
    ]
    groups = cells.groups_of(part.totals[:-1], int(rows), merge=False)
    return _shape(part, groups, surely=max(*more, *less) - TOLERATED_SHARE)


def _unseen(part: Feature, category: CategoryCells) -> _Tested:
    """Rows of levels that the reference does not name, against its share of unseen ones.

    Good (1953), Biometrika 40: levels seen once tell how many rows come from unseen ones.
    """
    other = len(category.levels)
    once = int(np.sum(part.reference[:other] == 1)) + int(part.reference[other])
    return _more(
        "unseen", part, int(part.counts[other]), once, part.factors.shape, _CATEGORY["unseen"]
    )


def _outside(part: Feature, test: str, rows: int, factor: float) -> _Tested:
    return _more(test, part, rows, 0, factor, _NUMBER["below"])


def _more(test: str, part: Feature, x: int, y: int, factor: float, weight: float) -> _Tested:
    """More rows of a kind than the reference lets expect; rows count by their design effect."""
    window, rows = int(part.counts[:-1].sum()), int(part.reference[:-1].sum())
    few, marked = x // factor, x // factor + np.ceil(y / factor)
    p = probability.hypergeometric_sf(few, (window + rows) / factor, marked, window / factor)
    z = probability.z_of(part.level(weight))
    least = probability.share_bound(x / factor, window / factor, z)
    return _Tested(
        test=test,
        statistic=float(x),
        p=p,
        effect=x / window - y / rows,
        surely=least - y / rows - TOLERATED_SHARE,
    )


def _missing(part: Feature) -> _Tested:
    x, y = int(part.counts[-1]), int(part.reference[-1])
    window, rows = int(part.counts.sum()), int(part.reference.sum())
    factor = part.factors.missing
    m, total = round(window / factor), round((window + rows) / factor)
    marked = min(round((x + y) / factor), total)
    more = probability.hypergeometric_sf(x // factor, total, marked, m)
    fewer = probability.hypergeometric_sf((window - x) // factor, total, total - marked, m)
    z = probability.z_of(part.level(_NUMBER["missing"]) / 2)
    up = probability.share_bound(x / factor, window / factor, z) - y / rows
    down = probability.share_bound((window - x) / factor, window / factor, z) - (1 - y / rows)
    return _Tested(
        test="missing",
        statistic=float(x),
        p=min(1.0, 2 * min(more, fewer)),
        effect=x / window - y / rows,
        surely=max(up, down) - TOLERATED_SHARE,
    )
