"""The tests of categories: their shares, the level that moved most, levels never seen, missing."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.finding import Finding
from services.drift_monitor.detection.prepared import Prepared, Words, levels_of
from services.drift_monitor.detection.scaling import Scales
from services.drift_monitor.detection.shares import Shares
from shared import cells
from shared.budget import CATEGORY, CategoryTest
from shared.tails import chi_square_tails, quantiles, t_tails

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Truth = NDArray[np.bool_]
_TESTS: Final = tuple(CATEGORY)
Tested = tuple[Floats, Floats]
"""Statistics and their p-values, (S, K) each."""

_SHARES: Final = {"shape": 0, "level": 0, "unseen": 1, "missing": 2}
"""Which of the shares each test tells."""
NEAR: Final = 3.0
"""Standard errors within which no level is anywhere near to be called moved."""


def category_findings(base: Prepared, scales: Scales, shift: float) -> list[Finding]:
    """The worst test of every category, and every other that shows a drift."""
    if not len(base.words.places):
        return []
    return _Windows.of(base, scales, shift).findings()


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """All categories at all scales.

    Attributes:
        present: rows per level, the one for others included, shape (S, K, L); `rows` their sums.
        residual: by how many standard errors that share moved that moved most, (S, K).
        factors: what is known of chance, by name, (S, K) each.
        shares: of the rows of that level, of levels never seen, and missing, one after the other,
            (S, 3 K).
    """

    base: Prepared
    known: Words
    scales: Scales
    shift: float
    present: Whole
    rows: Whole
    residual: Floats
    factors: dict[str, Floats]
    shares: Shares

    @classmethod
    def of(cls, base: Prepared, scales: Scales, shift: float) -> "_Windows":
        known, counts = base.words, scales.counts
        present = levels_of(counts, known.gather)
        rows, gone = present.sum(axis=-1), counts.take(known.gone, axis=1)
        residuals = _residuals(present, rows, known)
        largest = residuals.argmax(axis=-1)
        flat = largest + np.arange(largest.size).reshape(largest.shape) * present.shape[-1]
        factors = scales.factors(known.places)
        moved = Shares(
            x=present.take(flat),
            rows=rows,
            y=known.present[np.arange(len(known.places)), largest],
            others=known.rows,
            factor=factors["shape"],
        )
        unseen = replace(moved, x=counts.take(known.other, axis=1), y=known.once)
        missing = Shares(
            x=gone,
            rows=rows + gone,
            y=known.missing,
            others=known.rows + known.missing,
            factor=factors["missing"],
        )
        return cls(
            base=base,
            known=known,
            scales=scales,
            shift=shift,
            present=present,
            rows=rows,
            residual=residuals.take(flat),
            factors=factors,
            shares=Shares.beside([moved, unseen, missing]),
        )

    def findings(self) -> list[Finding]:
        """The worst test of every category, and every other that shows a drift."""
        tested = self.scales.tested.take(self.known.places, axis=1)
        # Where no level was ever seen, or is now, only what is missing says anything.
        is_there = tested & (self.rows > 0) & (self.known.rows > 0)
        found = {"shape": self._shape(is_there), **self._shares(is_there, tested)}
        shape = len(CATEGORY), *self.rows.shape
        statistic = np.concatenate([found[test][0] for test in CATEGORY]).reshape(shape)
        p = np.concatenate([found[test][1] for test in CATEGORY]).reshape(shape)
        may = np.stack([is_there, is_there, is_there, tested])
        part = np.array(list(CATEGORY.values()))[:, None]
        each = self.scales.each
        surprise = np.where(may, p / part[..., None] / each[:, None], np.inf)
        features = surprise.shape[-1]
        worst = surprise.reshape(-1, features).argmin(axis=0)
        level = each / len(self.base.names) * part
        wanted = may & (p <= level[..., None])
        wanted.reshape(-1, features)[worst, np.arange(features)] = True
        wanted &= tested.any(axis=0)
        # Category by category, scale by scale.
        k, s, t = np.nonzero(wanted.transpose(2, 1, 0))
        names = [_TESTS[test] for test in t.tolist()]
        told = s, k, statistic[t, s, k], p[t, s, k], level[t, s]
        return list(map(self._finding, names, *(part.tolist() for part in told)))

    def _shape(self, wanted: Truth) -> Tested:
        statistic, df = self._chi_square()
        statistic = np.where(df > 0, statistic / self.factors["shape"], 0.0)
        left = self.factors["shape_cells"]
        p = chi_square_tails(statistic * left, df * left)
        if self.scales.chances[0].blocks:
            # What is known from few blocks only is held against a wider distribution.
            spread, known = (self.factors[f"shape_{name}"] for name in ("spread", "df"))
            p = t_tails(-quantiles(p) / spread, known)
        return statistic, np.where(wanted & (df > 0), p, 1.0)

    def _chi_square(self) -> tuple[Floats, Whole]:
        """Of levels that are looked at together, and the degrees of freedom, (S, K) each."""
        starts, df = self._starts()
        mine = _grouped(self.present, starts)
        whole = mine + _grouped(np.broadcast_to(self.known.present, self.present.shape), starts)
        return cells.chi_square(mine, whole, is_padded=True), df

    def _starts(self) -> tuple[Whole, Whole]:
        """Where groups of levels begin, and where the last one ends, (S, K, groups + 1).

        And how many groups there are besides the first one, (S, K).
        """
        sizes = self.known.sizes.tolist()
        found = np.empty((*self.rows.shape, max(sizes) + 1), dtype=np.int64)
        found[:] = self.known.sizes[:, None]
        df = np.empty(self.rows.shape, dtype=np.int64)
        for s, windows in enumerate(self.rows.tolist()):
            for k, (window, level) in enumerate(zip(windows, self.known.levels, strict=True)):
                starts = _groups(level, window)
                found[s, k, : len(starts)] = starts
                df[s, k] = len(starts) - 1
        return found, df

    def _shares(self, is_there: Truth, tested: Truth) -> dict[str, Tested]:
        """The level that moved most, levels never seen, and missing ones."""
        z = self.residual / self.factors["root"]
        far = is_there & (z >= NEAR)
        size = z.shape[1]
        are_fewer = self.shares.effect()[:, :size] <= 0
        yes = np.ones_like(far)
        p = self.shares.tails(
            np.concatenate([are_fewer, ~yes, yes], axis=1),
            np.concatenate([far, is_there, tested], axis=1),
        )
        levels = np.count_nonzero(self.present + self.known.present, axis=-1)
        # A rare level has few rows, where only counting is exact; both sides are one side here.
        moved = np.minimum(1.0, 2 * np.where(are_fewer, p[:, :size] / 2, p[:, :size]) * levels)
        x = self.shares.x.astype(np.float64)
        return {
            "level": (z, np.where(far, moved, 1.0)),
            "unseen": (x[:, size : 2 * size], p[:, size : 2 * size]),
            "missing": (x[:, 2 * size :], p[:, 2 * size :]),
        }

    def _finding(
        self, test: CategoryTest, s: int, k: int, statistic: float, p: float, level: float
    ) -> Finding:
        low, high = None, None
        share = self.shares.at(s, _SHARES[test] * len(self.known.places) + k)
        if p <= level:
            # The level whose share is told was chosen among all of them.
            chosen_of = int(self.known.sizes[k]) + 1 if test in ("shape", "level") else 1
            low, high = share.interval(level / chosen_of)
        return Finding(
            feature=self.base.names[int(self.known.places[k])],
            test=test,
            statistic=statistic,
            p=p,
            level=level,
            effect=share.effect,
            scale=self.scales.windows[s],
            low=low,
            high=high,
            shift=self.shift,
        )


def _residuals(counts: Whole, rows: Whole, known: Words) -> Floats:
    """Of every level, in standard errors, shape (S, K, L)."""
    totals = counts + known.present
    window, total = rows[..., None], (rows + known.rows)[..., None]
    share = totals / np.maximum(total, 1)
    spread = window * share * (1 - share) * (total - window) / np.maximum(total - 1, 1)
    # Half a row less: counts are whole, the normal distribution is not.
    off = np.maximum(np.abs(counts - window * share) - 0.5, 0.0)
    return np.asarray(np.where(spread > 0, off / np.sqrt(np.maximum(spread, 1e-9)), 0.0))


def _grouped(counts: Whole, starts: Whole) -> Whole:
    """Rows per group, (S, K, groups), of rows per level, (S, K, L)."""
    before = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1), dtype=np.int64)
    np.cumsum(counts, axis=-1, out=before[..., 1:])
    row = np.arange(0, before.size, before.shape[-1]).reshape(before.shape[:-1])[..., None]
    reached = before.take(starts + row)
    return np.asarray(reached[..., 1:] - reached[..., :-1])


@lru_cache(maxsize=4096)
def _groups(reference: bytes, window: int) -> Whole:
    """Where levels that are looked at together begin; the reference says it, never the window."""
    into = cells.joined_groups(np.frombuffer(reference, dtype=np.int64), window)
    return np.searchsorted(into, np.arange(int(into.max()) + 1))
