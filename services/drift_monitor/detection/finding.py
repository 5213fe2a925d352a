"""What one test says of one feature, and how serious that is."""

from dataclasses import dataclass
from typing import Final, Literal

from shared.events import FeatureDrift

Severity = Literal["warning", "critical"]

TOLERATED_SHIFT: Final = 0.05
"""Reference standard deviations (or their logarithm, for scale) that are not worth a retraining."""
SHARE_PER_SHIFT: Final = 0.4
"""Change of a share that is tolerated for every tolerated standard deviation: the density of the
normal distribution in its middle, so that a share moves as a shift of all rows would move it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One test of one feature at one scale.

    Attributes:
        p: its own p-value; `level` is its part of alpha.
        low, high: interval of the effect at this level; None where the test has none.
        is_large: whether the effect is shown to pass what is tolerated.
        scale: how many windows were taken together.
    """

    feature: str
    test: str
    statistic: float
    p: float
    level: float
    effect: float
    scale: int
    low: float | None = None
    high: float | None = None
    is_large: bool = False

    @property
    def surprise(self) -> float:
        """The p-value over its level: 1 or less is a drift, the smallest is the worst."""
        return self.p / self.level if self.level > 0 else float("inf")

    @property
    def severity(self) -> Severity | None:
        # What is no number surprises nobody.
        if not self.surprise <= 1:
            return None
        return "critical" if self.is_large else "warning"

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
