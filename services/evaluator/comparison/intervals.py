"""What is known of one difference: an estimate, and bounds at any confidence.

A difference is loss(other) - loss(candidate): positive favours the candidate. `harm(at)` is the
probability of so bad an estimate if the truth were `at`; `doubt(at)` the same of one so good, from
the tail of a normal or t distribution and thus meaningful far out.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.evaluator.evidence import Floats
from shared.probability import binomial_sf, normal_quantile, normal_sf, t_quantile, t_sf

_MOST_EXACT = 1000
"""Discordant rows up to which the exact binomial is asked; beyond, the score is as good."""


class Interval(Protocol):
    """See the module. `units` are the rows, entities or blocks that do not depend on each other."""

    @property
    def estimate(self) -> float: ...
    @property
    def se(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def units(self) -> int: ...
    @property
    def test(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def draws(self) -> int: ...

    def lower(self, confidence: float) -> float:
        """Lower bound, one-sided at this confidence."""
        ...

    def upper(self, confidence: float) -> float:
        """Upper bound, one-sided at this confidence."""
        ...

    def harm(self, at: float) -> float:
        """P of an estimate this low or lower if the difference were `at`."""
        ...

    def doubt(self, at: float) -> float:
        """P of an estimate this high or higher if the difference were `at`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What all intervals have."""

    estimate: float
    se: float
    rows: int
    units: int
    test: str
    detail: str = ""
    draws: int = 0


def _rounded(value: float) -> float:
    """Twelve digits: special functions differ in the last ones between processors."""
    return float(f"{value:.12g}")


def reach(confidence: float, df: float) -> float:
    """How many standard errors a one-sided t bound is away."""
    return _rounded(t_quantile(1 - confidence, df))


def _t_tail(distance: float, se: float, df: float) -> float:
    """P(T > distance / se); without spread it is certain either way."""
    if se > 0:
        return _rounded(t_sf(distance / se, df))
    return 0.0 if distance > 0 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Student(Figures):
    """Bounds by Student's t; infinite `df` is the normal distribution.

    A standard error of 0 says the same difference everywhere: there is nothing to be unsure about.
    """

    df: float

    def lower(self, confidence: float) -> float:
        """See `Interval`."""
        return self.estimate - reach(confidence, self.df) * self.se

    def upper(self, confidence: float) -> float:
        """See `Interval`."""
        return self.estimate + reach(confidence, self.df) * self.se

    def harm(self, at: float) -> float:
        """See `Interval`."""
        return _t_tail(at - self.estimate, self.se, self.df)

    def doubt(self, at: float) -> float:
        """See `Interval`."""
        return _t_tail(self.estimate - at, self.se, self.df)


# --- mistakes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Discordant(Figures):
    """Bounds for the difference of two shares of mistakes on the same independent rows.

    Attributes:
        b, c: rows only the other gets wrong, rows only the candidate gets wrong.

    Source: Tango (1998), Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design, Statistics in Medicine 17(8). A bound on the far side
    of 0 must agree with the exact mid-p test of b ~ Bin(b + c, 1/2), McNemar's.
    """

    b: int
    c: int

    def lower(self, confidence: float) -> float:
        """See `Interval`."""
        return _tango_lower(self.b, self.c, self.rows, confidence)

    def upper(self, confidence: float) -> float:
        """See `Interval`."""
        return -_tango_lower(self.c, self.b, self.rows, confidence)

    def harm(self, at: float) -> float:
        """See `Interval`."""
        return _score_tail(self.c, self.b, self.rows, -at)

    def doubt(self, at: float) -> float:
        """See `Interval`."""
        return _score_tail(self.b, self.c, self.rows, at)


def _tango_lower(b: int, c: int, n: int, confidence: float) -> float:
    z = _rounded(normal_quantile(confidence))
    low, high = -1.0, (b - c) / n
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tango_score(b, c, n, middle) > z else (low, middle)
    return min(low, 0.0) if low > 0 and mid_p(b, c) > 1 - confidence else low


def _score_tail(b: int, c: int, n: int, at: float) -> float:
    tail = _rounded(normal_sf(tango_score(b, c, n, at)))
    return max(tail, mid_p(b, c)) if at == 0 else tail


def mid_p(b: int, c: int) -> float:
    """P of so many of b + c on one side if both were as likely; the count itself counts half."""
    if b + c > _MOST_EXACT:
        return 0.0
    return (binomial_sf(b, b + c) + binomial_sf(b + 1, b + c)) / 2


def tango_score(b: int, c: int, n: int, delta: float) -> float:
    """Z of the hypothesis that the shares differ by `delta`; McNemar's z at 0."""
    linear = -(b + c) + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    share = (root - linear) / (4 * n)
    variance = n * (2 * share + delta * (1 - delta))
    distance = b - c - n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance(Figures):
    """Bounds for what is left of a limit by a share of mistakes on independent rows.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference,
    J. Am. Stat. Assoc. 22.
    """

    limit: float
    mistakes: int

    def lower(self, confidence: float) -> float:
        """See `Interval`."""
        return self.limit - self._share(_rounded(normal_quantile(confidence)))

    def upper(self, confidence: float) -> float:
        """See `Interval`."""
        return self.limit - self._share(-_rounded(normal_quantile(confidence)))

    def harm(self, at: float) -> float:
        """See `Interval`."""
        return _rounded(normal_sf(-self._score(at)))

    def doubt(self, at: float) -> float:
        """See `Interval`."""
        return _rounded(normal_sf(self._score(at)))

    def _share(self, z: float) -> float:
        n, share = self.rows, self.mistakes / self.rows
        spread = z * z / n
        root = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
        return min(1.0, max(0.0, (share + spread / 2 + root) / (1 + spread)))

    def _score(self, at: float) -> float:
        share = min(max(self.limit - at, 0.0), 1.0)
        distance = share - self.mistakes / self.rows
        variance = share * (1 - share) / self.rows
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)


