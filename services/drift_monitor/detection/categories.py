"""The tests of categories: their shares, the level that moved most, levels never seen, missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.finding import SHARE_PER_SHIFT, Finding
from services.drift_monitor.detection.prepared import NONE, Prepared
from services.drift_monitor.detection.scaling import Merged
from services.drift_monitor.detection.shares import Share
from shared import cells
from shared.budget import CATEGORY
from shared.calibration import Factors
from shared.probability import chi_square_sf, t_sf, z_of

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

NEAR: Final = 3.0
"""Standard errors within which no level is anywhere near to be called moved."""


def category_findings(base: Prepared, scales: Sequence[Merged], shift: float) -> list[Finding]:
    """The worst test of every category, and every other that shows a drift."""
    found = []
    for feature in base.categories:
        tested = [scale for scale in scales if scale.known.factors[feature] is not None]
        if tested:
            found += _Category.of(base, tested, feature, shift).findings()
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Category:
    """One category at all scales; its last two cells are other and missing.

    Attributes:
        counts: shape (scales, cells); `reference` shape (cells,).
        largest: at each scale the level whose share moved most, and by how many standard errors.
    """

    name: str
    features: int
    scales: Sequence[Merged]
    factors: tuple[Factors, ...]
    shift: float
    counts: Whole
    reference: Whole
    largest: Whole
    residual: Floats

    @classmethod
    def of(
        cls, base: Prepared, scales: Sequence[Merged], feature: int, shift: float
    ) -> "_Category":
        start, end = base.reference.layout.offsets[feature : feature + 2]
        counts = np.stack([scale.sketch.counts[start:end] for scale in scales])
        reference = base.counts[start:end]
        residuals = _residuals(counts[:, :-1], reference[:-1])
        largest = residuals.argmax(axis=1)
        return cls(
            name=base.reference.layout.features[feature].name,
            features=len(base.reference.counts),
            scales=scales,
            factors=tuple(scale.known.factors[feature] or NONE for scale in scales),
            shift=shift,
            counts=counts,
            reference=reference,
            largest=largest,
            residual=residuals[np.arange(len(scales)), largest],
        )

    def findings(self) -> list[Finding]:
        tested = [one for s in range(len(self.scales)) for one in self._tested(s)]
        part = {name: index for index, name in enumerate(CATEGORY)}
        worst = min(
            tested, key=lambda t: (t[2] / CATEGORY[t[0]] / self.scales[t[4]].each, part[t[0]])
        )
        return [
            self._finding(*one)
            for one in tested
            if one is worst or one[2] <= self._level(one[0], one[4])
        ]

    def _level(self, test: str, s: int) -> float:
        return self.scales[s].each / self.features * CATEGORY[test]

    def _tested(self, s: int) -> list[tuple[str, float, float, Share, int]]:
        """Test, statistic, p-value, the share that it is about, and the scale."""
        missing = self._missing(s)
        found = [("missing", float(missing.x), missing.either(), missing, s)]
        if not self.counts[s, :-1].any() or not self.reference[:-1].any():
            return found
        share, unseen = self._share(s, int(self.largest[s])), self._unseen(s)
        statistic, p = self._shape(s)
        z = float(self.residual[s]) / self.factors[s].shape ** 0.5
        return [
            ("shape", statistic, p, share, s),
            ("level", z, self._level_p(s, z, share), share, s),
            ("unseen", float(unseen.x), unseen.more(), unseen, s),
            *found,
        ]

    def _shape(self, s: int) -> tuple[float, float]:
        counts = self.counts[s, :-1]
        groups = _groups(self.reference[:-1].tobytes(), int(counts.sum()))
        df, f = int(groups.max()), self.factors[s]
        if not df:
            return 0.0, 1.0
        mine, whole = np.bincount(groups, counts), np.bincount(groups, counts + self.reference[:-1])
        statistic = float(cells.chi_square(mine, whole)) / f.shape
        x, left = statistic * f.shape_cells, df * f.shape_cells
        if x <= left + 2 * (2 * left) ** 0.5:
            # Nobody asks how likely it is to be near to what is expected.
            return statistic, 1.0
        p = chi_square_sf(x, left)
        if f.shape_spread > 1 or f.shape_df < 1e9:
            p = t_sf(z_of(p) / f.shape_spread, f.shape_df)
        return statistic, p

    def _level_p(self, s: int, z: float, share: Share) -> float:
        if z < NEAR:
            return 1.0
        levels = int(np.count_nonzero((self.counts[s] + self.reference)[:-1]))
        # A rare level has few rows, where only counting is exact.
        p = share.more() if share.effect > 0 else share.either() / 2
        return min(1.0, 2 * p * levels)

    def _share(self, s: int, level: int) -> Share:
        return Share(
            x=int(self.counts[s, level]),
            rows=int(self.counts[s, :-1].sum()),
            y=int(self.reference[level]),
            others=int(self.reference[:-1].sum()),
            factor=self.factors[s].shape,
        )

    def _unseen(self, s: int) -> Share:
        """Rows of levels that the reference does not name, against its share of unseen ones.

        Good (1953), Biometrika 40: levels seen once tell how many rows come from unseen ones.
        """
        once = int(np.sum(self.reference[:-2] == 1)) + int(self.reference[-2])
        return Share(
            x=int(self.counts[s, -2]),
            rows=int(self.counts[s, :-1].sum()),
            y=once,
            others=int(self.reference[:-1].sum()),
            factor=self.factors[s].shape,
        )

    def _missing(self, s: int) -> Share:
        return Share(
            x=int(self.counts[s, -1]),
            rows=int(self.counts[s].sum()),
            y=int(self.reference[-1]),
            others=int(self.reference.sum()),
            factor=self.factors[s].missing,
        )

    def _finding(self, test: str, statistic: float, p: float, share: Share, s: int) -> Finding:
        level, low, high = self._level(test, s), None, None
        is_large = False
        if p <= level:
            # The level whose share is told was chosen among all of them.
            chosen_of = len(self.reference) if test in ("shape", "level") else 1
            low, high = share.interval(level / chosen_of)
            tolerated = self.shift * SHARE_PER_SHIFT
            is_large = low > tolerated or high < -tolerated
        return Finding(
            feature=self.name,
            test=test,
            statistic=statistic,
            p=p,
            level=level,
            effect=share.effect,
            scale=self.scales[s].windows,
            low=low,
            high=high,
            is_large=is_large,
        )


def _residuals(counts: Whole, reference: Whole) -> Floats:
    """Of every level, in standard errors, shape (scales, levels)."""
    totals = counts + reference
    window, total = counts.sum(axis=1, keepdims=True), totals.sum(axis=1, keepdims=True)
    share = totals / np.maximum(total, 1)
    spread = window * share * (1 - share) * (total - window) / np.maximum(total - 1, 1)
    # Half a row less: counts are whole, the normal distribution is not.
    off = np.maximum(np.abs(counts - window * share) - 0.5, 0.0)
    return np.asarray(np.where(spread > 0, off / np.sqrt(np.maximum(spread, 1e-9)), 0.0))


@lru_cache(maxsize=4096)
def _groups(reference: bytes, window: int) -> Whole:
    """Levels that are looked at together; the reference alone says which, never the window."""
    return cells.joined_groups(np.frombuffer(reference, dtype=np.int64), window)
