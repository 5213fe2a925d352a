"""A canary's life under the deployer's own tests, read after every request that tells anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log, log1p
from typing import Literal

from bench.canary_traffic import Batch, Traffic, batches
from services.deployer.canary import GUARDS, gathered, log_mixture, weigh
from services.deployer.domain import Counts, Evidence, Guard, Limits
from services.deployer.shadow import reached

MINIMUM_REQUESTS = 100
"""Of the canary before it may advance; the default of the rollout policy."""

Outcome = Literal["abort", "promote", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a canary ended, and after how many of its own requests."""

    outcome: Outcome
    requests: int


def life(traffic: Traffic, limits: Limits, *, decides: bool = True) -> End:
    """Follow a canary to its first decision, or, if it `decides` nothing, to an abort or its end.

    Whoever looks at every request sees the evidence at each of these moments.
    """
    requests = 0
    for evidence in _evidence(traffic, limits):
        requests = evidence.errors.requests[0]
        can_abort = any(_may_abort(guard, limits) for guard in (evidence.errors, evidence.slow))
        can_advance = decides and requests >= MINIMUM_REQUESTS and _may_advance(evidence, limits)
        if not (can_abort or can_advance):
            continue
        weighed = weigh(evidence, limits)
        if weighed.abort:
            return End(outcome="abort", requests=requests)
        if can_advance and weighed.advance:
            return End(outcome="promote", requests=requests)
    return End(outcome="undecided", requests=requests)


def _evidence(traffic: Traffic, limits: Limits) -> Iterator[Evidence]:
    evidence = Evidence()
    for sequence, batch in enumerate(batches(traffic), 1):
        challenger, champion = _counts(batch, 0), _counts(batch, 1)
        evidence = gathered(
            evidence,
            replica="bench",
            sequence=sequence,
            challenger=challenger,
            champion=champion,
            limits=limits,
        )
        yield evidence


def _counts(batch: Batch, arm: int) -> Counts:
    return Counts(requests=batch.requests[arm], errors=batch.errors[arm], slow=batch.slow[arm])


# What follows only spares the full weighing where it could decide nothing; `weigh` decides.


def _may_abort(guard: Guard, limits: Limits) -> bool:
    return reached(log_mixture(guard.abort), limits.alpha, GUARDS)


def _may_advance(evidence: Evidence, limits: Limits) -> bool:
    return all(_may_be_harmless(guard, limits) for guard in (evidence.errors, evidence.slow))


def _may_be_harmless(guard: Guard, limits: Limits) -> bool:
    return (
        guard.events == (0, 0)
        or reached(log_mixture(guard.promote), limits.alpha)
        or _most_evidence_below(guard, limits.event_limit) >= -log(limits.alpha)
    )


def _most_evidence_below(guard: Guard, limit: float) -> float:
    """A mixture over rates is never likelier than the best of them."""
    events, requests = guard.events[0], guard.requests[0]
    if not requests or events >= limit * requests:
        return -inf
    share = events / requests
    wrong = events * log(share / limit) if events else 0.0
    return wrong + (requests - events) * (log1p(-share) - log1p(-limit))
