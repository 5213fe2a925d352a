"""Whether a canary is worse: tests that may be read after every batch.

For every kind of event (errors, slow answers) two mixtures of likelihood ratios are kept. Given the
requests of a batch, each event falls on the canary with a chance that depends only on the ratio of
the two rates; a mixture over several ratios against the one at the border is a supermartingale
there, so crossing 1 / alpha at any time has a chance of at most alpha. It uses the shares of
requests as they came, so it survives a change of weight.

Source: Ville's inequality; mixtures as in Robbins (1970), Statistical methods related to the law of
the iterated logarithm, Ann. Math. Statist. 41(5).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, inf, lgamma, log, log1p
from typing import Final

from services.deployer.domain import Counts, Evidence, Guard, Limits, Measured
from shared.events import Json

WORSE: Final = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Ratios of rates that the test for abort looks for; its border is 1."""
BETTER: Final = (0.85, 0.67, 0.5, 0.33, 0.15, 0.05)
"""Parts of the border 1 + δ that the test for promotion looks for."""
GUARDS: Final = 2
"""Errors and slow answers; the chance of a false abort is shared among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the evidence allows now."""

    abort: bool
    advance: bool
    detail: str
    figures: Json


def gathered(evidence: Evidence, measured: Measured, limits: Limits) -> Evidence:
    """The evidence with one more batch; the same batch again changes nothing."""
    first, last = evidence.measures.get(measured.replica, (measured.sequence, 0))
    if measured.sequence <= last:
        return evidence
    one, other = measured.canary, measured.champion
    return replace(
        evidence,
        errors=_updated(evidence.errors, one, other, (one.errors, other.errors), limits),
        slow=_updated(evidence.slow, one, other, (one.slow, other.slow), limits),
        measures={**evidence.measures, measured.replica: (first, measured.sequence)},
    )


def _updated(
    guard: Guard, one: Counts, other: Counts, events: tuple[int, int], limits: Limits
) -> Guard:
    requests = (one.requests, other.requests)
    border = 1 + limits.delta
    return Guard(
        abort=_added(guard.abort, WORSE, 1.0, requests, events),
        promote=_added(guard.promote, [border * part for part in BETTER], border, requests, events),
        requests=(guard.requests[0] + requests[0], guard.requests[1] + requests[1]),
        events=(guard.events[0] + events[0], guard.events[1] + events[1]),
    )


def _added(
    before: Sequence[float],
    grid: Sequence[float],
    border: float,
    requests: tuple[int, int],
    events: tuple[int, int],
) -> tuple[float, ...]:
    sums = before or (0.0,) * len(grid)
    if not all(requests) or not any(events):
        # Requests of one arm alone compare nothing, and neither do answers without any event.
        return tuple(sums)
    steps = (log_ratio(ratio, border, requests, events) for ratio in grid)
    return tuple(total + step for total, step in zip(sums, steps, strict=True))


def log_ratio(
    ratio: float, border: float, requests: tuple[int, int], events: tuple[int, int]
) -> float:
    """Log of the likelihood of `ratio` over that of `border`, given who got the requests."""
    share, at_border = _share(ratio, requests), _share(border, requests)
    return events[0] * log(share / at_border) + events[1] * (log1p(-share) - log1p(-at_border))


def _share(ratio: float, requests: tuple[int, int]) -> float:
    return ratio * requests[0] / (requests[1] + ratio * requests[0])


def log_mixture(sums: Sequence[float]) -> float:
    """Log of the mean of exp, without overflow; 0 before the first batch."""
    if not sums:
        return 0.0
    top = max(sums)
    return top + log(sum(exp(value - top) for value in sums) / len(sums))


def upper_rate(events: int, requests: int, alpha: float) -> float:
    """Upper end of a confidence sequence for a rate: right at all times at once with 1 - alpha.

    Returns:
        The largest rate not excluded; 1 without requests.

    Source: the beta(½, ½) mixture against each rate; Ville's inequality.
    """
    if requests == 0 or events >= requests:
        return 1.0
    low, high = events / requests, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _log_excess(events, requests, middle) < -log(alpha):
            low = middle
        else:
            high = middle
    return high


def _log_excess(events: int, requests: int, rate: float) -> float:
    if rate >= 1.0:
        return inf
    rest = requests - events
    mixture = _log_beta(0.5 + events, 0.5 + rest) - _log_beta(0.5, 0.5)
    return mixture - (events * log(rate) if events else 0.0) - rest * log1p(-rate)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def weigh(evidence: Evidence, limits: Limits) -> Weighed:
    """Abort, advance or neither.

    A guard lets the canary advance when it is shown not worse than the tolerance, when neither arm
    had an event (the minimum of requests is then the whole demand), or when the canary's rate is
    surely below the limit. Any guard near an abort holds it.
    """
    guards = {"errors": evidence.errors, "slow answers": evidence.slow}
    aborts = {name: log_mixture(guard.abort) for name, guard in guards.items()}
    worst = max(aborts, key=lambda name: aborts[name])
    abort = aborts[worst] >= log(GUARDS / limits.alpha)
    calm = aborts[worst] <= log(1 / (4 * limits.alpha))
    return Weighed(
        abort=abort,
        advance=calm and all(_shown_harmless(guard, limits) for guard in guards.values()),
        detail=_told(worst, guards[worst]),
        figures=_figures(evidence, limits),
    )


def _shown_harmless(guard: Guard, limits: Limits) -> bool:
    return (
        guard.events == (0, 0)
        or log_mixture(guard.promote) >= -log(limits.alpha)
        or upper_rate(guard.events[0], guard.requests[0], limits.alpha) <= limits.event_limit
    )


def _told(name: str, guard: Guard) -> str:
    return (
        f"{name}: {guard.events[0]} of {guard.requests[0]} requests on the canary, "
        f"{guard.events[1]} of {guard.requests[1]} on the champion"
    )


def _figures(evidence: Evidence, limits: Limits) -> Json:
    return {
        "alpha": limits.alpha,
        "delta": limits.delta,
        "guards": {
            name: {
                "canary": {"requests": guard.requests[0], "events": guard.events[0]},
                "champion": {"requests": guard.requests[1], "events": guard.events[1]},
                "log_e_abort": log_mixture(guard.abort),
                "log_e_promote": log_mixture(guard.promote),
                "upper_rate": upper_rate(guard.events[0], guard.requests[0], limits.alpha),
            }
            for name, guard in (("errors", evidence.errors), ("slow", evidence.slow))
        },
        "measures": {name: list(span) for name, span in evidence.measures.items()},
    }
