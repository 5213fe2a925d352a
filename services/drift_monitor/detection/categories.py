"""The tests of categories: their shares, the level that moved most, levels never seen, missing."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.drift_monitor.detection.finding import SHARE_PER_SHIFT, Finding
from services.drift_monitor.detection.prepared import NONE, Prepared
from services.drift_monitor.detection.scaling import Merged
from services.drift_monitor.detection.shares import Share
from shared import cells, probability
from shared.budget import CATEGORY
from shared.calibration import Factors
from shared.sketch import CategoryCells, Counts


def category_findings(base: Prepared, scales: tuple[Merged, ...], shift: float) -> list[Finding]:
    """The worst test of every category, and every other that shows a drift."""
    found = []
    for feature in base.categories:
        cell = base.reference.layout.features[feature]
        assert isinstance(cell, CategoryCells)  # noqa: S101 - for the type checker
        mine = [
            one
            for scale in scales
            if scale.known.factors[feature] is not None
            for one in _tested(_category(base, scale, feature, cell), shift)
        ]
        worst = min(mine, key=lambda one: one.surprise, default=None)
        found += [one for one in mine if one is worst or one.surprise <= 1]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Category:
    """One category of the window beside the reference; the last two cells are other and missing."""

    cells: CategoryCells
    counts: Counts
    reference: Counts
    factors: Factors
    level: float
    scale: int

    @property
    def rows(self) -> int:
        return int(self.counts[:-1].sum())

    @property
    def others(self) -> int:
        return int(self.reference[:-1].sum())

    def finding(self, test: str, statistic: float, p: float, effect: float) -> Finding:
        return Finding(
            feature=self.cells.name,
            test=test,
            statistic=statistic,
            p=min(p, 1.0),
            level=self.level * CATEGORY[test],
            effect=effect,
            scale=self.scale,
        )


def _category(base: Prepared, scale: Merged, feature: int, cell: CategoryCells) -> _Category:
    start, end = base.reference.layout.offsets[feature : feature + 2]
    return _Category(
        cells=cell,
        counts=scale.sketch.counts[start:end],
        reference=base.counts[start:end],
        factors=scale.known.factors[feature] or NONE,
        level=scale.each / len(base.reference.counts),
        scale=scale.windows,
    )


def _tested(part: _Category, shift: float) -> Iterator[Finding]:
    if part.rows and part.others:
        largest, share = _largest(part)
        yield _sure(_shape(part, share), share, shift, len(part.counts))
        yield _sure(_residual(part, largest, share), share, shift, len(part.counts))
        unseen = _unseen(part)
        found = part.finding("unseen", float(unseen.x), unseen.more(), unseen.effect)
        yield _sure(found, unseen, shift, 1)
    gone = Share(
        x=int(part.counts[-1]),
        rows=int(part.counts.sum()),
        y=int(part.reference[-1]),
        others=int(part.reference.sum()),
        factor=part.factors.missing,
    )
    yield _sure(part.finding("missing", float(gone.x), gone.either(), gone.effect), gone, shift, 1)


def _sure(found: Finding, share: Share, shift: float, chosen_of: int) -> Finding:
    """With the interval of the share, where the finding is real; it was chosen of so many."""
    if found.surprise > 1:
        return found
    low, high = share.interval(found.level / chosen_of)
    tolerated = shift * SHARE_PER_SHIFT
    return Finding(
        feature=found.feature,
        test=found.test,
        statistic=found.statistic,
        p=found.p,
        level=found.level,
        effect=found.effect,
        scale=found.scale,
        low=low,
        high=high,
        is_large=low > tolerated or high < -tolerated,
    )


def _shape(part: _Category, share: Share) -> Finding:
    counts, totals = part.counts[:-1], (part.counts + part.reference)[:-1]
    groups = cells.joined_groups(totals, part.rows)
    df, f = int(groups.max()), part.factors
    statistic, p = 0.0, 1.0
    if df:
        found = cells.chi_square(cells.grouped(counts, groups), cells.grouped(totals, groups))
        statistic = float(found) / f.shape
        x, left = statistic * f.shape_cells, df * f.shape_cells
        # Nobody asks how likely it is to be near to what is expected.
        p = probability.chi_square_sf(x, left) if x > left + 2 * (2 * left) ** 0.5 else 0.5
        if p < 0.5 and (f.shape_spread > 1 or f.shape_df < 1e9):
            p = probability.t_sf(probability.z_of(p) / f.shape_spread, f.shape_df)
    return part.finding("shape", statistic, p, share.effect)


def _largest(part: _Category) -> tuple[float, Share]:
    """The largest residual in standard errors, and the share of its level."""
    counts, totals = part.counts[:-1], (part.counts + part.reference)[:-1]
    window, total = part.rows, part.rows + part.others
    share = totals / total
    spread = window * share * (1 - share) * part.others / (total - 1)
    off = np.abs(counts - window * share)
    # Half a row less: counts are whole, the normal distribution is not.
    residuals = np.maximum(off - 0.5, 0.0) / np.sqrt(np.maximum(spread, 1e-9))
    residuals[spread <= 0] = 0.0
    level = int(residuals.argmax())
    return float(residuals[level]), Share(
        x=int(counts[level]),
        rows=window,
        y=int(part.reference[level]),
        others=part.others,
        factor=part.factors.shape,
    )


def _residual(part: _Category, largest: float, share: Share) -> Finding:
    levels = int(np.count_nonzero((part.counts + part.reference)[:-1]))
    # A rare level has few rows, where only counting is exact.
    p = share.more() if share.effect > 0 else share.either() / 2
    z = largest / part.factors.shape**0.5
    return part.finding("level", z, min(1.0, 2 * p * levels), share.effect)


def _unseen(part: _Category) -> Share:
    """Rows of levels that the reference does not name, against its share of unseen ones.

    Good (1953), Biometrika 40: levels seen once tell how many rows come from unseen ones.
    """
    other = len(part.cells.levels)
    once = int(np.sum(part.reference[:other] == 1)) + int(part.reference[other])
    return Share(
        x=int(part.counts[other]),
        rows=part.rows,
        y=once,
        others=part.others,
        factor=part.factors.shape,
    )
