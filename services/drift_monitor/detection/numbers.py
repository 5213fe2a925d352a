"""The tests of numbers: where they lie, how wide they are, their shape, and rows outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.finding import SHARE_PER_SHIFT, Finding
from services.drift_monitor.detection.prepared import NONE, Prepared, factors_of, is_tested
from services.drift_monitor.detection.scaling import Merged
from services.drift_monitor.detection.shares import Share
from shared import cells
from shared.budget import NUMBER
from shared.calibration import Factors
from shared.probability import t_quantile
from shared.stacks import shapes
from shared.tails import chi_square_tails, normal_tails, quantiles, t_tails

LEAST_TOLD: Final = 1e-9
"""Of a row about how wide a number is: two values of one share each tell nothing."""
NEAR: Final = 2.0
"""Standard errors within which no test is anywhere near its level."""
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """All tests of all numbers at all scales.

    Attributes:
        present: rows per cell, shape (scales, F, C); `gone` those that are missing, (scales, F).
        statistic, p: by test, each of shape (scales, F).
    """

    base: Prepared
    scales: Sequence[Merged]
    shift: float
    present: Whole
    gone: Whole
    statistic: dict[str, Floats]
    p: dict[str, Floats]

    @classmethod
    def of(cls, base: Prepared, scales: Sequence[Merged], shift: float) -> "Numbers":
        counts = np.stack([scale.sketch.counts for scale in scales])
        present, gone = base.stack.present(counts), counts[:, base.stack.gone]
        made = cls(base, scales, shift, present, gone, {}, {})
        made._rank()
        made._shape("shape", base.stack.tens)
        made._shape("fine shape", base.stack.fine)
        made._shares()
        return made

    def findings(self) -> list[Finding]:
        """The worst test of every feature, and every other that shows a drift."""
        found = []
        levels = np.array([scale.each for scale in self.scales])
        each = levels[:, None] / max(len(self.base.reference.counts), 1)
        surprise = np.stack([self.p[test] / (each * part) for test, part in NUMBER.items()])
        names = list(NUMBER)
        for f in range(len(self.base.stack.features)):
            mine = surprise[:, :, f]
            worst = np.unravel_index(int(np.argmin(mine)), mine.shape)
            wanted = {(int(worst[0]), int(worst[1]))}
            wanted |= {(int(t), int(s)) for t, s in np.argwhere(mine <= 1)}
            found += [self._finding(names[t], s, f) for t, s in sorted(wanted)]
        return found

    def _rank(self) -> None:
        totals = self.present + self.base.present
        scores = cells.normal_scores(totals)
        independent = self._independent()
        is_free = not self.scales[0].known.blocks
        for test, values in (("location", scores), ("scale", np.square(scores))):
            z = cells.rank_z(self.present, totals, values) / self._factors(test)
            df = self._factors(f"{test}_df")
            if is_free:
                # Cornish and Fisher (1938): what is left of a lopsided sum is normal.
                z = z - cells.skewness(self.present, totals, values) * (np.square(z) - 1) / 6
            elif test == "scale":
                # Few independent rows make a sum of squares skewed; fewer degrees cover that.
                df = 1 / (1 / df + 1 / np.maximum(independent, 1.0))
            self.statistic[test] = z
            self.p[test] = self._known(np.minimum(2 * _far_tails(np.abs(z), df), 1.0))

    def _shape(self, test: str, groups: Floats) -> None:
        found, df = shapes(self.present, self.present + self.base.present, groups)
        found = found / self._swelling(test)
        tail = _far_chi_square_tails(found, df)
        free = self._factors("location_df")
        if self.scales[0].known.blocks:
            # The factor is known from few blocks only: the same allowance as where it comes from.
            tail = _far_tails(-quantiles(tail), free)
        self.statistic[test] = found
        self.p[test] = self._known(np.where(df > 0, tail, 1.0))

    def _swelling(self, test: str) -> Floats:
        """By how much chi square is larger than for independent rows, at most.

        Where neighbours resemble each other it is a sum of parts that swell unevenly; far out the
        largest one decides, and that is nearly always where the rows lie.
        """
        means = self._factors("shape" if test == "shape" else "fine")
        ranks = [np.square(self._factors(name)) for name in ("location", "scale")]
        return np.asarray(np.maximum.reduce([means, *ranks]))

    def _shares(self) -> None:
        stack, rows = self.base.stack, np.arange(len(self.base.stack.features))
        self.statistic["missing"] = self.gone.astype(np.float64)
        self.statistic["below"] = self.present[:, :, 0].astype(np.float64)
        self.statistic["above"] = self.present[:, rows, stack.above].astype(np.float64)
        for test in ("missing", "below", "above"):
            p = np.ones(self.statistic[test].shape)
            wanted = self.statistic[test] > 0
            if test == "missing":
                wanted = wanted | (self.base.gone > 0)
            for s, f in np.argwhere(wanted):
                share = self._share(test, int(s), int(f))
                p[s, f] = share.either() if test == "missing" else share.more()
            self.p[test] = self._known(p)

    def _share(self, test: str, s: int, f: int) -> Share:
        factors = self._of(s, f)
        here, there = int(self.present[s, f].sum()), int(self.base.present[f].sum())
        if test == "missing":
            x, y = int(self.gone[s, f]), int(self.base.gone[f])
            return Share(x=x, rows=here + x, y=y, others=there + y, factor=factors.missing)
        cell = 0 if test == "below" else int(self.base.stack.above[f])
        x, y = int(self.present[s, f, cell]), int(self.base.present[f, cell])
        return Share(x=x, rows=here, y=y, others=there, factor=_tail(factors))

    def _finding(self, test: str, s: int, f: int) -> Finding:
        scale, p = self.scales[s], float(self.p[test][s, f])
        level = scale.each / max(len(self.base.reference.counts), 1) * NUMBER[test]
        effect, low, high = self._effect(test, s, f, level, is_real=p <= level)
        tolerated = self.shift * (1 if test in ("location", "scale") else SHARE_PER_SHIFT)
        is_large = p <= level and low is not None and high is not None
        is_large = is_large and (float(low or 0) > tolerated or float(high or 0) < -tolerated)
        return Finding(
            feature=self.base.reference.layout.features[self.base.stack.features[f]].name,
            test=test,
            statistic=float(self.statistic[test][s, f]),
            p=p,
            level=level,
            effect=effect,
            scale=scale.windows,
            low=low,
            high=high,
            is_large=is_large,
        )

    def _effect(
        self, test: str, s: int, f: int, level: float, *, is_real: bool
    ) -> tuple[float, float | None, float | None]:
        if test in ("location", "scale"):
            return self._moved(test, s, f, level)
        if test in ("missing", "below", "above"):
            share = self._share(test, s, f)
            # An exact interval takes a while; nobody asks for it where nothing has changed.
            low, high = share.interval(level) if is_real else (None, None)
            return share.effect, low, high
        here, there = self.present[s, f], self.base.present[f]
        apart = here / max(int(here.sum()), 1) - there / max(int(there.sum()), 1)
        # A shape that differs says nothing about what to do: where and how wide are other tests.
        return float(apart[np.argmax(np.abs(apart))]), None, None

    def _moved(
        self, test: str, s: int, f: int, level: float
    ) -> tuple[float, float | None, float | None]:
        """By how many reference standard deviations, or by which logarithm of their ratio."""
        base, factors = self.base, self._of(s, f)
        scores, told, factor, df = (
            (base.location[f], base.location_told[f], factors.location, factors.location_df)
            if test == "location"
            else (base.scale[f], base.scale_told[f], factors.scale, factors.scale_df)
        )
        here, rows = self.present[s, f], int(base.present[f].sum())
        window = int(here.sum())
        if told <= LEAST_TOLD or not window or not rows:
            return 0.0, None, None
        effect = float(here @ scores) / window / float(told)
        error = factor * float(np.sqrt((1 / window + 1 / rows) / told))
        reach = t_quantile(level / 2, df) * error
        return effect, effect - reach, effect + reach

    def _known(self, p: Floats) -> Floats:
        """Features that cannot be tested say nothing."""
        known = [is_tested(scale.known, self.base.stack.features) for scale in self.scales]
        return np.where(np.stack(known), p, 1.0)

    def _factors(self, name: str) -> Floats:
        features = self.base.stack.features
        return np.stack([factors_of(scale.known, name, features) for scale in self.scales])

    def _independent(self) -> Floats:
        """To how many independent rows each number of each scale amounts."""
        tails = [self._factors("low"), self._factors("high"), self._factors("location") ** 2]
        return np.asarray(self.present.sum(axis=-1) / np.max(tails, axis=0))

    def _of(self, s: int, f: int) -> Factors:
        return self.scales[s].known.factors[self.base.stack.features[f]] or NONE


def _far_tails(z: Floats, df: Floats) -> Floats:
    """Tails of Student's t, exact where they could matter: nearer, the normal ones will do."""
    tails = normal_tails(z)
    far = z > NEAR
    tails[far] = t_tails(z[far], df[far])
    return tails


def _far_chi_square_tails(x: Floats, df: Floats) -> Floats:
    """Tails of chi square, exact where they could matter.

    Source: Wilson and Hilferty (1931), PNAS 17(12), for the nearer ones.
    """
    unit = 2 / (9 * np.maximum(df, 0.1))
    z = (np.cbrt(x / np.maximum(df, 0.1)) - (1 - unit)) / np.sqrt(unit)
    tails = normal_tails(z)
    far = z > NEAR
    tails[far] = chi_square_tails(x[far], df[far])
    return np.where(df > 0, tails, 1.0)


def _tail(factors: Factors) -> float:
    """Design effect of a share in a tail: the steadiest estimate of how rows cluster."""
    return max(factors.low, factors.high, factors.location**2)
