"""Single gates: what each compares, which margin and how much error it has, what comes of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

from services.evaluator.comparison import Asked, Compared
from services.evaluator.evidence import Evidence
from services.evaluator.fleet import betting_e_value, calibrated_e_value
from services.evaluator.metrics import Insufficient, known_scale
from services.evaluator.verdict.terms import GateTerms, Given, Reason, Rules
from shared.events import Gate

GAIN_SHARE: Final = 0.1
"""Part of a proven gain over the baseline that a non-inferior candidate may give away."""
_POWER_Z: Final = NormalDist().inv_cdf(0.8)

Versus = Literal["champion", "anchor", "baseline", "absolute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """One comparison that must hold."""

    terms: GateTerms
    versus: Versus
    margin: float
    alpha: float

    def asked(self, evidence: Evidence) -> Asked:
        """What must be compared for it."""
        mask = None if self.terms.slice is None else evidence.slices[self.terms.slice]
        limit = self.terms.limit
        other = self.versus if limit is None else float(limit)
        return Asked(metric=self.terms.metric, other=other, mask=mask)


def alpha_of(confidence: float, use: int) -> float:
    """Error of the k-th verdict on the same rows; those of all k together stay within alpha."""
    return (1 - confidence) / (use * (use + 1))


def margin_of(declared: float | None, metric: str, proven: Mapping[str, float]) -> float:
    """Loss that may be given away, fixed before the candidate is scored.

    By default a tenth of what is proven to be gained over the baseline; nothing proven, nothing to
    give.
    """
    if declared is not None:
        return declared
    return max(0.0, GAIN_SHARE * proven.get(metric, 0.0))


def plans_of(rules: Rules, given: Given) -> list[GatePlan]:
    """Every gate that applies, each against the champion followed by that against the anchor."""
    found: list[GatePlan] = []
    for terms in rules.gates:
        alpha = alpha_of(terms.confidence, given.holdout_use)
        if terms.vs != "champion":
            # Below the baseline there is nothing to give away, and a limit is a limit.
            found.append(GatePlan(terms=terms, versus=terms.vs, margin=0.0, alpha=alpha))
            continue
        if given.mode == "first":
            continue
        margin = margin_of(terms.margin, terms.metric, given.champion_proven)
        margin = 0.0 if given.mode == "change" else margin
        found.append(GatePlan(terms=terms, versus="champion", margin=margin, alpha=alpha))
        if given.anchor and rules.anchor:
            margin = margin_of(terms.margin, terms.metric, given.anchor_proven)
            found.append(GatePlan(terms=terms, versus="anchor", margin=margin, alpha=alpha))
    return found


def judged(plan: GatePlan, found: Compared, evidence: Evidence, seed: int) -> tuple[Gate, Reason]:
    """The gate and what it says: passed, or why not."""
    interval, confidence = found.interval, 1 - plan.alpha
    if isinstance(interval, Insufficient):
        return _gate(plan, found, "insufficient", detail=str(interval)), "insufficient"
    bounds = (interval.lower(confidence), interval.upper(confidence), interval.se)
    if not all(math.isfinite(value) for value in (*bounds, interval.estimate)):
        detail = f"the interval is not finite; {interval.detail}"
        return _gate(plan, found, "insufficient", detail=detail), "insufficient"
    reason = _reason(plan, *bounds[:2])
    detail = interval.detail
    if reason in ("not_shown_better", "not_shown_noninferior", "below_baseline"):
        detail = f"{detail}; {_wanting(plan, found)}"
    return _gate(
        plan, found, reason, detail=detail, e_value=e_value(plan, found, evidence, seed)
    ), reason


def _reason(plan: GatePlan, lower: float, upper: float) -> Reason:
    if plan.versus == "absolute":
        return "accepted" if lower >= 0 else "limit"
    if lower > -plan.margin:
        return "accepted"
    if plan.versus == "baseline":
        return "below_baseline"
    if upper < -plan.margin:
        return "worse"
    return "not_shown_noninferior" if plan.margin else "not_shown_better"


def smallest_effect(alpha: float, se: float) -> float:
    """The smallest difference that is shown with power 0.8."""
    return float(f"{(NormalDist().inv_cdf(1 - alpha) + _POWER_Z) * se:.12g}")


def _wanting(plan: GatePlan, found: Compared) -> str:
    """What could have been seen on so many rows, and how many rows the margin would need."""
    interval = found.interval
    if isinstance(interval, Insufficient):
        return str(interval)
    effect = smallest_effect(plan.alpha, interval.se)
    said = f"the smallest effect that {interval.rows} rows show is {effect:.4g}"
    wanted = plan.margin or abs(interval.estimate)
    if wanted <= 0 or not effect:
        return said
    return (
        f"{said}; {wanted:.4g} would need about {interval.rows * (effect / wanted) ** 2:.0f} rows"
    )


def e_value(plan: GatePlan, found: Compared, evidence: Evidence, seed: int) -> float:
    """Evidence against `no better than -margin`: bets on independent rows, else from a t-tail."""
    if isinstance(found.interval, Insufficient):
        return 0.0
    if found.independent is None:
        return calibrated_e_value(found.interval.doubt(-plan.margin))
    classes = max((len(labels) for labels in evidence.classes.values()), default=0)
    scale = known_scale(plan.terms.metric, classes)
    if scale is not None and plan.terms.limit is not None:
        scale = max(scale, abs(plan.terms.limit))
    return betting_e_value(found.independent, plan.margin, scale, seed)


def _gate(
    plan: GatePlan, found: Compared, reason: Reason, *, detail: str, e_value: float | None = None
) -> Gate:
    interval = None if isinstance(found.interval, Insufficient) else found.interval
    known = interval if reason != "insufficient" else None
    return Gate(
        metric=plan.terms.metric,
        versus=plan.versus,
        passed=reason == "accepted",
        estimate=known.estimate if known else None,
        lower=known.lower(1 - plan.alpha) if known else None,
        upper=known.upper(1 - plan.alpha) if known else None,
        confidence=1 - plan.alpha,
        margin=plan.margin,
        rows=found.rows,
        test=interval.test if interval else "none",
        detail=detail,
        candidate_value=found.candidate_value,
        other_value=found.other_value,
        slice=plan.terms.slice,
        se=known.se if known else None,
        units=interval.units if interval else 0,
        smallest_effect=smallest_effect(plan.alpha, known.se) if known else None,
        e_value=e_value,
    )
