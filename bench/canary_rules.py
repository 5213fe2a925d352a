"""Common rules for canaries, on the same requests: what a peek, a threshold or a rank test does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.canary_traffic import Traffic

Floats = NDArray[np.float64]

LOOKS = 200
INTERVALS = 10
MINUTES = 10
_Z_95 = 1.6448536269514722
_Z_99 = 2.3263478740408408


def z_scores(traffic: Traffic, looks: int = LOOKS) -> Floats:
    """The two-sample z of error shares at so many looks; 0 where it cannot be had."""
    at = np.linspace(len(traffic) / looks, len(traffic), looks).astype(int) - 1
    canary, champion = (np.cumsum(arm)[at] for arm in (traffic.canary, ~traffic.canary))
    wrong, wrong_other = (
        np.cumsum(traffic.error & arm)[at] for arm in (traffic.canary, ~traffic.canary)
    )
    pooled = (wrong + wrong_other) / (canary + champion)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(pooled * (1 - pooled) * (1 / canary + 1 / champion))
        scores = (wrong / canary - wrong_other / champion) / spread
    return np.where(np.isfinite(scores), scores, 0.0)


def z_peeked(traffic: Traffic) -> bool:
    """Abort at the first of 200 looks at which z is above 1.645."""
    return bool((z_scores(traffic) > _Z_95).any())


def z_at_the_end(traffic: Traffic) -> bool:
    """Abort when z is above 1.645 at the end, looked at once."""
    return bool(z_scores(traffic)[-1] > _Z_95)


def is_below_success(traffic: Traffic, per_interval: int, bad_intervals: int = 1) -> bool:
    """Abort after so many of 10 intervals with less than 95 % success on the canary."""
    errors = traffic.error[traffic.canary][: INTERVALS * per_interval]
    shares = errors[: len(errors) // per_interval * per_interval].reshape(-1, per_interval)
    return bool((shares.mean(axis=1) > 0.05).sum() >= bad_intervals)


def is_high_by_ranks(traffic: Traffic, per_minute: int, intervals: int = INTERVALS) -> bool:
    """Abort at the first interval of 10 minutes whose error shares are called high.

    High: the lower end of the 98 % interval of the shift lies above a quarter of the shift, as the
    canary judges of delivery systems have it. Source of the interval: Hodges and Lehmann (1963).
    """
    share = traffic.canary.mean()
    requests = round(per_minute / share)
    for start in range(0, intervals * MINUTES * requests, MINUTES * requests):
        stop = start + MINUTES * requests
        if stop > len(traffic):
            break
        if _is_high(
            *(
                _shares(traffic.canary[start:stop] == arm, traffic.error[start:stop])
                for arm in (True, False)
            )
        ):
            return True
    return False


def _shares(arm: NDArray[np.bool_], error: NDArray[np.bool_]) -> Floats:
    counts = arm.reshape(MINUTES, -1).sum(axis=1)
    wrong = (arm & error).reshape(MINUTES, -1).sum(axis=1)
    shares: Floats = wrong / np.maximum(counts, 1)
    return shares


def _is_high(canary: Floats, champion: Floats) -> bool:
    shifts = np.sort(np.subtract.outer(canary, champion).ravel())
    count = len(canary) * len(champion)
    spread = np.sqrt(count * (len(canary) + len(champion) + 1) / 12)
    lower = shifts[max(int(count / 2 - _Z_99 * spread), 0)]
    return bool(lower > 0.25 * abs(np.median(shifts)))


def t_peeked(differences: Floats, margin: float, every: int = 50) -> bool:
    """Call the challenger no worse at the first look with t above 1.645."""
    at = np.arange(every, len(differences) + 1, every)
    means = np.cumsum(differences)[at - 1] / at
    squares = np.cumsum(np.square(differences))[at - 1] / at
    spread = np.sqrt(np.maximum(squares - means**2, 1e-12) / (at - 1))
    return bool(((means + margin) / spread > _Z_95).any())
