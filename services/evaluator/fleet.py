"""Error over many models: evidence that multiplies, and who may claim a promotion with it.

An e-value is non-negative with mean at most 1 where nothing is to be found, so it may be compared
under any dependence between models; sensors share weather and load.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from services.evaluator.evidence import Floats
from shared.events import FleetClaim
from shared.losses import exact_log

_LEAST_P: Final = 1e-300
_MOST_P: Final = 1 - 1e-9
_MOST_LOG: Final = 700.0
_LEAST_SPREAD: Final = 1e-4
_LOWEST_MEAN: Final = -0.9
_SHARE_FOR_SCALE: Final = 0.1
_LEAST_FOR_SCALE: Final = 20
_SUMMED: Final = 4096
_STREAM: Final = 0x666C656574
"""Parts the order of bets from the draws of the same seed."""


def betting_e_value(d: Floats, margin: float, scale: float | None, seed: int) -> float:
    """Evidence against `the mean of d is at most -margin`, from independent rows.

    Wealth that bets on each row, in random order, what the rows before it suggest. Nothing is lost
    by calibration.

    Args:
        d: differences of losses, shape (n,); positive favours the candidate.
        scale: the largest size a difference can have. None: twice the largest of the first tenth of
            the rows, which then are not bet on; what is beyond is clipped, so that the statement is
            about clipped differences.

    Source: Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting,
    J. R. Stat. Soc. B 86.
    """
    generator = np.random.PCG64([seed, _STREAM])
    shuffled = d[np.argsort(generator.random_raw(len(d)), kind="stable")]
    if scale is None:
        first = min(len(d), max(_LEAST_FOR_SCALE, int(len(d) * _SHARE_FOR_SCALE)))
        scale = 2 * float(np.abs(shuffled[:first]).max(initial=0.0))
        shuffled = shuffled[first:]
    if scale <= 0 or not len(shuffled):
        return 1.0
    return _wealth(np.clip(shuffled / scale, -1.0, 1.0), max(-margin / scale, _LOWEST_MEAN))


def _wealth(x: Floats, m: float) -> float:
    """Capital after betting that the mean of x, within [-1, 1], is above m."""
    looked_at = np.arange(len(x)) + 2.0
    before = np.concatenate([[0.0], np.cumsum(x)[:-1]])
    squares = np.concatenate([[0.0], np.cumsum(np.square(x))[:-1]])
    mean = before / looked_at
    spread = np.maximum((squares + 0.25) / looked_at - np.square(mean), _LEAST_SPREAD)
    spread[0] = 0.25
    edge = mean - m
    stake = np.clip(edge / (spread + np.square(edge)), 0.0, 0.5 / (1 + m))
    return _exponential(math.fsum(exact_log(1 + stake * (x - m))))


def calibrated_e_value(p: float) -> float:
    """An e-value from the tail probability of a t or normal statistic.

    Never from resamples: their p cannot go below 1 / (draws + 1).

    Source: the mixture over k of k p**(k - 1), Vovk and Wang (2021), E-values: calibration,
    combination and applications, Annals of Statistics 49(3).
    """
    p = min(max(p, _LEAST_P), _MOST_P)
    log = math.log(p)
    return _twelve_digits((1 - p + p * log) / (p * log * log))


def _exponential(log: float) -> float:
    return _twelve_digits(math.exp(min(log, _MOST_LOG)))


def _twelve_digits(value: float) -> float:
    """Special functions differ in the last digits between processors."""
    return float(f"{value:.12g}")


# --- claims -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """What a stream of claims remembers."""

    claims: int = 0
    accepted: int = 0


@cache
def spending_total() -> float:
    """No less than the sum of 1 / ((t + 1) ln^2(t + 1)) over all t from 1.

    Summed to a point N, and beyond it bounded by 1 / ln(N + 1/2): f is convex, so f(n) is at most
    its integral from n - 1/2 to n + 1/2 (Hermite and Hadamard), and the integral of f from x on
    is 1 / ln x. Hence shares sum to no more than 1.
    """
    found = math.fsum(1 / (n * math.log(n) ** 2) for n in range(2, _SUMMED + 1))
    return found + 1 / math.log(_SUMMED + 0.5)


def spending_share(t: int) -> float:
    """The part of alpha for the t-th claim of a stream, t from 1; all parts add up to 1."""
    return 1 / ((t + 1) * math.log(t + 1) ** 2 * spending_total())


def threshold(state: FleetState, alpha: float) -> float:
    """How much evidence the next claim of the stream needs."""
    share = spending_share(state.claims + 1)
    return _twelve_digits(1 / (alpha * share * (state.accepted + 1)))


def claim(e_value: float, state: FleetState, alpha: float, *, stream: str) -> FleetClaim:
    """Judge the next claim: the expected share of false ones among those accepted is at most alpha.

    Source: e-LOND, Xu and Ramdas (2024), Online multiple testing with e-values, AISTATS.
    """
    needed = threshold(state, alpha)
    return FleetClaim(
        stream=stream,
        claim=state.claims + 1,
        accepted_before=state.accepted,
        e_value=e_value,
        threshold=needed,
        passed=math.isfinite(e_value) and e_value >= needed,
    )


def after(state: FleetState, made: FleetClaim) -> FleetState:
    """What the stream remembers after a claim."""
    return FleetState(claims=made.claim, accepted=state.accepted + int(made.passed))


def e_bh(e_values: Sequence[float], alpha: float) -> tuple[int, ...]:
    """Places of the claims of one round that are accepted together, under any dependence.

    Source: Wang and Ramdas (2022), False discovery rate control with e-values, J. R. Stat. Soc. B.
    """
    ranked = sorted(range(len(e_values)), key=lambda place: -e_values[place])
    kept = [k for k, place in enumerate(ranked, 1) if e_values[place] >= len(ranked) / (alpha * k)]
    return tuple(sorted(ranked[: max(kept, default=0)]))


def bh(p_values: Sequence[float], alpha: float) -> tuple[int, ...]:
    """Places of the accepted ones where tests do not depend on each other.

    Source: Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57.
    """
    ranked = sorted(range(len(p_values)), key=lambda place: p_values[place])
    kept = [k for k, place in enumerate(ranked, 1) if p_values[place] <= alpha * k / len(ranked)]
    return tuple(sorted(ranked[: max(kept, default=0)]))
