"""What one test says of one feature, and how serious that is."""

from dataclasses import dataclass
from typing import Final, Literal

from shared.budget import CategoryTest, NumberTest
from shared.events import FeatureDrift

Severity = Literal["warning", "critical"]
Test = NumberTest | CategoryTest | Literal["correlation", "together", "mostly_outside"]

TOLERATED_SHIFT: Final = 0.05
"""Reference standard deviations (or their logarithm, for scale) that are not worth a retraining."""
SHARE_PER_SHIFT: Final = 0.4
"""Change of a share that is tolerated for every tolerated standard deviation: the density of the
normal distribution in its middle, so that a share moves as a shift of all rows would move it."""
NO_SHARES: Final[frozenset[Test]] = frozenset({"location", "scale", "correlation"})
"""Tests whose effect is no change of a share."""
OF_THE_DATA: Final[frozenset[Test]] = frozenset(
    {"missing", "below", "above", "unseen", "mostly_outside"}
)
"""Tests that a broken sensor or a leak fails, and that a changed world hardly fails alone."""


def severity_of(
    test: str, *, is_drift: bool, low: float | None, high: float | None, shift: float
) -> Severity | None:
    """How serious a finding is: critical where all of its interval lies beyond what is tolerated.

    It needs no more than what is kept of a finding, so that whoever shows one says the same.

    Args:
        is_drift: whether its p-value is at most its level.
        low, high: interval of the effect; without one nothing is shown to be large.
        shift: `monitor.shift`.
    """
    if not is_drift:
        return None
    tolerated = shift if test in NO_SHARES else shift * SHARE_PER_SHIFT
    if low is None or high is None:
        return "warning"
    return "critical" if low > tolerated or high < -tolerated else "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One test of one feature at one scale.

    Attributes:
        p: its own p-value; `level` is its part of alpha.
        low, high: interval of the effect at this level; None where the test has none.
        scale: how many windows were taken together.
        shift: what is tolerated.
    """

    feature: str
    test: Test
    statistic: float
    p: float
    level: float
    effect: float
    scale: int
    low: float | None = None
    high: float | None = None
    shift: float = TOLERATED_SHIFT

    @property
    def surprise(self) -> float:
        """The p-value over its level: 1 or less is a drift, the smallest is the worst."""
        return self.p / self.level if self.level > 0 else float("inf")

    @property
    def severity(self) -> Severity | None:
        # What is no number surprises nobody.
        is_drift = self.surprise <= 1
        return severity_of(
            self.test, is_drift=is_drift, low=self.low, high=self.high, shift=self.shift
        )

    def p_of_all(self, alpha: float) -> float:
        """The p-value that counts all tests and features: it is held against alpha itself."""
        return min(1.0, self.surprise * alpha)

    def said(self, alpha: float) -> FeatureDrift:
        """The finding as an event names it."""
        return FeatureDrift(
            feature=self.feature,
            test=self.test,
            statistic=self.statistic,
            p_value=self.p_of_all(alpha),
            effect=self.effect,
            low=self.low,
            high=self.high,
            scale=self.scale,
        )
