"""The tests of numbers: where they lie, how wide they are, their shape, and rows outside."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.finding import Finding
from services.drift_monitor.detection.prepared import Numbers, Prepared
from services.drift_monitor.detection.ranks import Ranked, Summed, rank_tests
from services.drift_monitor.detection.scaling import Scales
from services.drift_monitor.detection.shares import Shares
from shared.budget import NUMBER, NumberTest
from shared.stacks import shapes_of
from shared.tails import chi_square_tails, quantiles, t_tails

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
_SHARES: Final = ("missing", "below", "above")
_TESTS: Final = tuple(NUMBER)
Tested = tuple[Floats, Floats]
"""Statistics and their p-values, (S, F) each."""


def number_findings(base: Prepared, scales: Scales, shift: float) -> list[Finding]:
    """The worst test of every number, and every other that shows a drift."""
    if not len(base.numbers.places):
        return []
    return _Windows.of(base, scales, shift).findings()


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """All numbers at all scales.

    Attributes:
        present: rows per cell, shape (S, F, C); `rows` their sums, (S, F).
        summed: the same with those of the reference; `ranked` are the tests by name of where they
            lie and how wide they are.
        factors: what is known of chance, by name, (S, F) each.
        shares: of the rows that are missing, below and above, one after the other, (S, 3 F).
    """

    base: Prepared
    known: Numbers
    scales: Scales
    shift: float
    present: Whole
    rows: Whole
    summed: Summed
    ranked: dict[str, Ranked]
    factors: dict[str, Floats]
    shares: Shares

    @classmethod
    def of(cls, base: Prepared, scales: Scales, shift: float) -> "_Windows":
        known, counts = base.numbers, scales.counts
        present = known.stack.present(counts)
        rows, gone = present.sum(axis=-1), counts.take(known.stack.gone, axis=1)
        factors = scales.factors(known.places)
        above = np.arange(len(known.places)), known.stack.above
        missing = Shares(
            x=gone,
            rows=rows + gone,
            y=known.gone,
            others=known.rows + known.gone,
            factor=factors["missing"],
        )
        outside = [
            Shares(x=x, rows=rows, y=y, others=known.rows, factor=factors["tail"])
            for x, y in (
                (present[:, :, 0], known.present[:, 0]),
                (present[:, *above], known.present[above]),
            )
        ]
        summed = Summed.of(present, known)
        return cls(
            base=base,
            known=known,
            scales=scales,
            shift=shift,
            present=present,
            rows=rows,
            summed=summed,
            ranked=rank_tests(summed, factors, is_free=not scales.chances[0].blocks),
            factors=factors,
            shares=Shares.beside([missing, *outside]),
        )

    def findings(self) -> list[Finding]:
        """The worst test of every feature, and every other that shows a drift."""
        ranked = {test: (one.z, one.p) for test, one in self.ranked.items()}
        found = ranked | self._shapes() | self._outside()
        tested = self.scales.tested.take(self.known.places, axis=1)
        shape = len(NUMBER), *self.rows.shape
        statistic = np.concatenate([found[test][0] for test in NUMBER]).reshape(shape)
        # Features that cannot be tested say nothing.
        p = np.concatenate([found[test][1] for test in NUMBER]).reshape(shape)
        p = np.where(tested, p, 1.0)
        part = np.array(list(NUMBER.values()))[:, None]
        level = self.scales.each / max(len(self.base.names), 1) * part
        surprise = p / level[:, :, None]
        features = surprise.shape[-1]
        worst = surprise.reshape(-1, features).argmin(axis=0)
        wanted = surprise <= 1
        wanted.reshape(-1, features)[worst, np.arange(features)] = True
        # Feature by feature.
        f, t, s = np.nonzero(wanted.transpose(2, 0, 1))
        names = [_TESTS[test] for test in t.tolist()]
        told = s, f, statistic[t, s, f], p[t, s, f], level[t, s]
        return list(map(self._finding, names, *(part.tolist() for part in told)))

    def _shapes(self) -> dict[str, Tested]:
        stack = self.known.stack
        tens, fine = shapes_of(self.summed.before, self.summed.all_before, [stack.tens, stack.fine])
        return {"shape": self._shape("shape", *tens), "fine shape": self._shape("fine", *fine)}

    def _shape(self, mean: str, found: Floats, df: Floats) -> Tested:
        found = found / self._swelling(mean)
        tail = chi_square_tails(found, df)
        if not self._is_free:
            # The factor is known from few blocks only: the same allowance as where it comes from.
            tail = t_tails(-quantiles(tail), self.factors["location_df"])
        return found, np.where(df > 0, tail, 1.0)

    def _swelling(self, mean: str) -> Floats:
        """By how much chi square is larger than for independent rows, at most.

        Where neighbours resemble each other it is a sum of parts that swell unevenly; far out the
        largest one decides, and that is nearly always where the rows lie.
        """
        ranks = [np.square(self.factors[name]) for name in ("location", "scale")]
        return np.asarray(np.maximum.reduce([self.factors[mean], *ranks]))

    def _outside(self) -> dict[str, Tested]:
        size = len(self.known.places)
        p = self.shares.tails(np.arange(3 * size) < size)
        x = self.shares.x.astype(np.float64)
        parts = {name: slice(i * size, (i + 1) * size) for i, name in enumerate(_SHARES)}
        return {name: (x[:, part], p[:, part]) for name, part in parts.items()}

    @property
    def _is_free(self) -> bool:
        return not self.scales.chances[0].blocks

    def _finding(
        self, test: NumberTest, s: int, f: int, statistic: float, p: float, level: float
    ) -> Finding:
        effect, low, high = self._effect(test, s, f, level, is_real=p <= level)
        return Finding(
            feature=self.base.names[self.known.stack.features[f]],
            test=test,
            statistic=statistic,
            p=p,
            level=level,
            effect=effect,
            scale=self.scales.windows[s],
            low=low,
            high=high,
            shift=self.shift,
        )

    def _effect(
        self, test: str, s: int, f: int, level: float, *, is_real: bool
    ) -> tuple[float, float | None, float | None]:
        if ranked := self.ranked.get(test):
            return float(ranked.effect[s, f]), *ranked.interval(s, f, level)
        if test in _SHARES:
            share = self.shares.at(s, _SHARES.index(test) * len(self.known.places) + f)
            # An exact interval takes a while; nobody asks for it where nothing has changed.
            low, high = share.interval(level) if is_real else (None, None)
            return share.effect, low, high
        here, there = self.present[s, f], self.known.present[f]
        apart = here / max(int(self.rows[s, f]), 1) - there / max(int(self.known.rows[f]), 1)
        # A shape that differs says nothing about what to do: where and how wide are other tests.
        return float(apart[np.argmax(np.abs(apart))]), None, None
