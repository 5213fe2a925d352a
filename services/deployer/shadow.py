"""Whether a challenger's losses are larger: bets on labels that may be read after every one.

Everything is in parts of the cap, `d = loss(champion) - loss(challenger)`; positive favours the
challenger. A process bets a part λ of its wealth that d lies above a border. λ is chosen from past
rows alone, so at the border the wealth is a non-negative martingale: it ever reaches 1 / alpha with
a chance of at most alpha, however often one looks. Only logarithms of wealth are kept.

Pairs are two answers to one request, one of them unseen. Without a shadow each request has one
answer and the unit is the entity: with the challenger's share w known, loss / (1 - w) on the
champion's arm and -loss / w on the challenger's has the mean of d. Taking a constant from every
loss leaves that mean as it is and makes the bets larger; it is the mean of past losses.

Source: Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting,
J. R. Stat. Soc. B 86(1); Ville's inequality; Horvitz and Thompson (1952), JASA 47(260).
"""

import hashlib
from dataclasses import dataclass, replace
from math import isfinite, log, log1p
from typing import Final

from shared.events import Json

_LEAST_VARIANCE: Final = 1e-4
_MOST_LOST: Final = 0.5
"""Part of the wealth that one row may cost."""
_PRIOR_ROWS: Final = 2
_PRIOR_VARIANCE: Final = 0.25
SEEN_BITS: Final = 1 << 15
"""Places to note entities in; one whose place is taken counts no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What past rows tell the next bet."""

    rows: int = 0
    total: float = 0.0
    squares: float = 0.0

    def with_one(self, value: float) -> "Moments":
        """With one more row."""
        return Moments(
            rows=self.rows + 1,
            total=self.total + value,
            squares=self.squares + value * value,
        )

    def stake(self, border: float, sign: int, prior_variance: float) -> tuple[float, float]:
        """Mean above the border and variance as past rows have them, seen from one side."""
        mean = sign * self.total / (self.rows + _PRIOR_ROWS)
        if not self.rows:
            return mean - border, prior_variance
        second = (self.squares + prior_variance) / (self.rows + _PRIOR_ROWS)
        return mean - border, max(second - mean * mean, _LEAST_VARIANCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wealth:
    """Logarithms of four bets on the same rows.

    Attributes:
        harmless: against `the challenger loses more than the margin`.
        better: against `the challenger does not lose less`.
        worse: against `the challenger does not lose more`.
        much_better: against `the challenger does not lose less by the margin`.
    """

    harmless: float = 0.0
    better: float = 0.0
    worse: float = 0.0
    much_better: float = 0.0

    def plus(self, other: "Wealth") -> "Wealth":
        """The product of both: rows of two kinds, bet on one after the other."""
        return Wealth(
            harmless=self.harmless + other.harmless,
            better=self.better + other.better,
            worse=self.worse + other.worse,
            much_better=self.much_better + other.much_better,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What labels have shown about a champion and a challenger, small enough for a row of JSON.

    Attributes:
        pairs, singles: wealth from both kinds of rows.
        pair_moments: of d.
        single_moments: of the weighted loss.
        single_losses: sum of the losses behind it.
        seen: hexadecimal digits; which entities have counted.
        refused: labels that were no finite number or told of no possible share.
    """

    pairs: Wealth = Wealth()
    singles: Wealth = Wealth()
    pair_moments: Moments = Moments()
    single_moments: Moments = Moments()
    single_losses: float = 0.0
    seen: str = "0"
    refused: int = 0

    @property
    def rows(self) -> int:
        """Pairs and entities that counted."""
        return self.pair_moments.rows + self.single_moments.rows

    def wealth(self, *, pairs: bool = True) -> Wealth:
        """All that was shown, or what is left when the shadow's part is void."""
        return self.pairs.plus(self.singles) if pairs else self.singles

    def figures(self) -> Json:
        """For events and people."""
        return {
            "pairs": _figures(self.pairs, self.pair_moments),
            "entities": _figures(self.singles, self.single_moments),
            "refused": self.refused,
        }


def _figures(wealth: Wealth, moments: Moments) -> Json:
    return {
        "rows": moments.rows,
        "mean_difference": moments.total / moments.rows if moments.rows else None,
        "log_e_harmless": wealth.harmless,
        "log_e_better": wealth.better,
        "log_e_worse": wealth.worse,
        "log_e_much_better": wealth.much_better,
    }


def log_bet(
    moments: Moments,
    value: float,
    *,
    border: float,
    least: float,
    sign: int = 1,
    prior_variance: float = _PRIOR_VARIANCE,
) -> float:
    """What one row adds to the logarithm of wealth that bets on `sign · value` above `border`.

    Args:
        moments: of the rows before this one, with their own sign.
        least: the smallest value that `sign · value` can have.
    """
    above, variance = moments.stake(border, sign, prior_variance)
    part = min(max(above / (variance + above * above), 0.0), _MOST_LOST / (border - least))
    return log1p(part * (sign * value - border))


def _bets(
    moments: Moments,
    value: float,
    margin: float,
    bounds: tuple[float, float],
    prior_variance: float = _PRIOR_VARIANCE,
) -> Wealth:
    least, most = bounds

    def up(border: float) -> float:
        return log_bet(moments, value, border=border, least=least, prior_variance=prior_variance)

    def down(border: float) -> float:
        return log_bet(
            moments, value, border=border, least=-most, sign=-1, prior_variance=prior_variance
        )

    return Wealth(harmless=up(-margin), better=up(0.0), worse=down(0.0), much_better=up(margin))


def with_pair(
    losses: Losses, champion: float, challenger: float, *, cap: float, margin: float
) -> Losses:
    """With one request that both answered.

    Args:
        champion, challenger: the losses of both, in the unit of the metric.
        cap: the loss that counts as 1; differences are cut at it.
        margin: part of the cap that may be given away.
    """
    if not (isfinite(champion) and isfinite(challenger)):
        return replace(losses, refused=losses.refused + 1)
    difference = min(max((champion - challenger) / cap, -1.0), 1.0)
    return replace(
        losses,
        pairs=losses.pairs.plus(_bets(losses.pair_moments, difference, margin, (-1.0, 1.0))),
        pair_moments=losses.pair_moments.with_one(difference),
    )


def with_single(
    losses: Losses,
    unit: str,
    loss: float,
    *,
    on_challenger: bool,
    share: float,
    cap: float,
    margin: float,
    least: tuple[float, float] | None = None,
) -> Losses:
    """With one answer of one arm; an entity counts once, so that heavy ones weigh no more.

    The arm of an entity never changes by itself: its second loss would be no fresh chance, so
    only its first is a row. Whether an entity counts depends on its name alone.

    Args:
        unit: the entity, or the prediction where there is none.
        on_challenger: which arm answered.
        share: the challenger's chance to answer at that time; one minus it is the champion's.
        least: the smallest chances of challenger and champion, the same for every row, where
            others answer beside them and a row tells of its own arm alone.
    """
    if not (isfinite(loss) and 0 < share < 1):
        return replace(losses, refused=losses.refused + 1)
    seen = _noted(losses.seen, unit)
    if seen is None:
        return losses
    ours, theirs = least or (share, 1 - share)
    part = min(max(loss / cap, 0.0), 1.0)
    usual = (losses.single_losses + 0.5) / (losses.single_moments.rows + 1)
    excess = part - usual
    value = -excess / max(share, ours) if on_challenger else excess / max(1 - share, theirs)
    bounds = (
        min(-usual / theirs, -(1 - usual) / ours),
        max((1 - usual) / theirs, usual / ours),
    )
    prior_variance = _PRIOR_VARIANCE / (ours * theirs)
    moments = losses.single_moments
    return replace(
        losses,
        singles=losses.singles.plus(_bets(moments, value, margin, bounds, prior_variance)),
        single_moments=moments.with_one(value),
        single_losses=losses.single_losses + part,
        seen=seen,
    )


def _noted(seen: str, unit: str) -> str | None:
    """With one more entity; None when its place is taken."""
    place = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8], "big") % SEEN_BITS
    bits = int(seen, 16)
    return None if bits >> place & 1 else f"{bits | 1 << place:x}"


def reached(log_wealth: float, alpha: float, guards: int = 1) -> bool:
    """Whether this much wealth has at most the chance `alpha / guards` under what it bets against.

    Raises:
        ValueError: alpha is no chance.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"{alpha} is no chance between 0 and 1")
    return log_wealth >= log(guards / alpha)
