"""Whether a challenger is worse: tests that may be read after every batch.

For every kind of event (errors, slow answers) two mixtures of likelihood ratios are kept. Given the
requests of a batch, each event falls on the challenger with a chance that depends only on the ratio
of the two rates; a mixture over several ratios against the one at the border is a supermartingale
there, so crossing 1 / alpha at any time has a chance of at most alpha. It uses the shares of
requests as they came, so it survives a change of weight. Where events are common, requests that had
one cannot have another: then the count on the challenger is hypergeometric and the ratio is that of
the odds, which lies beyond the ratio of the rates, so that the border stays a border.

Source: Ville's inequality; mixtures as in Robbins (1970), Statistical methods related to the law of
the iterated logarithm, Ann. Math. Statist. 41(5); Fisher's non-central hypergeometric distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, inf, lgamma, log, log1p
from typing import Final

from services.deployer.domain import Counts, Evidence, Guard, Limits
from services.deployer.shadow import reached
from shared.events import Json

WORSE: Final = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Ratios of rates that the test for abort looks for; its border is 1."""
BETTER: Final = (0.85, 0.67, 0.5, 0.33, 0.15, 0.05)
"""Parts of the border 1 + δ that the test for promotion looks for."""
GUARDS: Final = 3
"""Errors, slow answers and losses; the chance of a false abort is shared among them."""
COMMON: Final = 0.1
"""Above this share of events among requests the hypergeometric likelihood is taken."""
_NEGLIGIBLE: Final = -40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the evidence allows now.

    Attributes:
        abort: harm is shown.
        calm: no test is anywhere near showing harm.
        harmless: errors and slow answers are shown to lie within the tolerance, or are too rare.
        no_loss, better: the loss is shown to be no worse than the margin; to be smaller.
        unsuspicious: as far as counts go, nothing lies beyond the tolerance.
    """

    abort: bool
    calm: bool
    harmless: bool
    no_loss: bool
    better: bool
    unsuspicious: bool
    detail: str
    figures: Json

    @property
    def advance(self) -> bool:
        """Whether it may answer more."""
        return self.calm and self.harmless


def gathered(
    evidence: Evidence,
    *,
    replica: str,
    sequence: int,
    challenger: Counts,
    champion: Counts,
    limits: Limits,
) -> Evidence:
    """The evidence with one more batch; the same batch again changes nothing."""
    first, last = evidence.measures.get(replica, (sequence, 0))
    if sequence <= last:
        return evidence
    one, other = challenger, champion
    return replace(
        evidence,
        errors=updated(evidence.errors, one, other, (one.errors, other.errors), limits),
        slow=updated(evidence.slow, one, other, (one.slow, other.slow), limits),
        measures={**evidence.measures, replica: (first, sequence)},
    )


def updated(
    guard: Guard, one: Counts, other: Counts, events: tuple[int, int], limits: Limits
) -> Guard:
    """A guard with the events of one batch, of challenger and champion."""
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
    # One event alone falls on an arm with the same chance under both likelihoods.
    is_common = sum(events) > max(1.0, COMMON * sum(requests))
    compared = log_odds_ratio if is_common else log_ratio
    steps = (compared(ratio, border, requests, events) for ratio in grid)
    return tuple(total + step for total, step in zip(sums, steps, strict=True))


def log_ratio(
    ratio: float, border: float, requests: tuple[int, int], events: tuple[int, int]
) -> float:
    """Log of the likelihood of `ratio` over that of `border`, given who got the requests."""
    share, at_border = _share(ratio, requests), _share(border, requests)
    return events[0] * log(share / at_border) + events[1] * (log1p(-share) - log1p(-at_border))


def _share(ratio: float, requests: tuple[int, int]) -> float:
    return ratio * requests[0] / (requests[1] + ratio * requests[0])


def log_odds_ratio(
    ratio: float, border: float, requests: tuple[int, int], events: tuple[int, int]
) -> float:
    """The same for events that are common, where the ratio is that of the odds."""
    total = sum(events)
    return (
        events[0] * log(ratio / border)
        + _log_total(border, requests, total)
        - _log_total(ratio, requests, total)
    )


def _log_total(odds: float, requests: tuple[int, int], events: int) -> float:
    """Log of the sum over all counts x of C(n0, x) C(n1, events - x) odds^x.

    The terms rise to one top and fall; only those near it are added.
    """
    least, most = max(0, events - requests[1]), min(events, requests[0])

    def term(x: int) -> float:
        return _log_choose(requests[0], x) + _log_choose(requests[1], events - x) + x * log(odds)

    top = _highest(odds, requests, events, least, most)
    height = term(top)
    total = 1.0
    for step in (1, -1):
        x = top + step
        while least <= x <= most and (below := term(x) - height) > _NEGLIGIBLE:
            total += exp(below)
            x += step
    return height + log(total)


def _highest(odds: float, requests: tuple[int, int], events: int, least: int, most: int) -> int:
    """The count with the largest term: the last one that is larger than the one before it."""
    while least < most:
        x = (least + most + 1) // 2
        rises = odds * (requests[0] - x + 1) * (events - x + 1) > x * (requests[1] - events + x)
        least, most = (x, most) if rises else (least, x - 1)
    return least


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


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


def lower_rate(events: int, requests: int, alpha: float) -> float:
    """Lower end of the same; 0 without events."""
    return 1 - upper_rate(requests - events, requests, alpha)


def _log_excess(events: int, requests: int, rate: float) -> float:
    if rate >= 1.0:
        return inf
    rest = requests - events
    mixture = _log_beta(0.5 + events, 0.5 + rest) - _log_beta(0.5, 0.5)
    return mixture - (events * log(rate) if events else 0.0) - rest * log1p(-rate)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def weigh(evidence: Evidence, limits: Limits, *, pairs: bool = True) -> Weighed:
    """What may follow: abort, advance, promote, or none of them yet.

    Counts let the challenger advance when they are shown to lie within the tolerance, when neither
    arm had an event (the minimum of requests is then the whole demand), or when the challenger's
    rate is surely below the limit. Any guard near an abort holds it.

    Args:
        pairs: whether labels of a shadow count; False when its evidence is void.
    """
    guards = {"errors": evidence.errors, "slow answers": evidence.slow}
    wealth = evidence.losses.wealth(pairs=pairs)
    aborts = {name: log_mixture(guard.abort) for name, guard in guards.items()}
    aborts["losses"] = wealth.worse
    worst = max(aborts, key=lambda name: aborts[name])
    return Weighed(
        abort=reached(aborts[worst], limits.alpha, GUARDS),
        calm=aborts[worst] <= log(1 / (4 * limits.alpha)),
        harmless=all(_shown_harmless(guard, limits) for guard in guards.values()),
        no_loss=reached(wealth.harmless, limits.alpha),
        better=reached(wealth.better, limits.alpha),
        unsuspicious=not any(_is_suspicious(guard, limits) for guard in guards.values()),
        detail=_told(worst, guards[worst]) if worst in guards else _losses_told(evidence),
        figures=_figures(evidence, limits),
    )


def _shown_harmless(guard: Guard, limits: Limits) -> bool:
    return (
        guard.events == (0, 0)
        or reached(log_mixture(guard.promote), limits.alpha)
        or upper_rate(guard.events[0], guard.requests[0], limits.alpha) <= limits.event_limit
    )


def _is_suspicious(guard: Guard, limits: Limits) -> bool:
    one, other = (
        events / requests if requests else 0.0
        for events, requests in zip(guard.events, guard.requests, strict=True)
    )
    return one > max((1 + limits.delta) * other, limits.event_limit)


def _told(name: str, guard: Guard) -> str:
    return (
        f"{name}: {guard.events[0]} of {guard.requests[0]} requests on the challenger, "
        f"{guard.events[1]} of {guard.requests[1]} on the champion"
    )


def _losses_told(evidence: Evidence) -> str:
    pairs, singles = evidence.losses.pair_moments, evidence.losses.single_moments
    return (
        f"losses: larger on the challenger, by {pairs.rows} requests that both answered "
        f"and by the answers to {singles.rows} entities"
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
        "losses": evidence.losses.figures(),
        "measures": {name: list(span) for name, span in evidence.measures.items()},
        "entities": evidence.entities,
        "exposed": evidence.exposed.requests,
    }
