"""The tests of how numbers move together: each pair by itself, and all numbers at once."""

from dataclasses import dataclass
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.finding import Finding
from services.drift_monitor.detection.prepared import Moving, Prepared, powers
from services.drift_monitor.detection.scaling import Scales
from shared.joint import Joint
from shared.lumps import deviates_for, held_back, normal_deviates, share_of_lumps, unevenness
from shared.probability import t_quantile
from shared.tails import quantiles, t_tails
from shared.together import (
    Common,
    correlations,
    linear_z,
    lumpy_pairs,
    pair_z,
    waves_apart,
    waves_tail,
)

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
NEAR: Final = 100.0
"""Levels within which a p-value has to be worked out with care."""

TOGETHER: Final = "(all numbers together)"


def joint_findings(base: Prepared, scales: Scales, shift: float) -> list[Finding]:
    """The worst pair, all numbers at once, and every other that shows a drift."""
    moving, joint = base.moving, scales.joint
    if moving is None or joint is None:
        return []
    tested = [s for s in range(len(joint.waves)) if scales.pairs[s] > 0]
    if not tested:
        return []
    if len(tested) < len(joint.waves):
        joint = Joint(joint.moments[tested], joint.pairs[tested], joint.waves[tested])
    pairs = _Pairs.of(moving, scales, joint, tested).findings(shift)
    return [*pairs[:1], *_waves(moving, scales, joint, tested), *pairs[1:]]


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """All pairs at the scales that they are tested at, (S, pairs) each.

    Attributes:
        tested: these scales.
        here: correlations of the windows.
        error: standard error of their transformed values.
        z: how far these are from those of the reference.
        lumpy, lean, share: how lumpy that is by chance and which way, and how much it is one of
            plain correlations, see `lumps`; worked out for pairs that surprise, 0 for others.
        p, level: of each pair, and the part of alpha of each pair of a scale, (S,).
    """

    moving: Moving
    scales: Scales
    tested: list[int]
    here: Floats
    error: Floats
    z: Floats
    lumpy: Floats
    lean: Floats
    share: Floats
    p: Floats
    level: Floats

    @classmethod
    def of(cls, moving: Moving, scales: Scales, joint: Joint, tested: list[int]) -> "_Pairs":
        # Whole numbers below 2**53: products of floats are as exact, and much faster.
        firsts = scales.counts[tested].astype(np.float64) @ moving.scores
        here = correlations(joint.moments, joint.pairs, firsts)
        others = moving.known.joint.pairs
        z, error = pair_z(here, joint.pairs, moving.usual, others, moving.spread)
        known = [scales.chances[s] for s in tested]
        factors = np.stack([k.pairs if len(k.pairs) else np.ones(z.shape[1]) for k in known])
        z, error, level = z / factors, error * factors, scales.pairs[tested] / z.shape[1]
        df = np.array([k.pairs_df for k in known])
        p = _both_tails(z, df[:, None])
        lumpy, lean, share = np.zeros((3, *p.shape))
        rows, places = np.nonzero(p <= NEAR * level[:, None])
        if len(rows):
            odd = rows, places
            lumpy[odd], lean[odd], overlap = _lumpy(moving, scales.counts[tested], joint, odd)
            # Neighbours that resemble each other come in lumps of so many rows.
            lumpy[odd] *= np.square(factors[odd])
            near = linear_z(here[odd], moving.usual[places], error[odd])
            share[odd] = share_of_lumps(z[odd], lumpy[odd], overlap)
            z[odd] = held_back(z[odd], near, share[odd])
            p[odd] = _both_tails(normal_deviates(z[odd], lumpy[odd], lean[odd]), df[rows])
        return cls(moving, scales, tested, here, error, z, lumpy, lean, share, p, level)

    def findings(self, shift: float) -> list[Finding]:
        """The worst pair, and every other that shows a drift."""
        surprise = self.p / self.level[:, None]
        worst = int(surprise.argmin())
        wanted = [worst, *(int(place) for place in np.flatnonzero(surprise <= 1) if place != worst)]
        rows, places = np.divmod(np.array(wanted), self.p.shape[1])
        low, high = self._intervals(rows, places, shift)
        told = (self.z, self.p, self.here - self.moving.usual)
        values = [some[rows, places].tolist() for some in told]
        each = zip(rows.tolist(), places.tolist(), *values, low, high, strict=True)
        return [
            Finding(
                feature=" and ".join(self.moving.pairs[place]),
                test="correlation",
                statistic=z,
                p=p,
                level=float(self.level[row]),
                effect=effect,
                scale=self.scales.windows[self.tested[row]],
                low=None if isnan(least) else least,
                high=None if isnan(most) else most,
                shift=shift,
            )
            for row, place, z, p, effect, least, most in each
        ]

    def _intervals(
        self, rows: Whole, places: Whole, shift: float
    ) -> tuple[list[float], list[float]]:
        """Of what correlations moved by, all at once; NaN where nothing is told."""
        at = (rows, places)
        here, there, error = self.here[at], self.moving.usual[places], self.error[at]
        lumpy, lean, share = self.lumpy[at], self.lean[at], self.share[at]
        usual = np.array(
            [
                t_quantile(float(level) / 2, self.scales.chances[s].pairs_df)
                for level, s in zip(self.level, self.tested, strict=True)
            ]
        )[rows]
        is_told = np.isfinite(lumpy)
        lumpy = np.where(is_told, lumpy, 0.0)
        # What chance can have added lies above the low end, what it can have taken below the high.
        added = deviates_for(usual, lumpy, lean) * error
        taken = deviates_for(usual, lumpy, -lean) * error
        middle, moved = np.arctanh(here), here - there
        low, high = np.tanh(middle - added) - there, np.tanh(middle + taken) - there
        # Where few rows decide, more of them make it vary more: as far as it is tolerated.
        wider = (1 - np.square(there)) * np.sqrt(1 + shift * np.sqrt(lumpy) / error)
        low += share * (np.minimum(low, moved - added * wider) - low)
        high += share * (np.maximum(high, moved + taken * wider) - high)
        return np.where(is_told, low, np.nan).tolist(), np.where(is_told, high, np.nan).tolist()