# --- resampled --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Studentised(Figures):
    """Bounds from the resampled distribution of (difference - estimate) / its standard error.

    Source: Efron and Tibshirani (1993), An introduction to the bootstrap, section 12.5.
    """

    pivots: Floats
    """Sorted, shape (draws,)."""

    def lower(self, confidence: float) -> float:
        """See `Interval`."""
        return self.estimate - quantile_above(self.pivots, confidence) * self.se

    def upper(self, confidence: float) -> float:
        """See `Interval`."""
        return self.estimate + quantile_above(-self.pivots[::-1], confidence) * self.se

    def harm(self, at: float) -> float:
        """See `Interval`."""
        return self._tail(np.searchsorted(self.pivots, self._distance(at), side="right"))

    def doubt(self, at: float) -> float:
        """See `Interval`."""
        below = np.searchsorted(self.pivots, self._distance(at), side="left")
        return self._tail(len(self.pivots) - below)

    def _distance(self, at: float) -> float:
        return (self.estimate - at) / self.se if self.se > 0 else 0.0

    def _tail(self, beyond: int | np.intp) -> float:
        return float((1 + beyond) / (len(self.pivots) + 1))


def quantile_above(ordered: Floats, level: float) -> float:
    """The least of these draws that is high enough for the level.

    Beyond the last draw it lies as far out as a normal tail through that one would reach.

    Args:
        ordered: from low to high.
        level: above one half.
    """
    draws = len(ordered)
    place = math.ceil(round(level * (draws + 1), 6)) - 1
    if place < draws:
        return float(ordered[place])
    further = normal_quantile(level) / normal_quantile(draws / (draws + 1))
    return float(ordered[-1]) * max(1.0, _rounded(further))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerated(Figures):
    """Bounds from resampled differences, corrected for bias and skew (BCa).

    Few units resample themselves too narrowly; the levels are widened as a t bound on so many units
    would be.

    Attributes:
        drawn: sorted, shape (draws,).
        bias, skew: the two corrections.
        df: degrees of freedom of the standard error.

    Sources: Efron (1987), Better bootstrap confidence intervals, J. Am. Stat. Assoc. 82; the
    widening is the expanded percentile interval of Hesterberg (2015), What teachers should know
    about the bootstrap, The American Statistician 69(4).
    """

    drawn: Floats
    bias: float
    skew: float
    df: float

    def lower(self, confidence: float) -> float:
        """See `Interval`."""
        return self._end(-self._reach(confidence))

    def upper(self, confidence: float) -> float:
        """See `Interval`."""
        return self._end(self._reach(confidence))

    def harm(self, at: float) -> float:
        """See `Interval`."""
        below = np.searchsorted(self.drawn, at, side="left")
        share = float((below + 0.5) / (len(self.drawn) + 1))
        moved = normal_quantile(share) - self.bias
        z = moved / max(1 + self.skew * moved, 1e-9) - self.bias
        return max(_rounded(normal_sf(z)), 1 / (len(self.drawn) + 1))

    def doubt(self, at: float) -> float:
        """See `Interval`."""
        return _t_tail(self.estimate - at, self.se, self.df)

    def _reach(self, confidence: float) -> float:
        return reach(confidence, self.df) * math.sqrt((self.df + 1) / self.df)

    def _end(self, z: float) -> float:
        moved = self.bias + z
        at = _rounded(self.bias + moved / max(1 - self.skew * moved, 1e-9))
        centred = self.drawn - self.estimate
        if at >= 0:
            return self.estimate + quantile_above(centred, 1 - normal_sf(at))
        return self.estimate - quantile_above(-centred[::-1], 1 - normal_sf(-at))
