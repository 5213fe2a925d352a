"""Whether entities are split between the arms as was asked for: a test that never grows tired.

Requests would not do, one heavy entity tips them; so each replica counts the entities that it meets
for the first time under one generation. Every replica draws from the same entities, so their tests
are not independent, and the mean of all is taken.

Source: Ville's inequality for a mixture of likelihood ratios, as in `canary`.
"""

from dataclasses import replace
from math import exp, log, log1p
from typing import Final

from services.deployer.domain import Balance
from services.deployer.shadow import reached
from shared.events import Json

OTHER_ODDS: Final = (0.5, 0.67, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0)
"""Odds of meeting the challenger, in parts of the odds asked for."""


def noted(
    balance: Balance, *, generation: int, replica: str, met: tuple[int, int], share: float
) -> Balance:
    """With the entities that one replica met since its last measure.

    Args:
        met: by challenger and champion.
        share: the challenger's part of what both are to meet.
    """
    if generation < balance.generation:
        return balance
    kept = balance if generation == balance.generation else Balance(generation=generation)
    seen = kept.seen.get(replica, (0, 0))
    sums = kept.sums.get(replica, (0.0,) * len(OTHER_ODDS))
    steps = (_log_ratio(odds, met, share) for odds in OTHER_ODDS)
    return replace(
        kept,
        seen={**kept.seen, replica: (seen[0] + met[0], seen[1] + met[1])},
        sums={**kept.sums, replica: tuple(a + b for a, b in zip(sums, steps, strict=True))},
    )


def _log_ratio(odds: float, met: tuple[int, int], share: float) -> float:
    other = odds * share / (1 - share + odds * share)
    return met[0] * log(other / share) + met[1] * (log1p(-other) - log1p(-share))


def log_evidence(balance: Balance) -> float:
    """Log of the mean over replicas and other splits; 0 before anybody was met."""
    values = [value for sums in balance.sums.values() for value in sums]
    if not values:
        return 0.0
    top = max(values)
    return top + log(sum(exp(value - top) for value in values) / len(values))


def is_off(balance: Balance, alpha: float) -> bool:
    """Whether the split is surely not the one that was asked for."""
    return reached(log_evidence(balance), alpha)


def entities(balance: Balance) -> int:
    """Entities that the challenger surely met under this generation: the most on one replica."""
    return max((challenger for challenger, _ in balance.seen.values()), default=0)


def figures(balance: Balance) -> Json:
    """For events and people."""
    return {
        "generation": balance.generation,
        "seen": {replica: list(met) for replica, met in balance.seen.items()},
        "log_e": log_evidence(balance),
    }
