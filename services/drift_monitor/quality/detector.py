"""A running test on losses that may be read after every label and hardly ever cries wolf.

Seven bets that losses are above a limit grow while they are right and shrink while they are wrong,
and each gets one unit of fresh money per label. While the expected loss, given all before, is at
most the limit, their mean less the number of labels is a supermartingale; so at an alarm bound of
a million the average run until a false alarm is at least a million labels, however the losses
depend on each other. What is not proved: that the limit is right. It is the upper end of the
interval of the held-out losses plus the tolerance, and true for those labels alone that do come.

Source: Shin, Ramdas and Rinaldo (2022), E-detectors, arXiv:2203.03532; Shiryaev (1963) and Roberts
(1966) for the statistic with fresh money.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.drift_monitor.quality.units import tolerated_losses
from shared.reference import LEAST_LOSSES, Losses

GRID: Final = (0.01, 0.02, 0.05, 0.10, 0.20, 0.40, 0.60)
"""How much worse the losses may have become, one bet for each."""
BOUND: Final = 1e6
"""Mean of the bets that is an alarm: at most one false one in so many labels, on average."""
MOST_STAKED: Final = 0.99
"""Share of its money that a bet can lose at once."""
LEAST_LIMIT, GREATEST_LIMIT = 1e-6, 1 - 1e-6
QUIET: Final = 1000
"""Labels since the last alarm after which it is asked, again and again, whether it is over."""
GONE_BACK: Final = 0.25
"""Evidence per label since the last alarm that is too little for one that goes on."""
MEMORY: Final = 200
"""Losses over which the level that is told with an alarm is averaged."""

Bets = tuple[float, float, float, float, float, float, float]
NONE: Final[Bets] = (0.0,) * 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What the losses of a version are held against.

    Attributes:
        unit: the loss that counts as 1; larger ones do, too.
        mean: of the held-out losses in this unit.
        limit: expected losses up to here are no change.
    """

    unit: float
    mean: float
    limit: float

    @classmethod
    def of(cls, losses: Losses, tolerance: float) -> "Limit | None":
        """Of a profile; None for few rows, or where losses have no bound or always are at it."""
        mean = losses.bounded_mean
        spared = tolerated_losses(losses.metric, mean, tolerance) - mean
        limit = losses.bounded_high + spared
        if losses.unit <= 0 or losses.rows < LEAST_LOSSES or limit >= GREATEST_LIMIT:
            return None
        return cls(unit=losses.unit, mean=mean, limit=max(limit, LEAST_LIMIT))

    @property
    def stakes(self) -> tuple[float, ...]:
        """What each bet puts on a loss above the limit."""
        p = self.limit
        return tuple(min(step / (p * (1 - p)), MOST_STAKED / p) for step in GRID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """State of the test: seven numbers, and what is told beside an alarm.

    Attributes:
        labels: losses seen since the last alarm.
        level: of the last losses, in units.
    """

    bets: Bets = NONE
    labels: int = 0
    level: float = 0.0

    @property
    def evidence(self) -> float:
        """Mean of the bets."""
        return sum(self.bets) / len(self.bets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """The losses are above the limit.

    Attributes:
        at: place of the loss that tipped it, among those that were fed.
        evidence: mean of the bets at that loss.
        level: of the losses before it, in the unit of the metric.
        reference, limit: of the held-out rows, and what was betted against, in the same unit.
        labels: since the alarm before.
    """

    at: int
    evidence: float
    level: float
    reference: float
    limit: float
    labels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """The losses are not above the limit any more, if ever they were.

    Attributes:
        level: of the last losses, in the unit of the metric.
    """

    level: float


def has_gone_back(before: Detector, now: Detector) -> bool:
    """Whether an alarm would be over: asked once per so many labels since the last one.

    Without a change the bets are expected to be worth at most the number of labels since they
    began, and nearly always are worth far less; what is worth more is a sign that it goes on.
    """
    fed = before.labels if before.labels <= now.labels else 0
    is_asked = now.labels // QUIET > fed // QUIET
    return is_asked and now.evidence <= GONE_BACK * now.labels


def feed(detector: Detector, losses: Sequence[float], limit: Limit) -> tuple[Detector, list[Alarm]]:
    """Take losses in, in their order; after an alarm all bets begin anew.

    Args:
        losses: in the unit of the metric.
    """
    p, unit = limit.limit, limit.unit
    s1, s2, s3, s4, s5, s6, s7 = limit.stakes
    m1, m2, m3, m4, m5, m6, m7 = detector.bets
    labels, level, alarms = detector.labels, detector.level, list[Alarm]()
    bound = BOUND * len(GRID)
    for place, loss in enumerate(losses):
        x = loss / unit if loss < unit else 1.0
        off = x - p
        m1 = (m1 + 1) * (1 + s1 * off)
        m2 = (m2 + 1) * (1 + s2 * off)
        m3 = (m3 + 1) * (1 + s3 * off)
        m4 = (m4 + 1) * (1 + s4 * off)
        m5 = (m5 + 1) * (1 + s5 * off)
        m6 = (m6 + 1) * (1 + s6 * off)
        m7 = (m7 + 1) * (1 + s7 * off)
        labels += 1
        level += (x - level) / (labels if labels < MEMORY else MEMORY)
        total = m1 + m2 + m3 + m4 + m5 + m6 + m7
        if total >= bound:
            alarms.append(_alarm(place, total, level, labels, limit))
            m1 = m2 = m3 = m4 = m5 = m6 = m7 = level = 0.0
            labels = 0
    bets = (m1, m2, m3, m4, m5, m6, m7)
    return Detector(bets=bets, labels=labels, level=level), alarms


def _alarm(place: int, total: float, level: float, labels: int, limit: Limit) -> Alarm:
    return Alarm(
        at=place,
        evidence=total / len(GRID),
        level=level * limit.unit,
        reference=limit.mean * limit.unit,
        limit=limit.limit * limit.unit,
        labels=labels,
    )