def _both_tails(z: Floats, df: Floats) -> Floats:
    return np.minimum(2 * t_tails(np.abs(z), df), 1.0)


def _lumpy(
    moving: Moving, counts: Whole, joint: Joint, odd: tuple[Whole, Whole]
) -> tuple[Floats, Floats, Floats]:
    """How lumpy differences of correlations are, which way they lean, and rows with both."""
    rows, pairs = odd
    first, second = np.triu_indices(joint.pairs.shape[-1], 1)
    present = np.diagonal(joint.pairs, axis1=-2, axis2=-1)
    uneven = unevenness(powers(counts, moving.worth, moving.starts), present)
    usual = moving.usual[pairs]
    places = (rows, first[pairs]), (rows, second[pairs])
    here = Common.among(uneven, joint.pairs, *places, usual)
    found = lumpy_pairs(here, moving.common.at(pairs), usual, moving.spread[pairs])
    return found.size, found.lean(), here.overlap


def _waves(moving: Moving, scales: Scales, joint: Joint, tested: list[int]) -> list[Finding]:
    """All numbers at once where they are furthest apart, and at every scale with a drift."""
    known, rows = moving.known, scales.rows[tested].astype(np.float64)
    there = float(known.rows)
    apart = waves_apart(joint.waves, rows, known.joint.waves, np.array(there))
    fair = apart / np.array([scales.chances[s].waves for s in tested])
    p = [_waves_p(moving, scales, s, x) for s, x in zip(tested, fair.tolist(), strict=True)]
    surprise = np.array(p) / scales.together[tested]
    worst = int(surprise.argmin())
    wanted = [worst, *(int(row) for row in np.flatnonzero(surprise <= 1) if row != worst)]
    return [
        Finding(
            feature=TOGETHER,
            test="together",
            statistic=float(fair[row]),
            p=p[row],
            level=float(scales.together[tested[row]]),
            effect=float(apart[row] * (1 / rows[row] + 1 / there)) ** 0.5,
            scale=scales.windows[tested[row]],
        )
        for row in wanted
    ]


def _waves_p(moving: Moving, scales: Scales, s: int, fair: float) -> float:
    # Nobody asks how likely it is to be near to what is expected.
    if fair <= moving.near:
        return 1.0
    known = scales.chances[s]
    tail = waves_tail(np.array([fair]), moving.eigenvalues)
    if known.waves_spread > 1 or known.waves_df < 1e9:
        tail = t_tails(-quantiles(tail) / known.waves_spread, known.waves_df)
    return float(tail[0])
