"""The decision: valid rows, then every gate, slice and check; all of them must hold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.evaluator.comparison import Asked, Compared, compare
from services.evaluator.evidence import Evidence, Floats
from services.evaluator.metrics import Insufficient, losses_of, surrogate_of
from services.evaluator.slices import Planned, planned, worst_found
from services.evaluator.slices import judged as judged_slices
from services.evaluator.verdict.gates import (
    GatePlan,
    alpha_of,
    judged,
    margin_of,
    plans_of,
)
from services.evaluator.verdict.terms import Given, Reason, Rules, Verdict, refused
from services.evaluator.verdict.validity import flaw_of
from shared.events import Check, Gate, SliceVerdict

MOST_DRAWS: Final = 10_000
"""A later use of the same rows has an alpha that needs more draws to be read off them."""
_CHAMPION: Final = "champion below baseline"


def decide(evidence: Evidence, rules: Rules, given: Given) -> Verdict:
    """Accepted when every rule holds; else the reason of the first that does not.

    A function of its arguments alone: the order of the rows is of no account, and the same
    arguments give the same bits on every processor.
    """
    rows, checks = len(evidence), evidence.checks
    if given.holdout_use > rules.uses:
        detail = f"these rows gave {given.holdout_use - 1} verdicts, and {rules.uses} are allowed"
        return refused("holdout_exhausted", detail, rows=rows, checks=checks)
    flaw = flaw_of(evidence, rules, given)
    if flaw:
        return refused(flaw.reason, flaw.detail, rows=rows, checks=checks)
    return _decided(evidence.taken(evidence.order()), rules, given)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Everything that is compared."""

    gates: Sequence[GatePlan]
    slices: Sequence[Planned]
    asked: Mapping[str, Asked]


def _decided(evidence: Evidence, rules: Rules, given: Given) -> Verdict:
    plan = _planned(evidence, rules, given)
    draws = max(rules.draws, min(MOST_DRAWS, math.ceil(1 / _least_alpha(plan))))
    found = compare(evidence, plan.asked, draws=draws, seed=given.seed)
    gates = [
        judged(gate, found[_gate_name(place)], evidence, given.seed)
        for place, gate in enumerate(plan.gates)
    ]
    slices = judged_slices(
        plan.slices,
        [
            found[_slice_name(place)].interval if _slice_name(place) in found else None
            for place in range(len(plan.slices))
        ],
    )
    reason = _reason(gates, slices, evidence.checks)
    return Verdict(
        accepted=reason == "accepted",
        reason=reason,
        gates=tuple(gate for gate, _ in gates),
        slices=tuple(part for part, _ in slices),
        checks=evidence.checks,
        champion_below_baseline=_is_below(found.get(_CHAMPION), plan, given),
        e_value=min((gate.e_value or 0.0 for gate, _ in gates), default=0.0),
        rows=len(evidence),
        units=gates[0][0].units if gates else 0,
        draws=draws if any(part.draws for part in found.values()) else 0,
    )


def _reason(
    gates: Sequence[tuple[Gate, Reason]],
    slices: Sequence[tuple[SliceVerdict, Reason | None]],
    checks: Sequence[Check],
) -> Reason:
    """The first rule that is broken: gates, then slices, then checks."""
    broken: list[Reason] = [reason for _, reason in gates if reason != "accepted"]
    broken += [reason for _, reason in slices if reason is not None]
    broken += ["check_failed" for check in checks if not check.passed]
    if not gates:
        broken.append("insufficient")
    return broken[0] if broken else "accepted"


# --- what is compared -------------------------------------------------------------------------


def _planned(evidence: Evidence, rules: Rules, given: Given) -> _Plan:
    gates, slices = plans_of(rules, given), _slices(evidence, rules, given)
    asked = {_gate_name(place): gate.asked(evidence) for place, gate in enumerate(gates)}
    opponent = "baseline" if given.mode == "first" else "champion"
    for place, part in enumerate(slices):
        is_compared = part.role == "found" or given.mode != "first"
        if is_compared and not part.lacking:
            asked[_slice_name(place)] = Asked(metric=part.metric, other=opponent, mask=part.mask)
    baseline = _against_baseline(gates)
    if given.mode != "first" and baseline is not None:
        asked[_CHAMPION] = Asked(
            metric=baseline.terms.metric, other="baseline", candidate="champion"
        )
    return _Plan(gates=gates, slices=slices, asked=asked)


def _gate_name(place: int) -> str:
    return f"gate {place}"


def _slice_name(place: int) -> str:
    return f"slice {place}"


def _slices(evidence: Evidence, rules: Rules, given: Given) -> list[Planned]:
    proven = given.champion_proven
    plans = planned(
        evidence,
        rules.slices,
        {term.name: margin_of(term.margin, term.metric, proven) for term in rules.slices},
        {term.name: alpha_of(term.confidence, given.holdout_use) for term in rules.slices},
    )
    worst = _worst(evidence, rules, given)
    return plans + ([worst] if worst else [])


def _worst(evidence: Evidence, rules: Rules, given: Given) -> Planned | None:
    """The worst part that was looked for, against the champion or, without one, the baseline."""
    if not evidence.found or not rules.gates:
        return None
    gate = rules.gates[0]
    differences = _row_differences(evidence, gate.metric, given)
    name = worst_found(evidence, differences)
    if name is None:
        return None
    return Planned(
        name=name,
        where=name,
        role="found",
        metric=gate.metric,
        margin=margin_of(gate.margin, gate.metric, given.champion_proven),
        alpha=alpha_of(gate.confidence, given.holdout_use),
        mask=evidence.found[name],
    )


def _row_differences(evidence: Evidence, metric: str, given: Given) -> Floats:
    by_rows = surrogate_of(metric, evidence.task)
    opponent = "baseline" if given.mode == "first" else "champion"
    other, own = (losses_of(evidence, name, by_rows) for name in (opponent, "candidate"))
    with np.errstate(invalid="ignore"):
        differences: Floats = other - own
    return np.where(np.isfinite(differences), differences, 0.0)


def _against_baseline(gates: Sequence[GatePlan]) -> GatePlan | None:
    return next(
        (plan for plan in gates if plan.versus == "baseline" and plan.terms.slice is None), None
    )


def _least_alpha(plan: _Plan) -> float:
    watched = [part for part in plan.slices if part.role == "watched"]
    alphas = [gate.alpha for gate in plan.gates] + [part.alpha for part in plan.slices]
    alphas += [part.alpha / len(watched) for part in watched]
    return min(alphas, default=0.05)


def _is_below(found: Compared | None, plan: _Plan, given: Given) -> bool:
    """Whether the champion is no longer shown to beat the baseline."""
    gate = _against_baseline(plan.gates)
    if given.mode == "first" or found is None or gate is None:
        return False
    if isinstance(found.interval, Insufficient):
        return True
    return not found.interval.lower(1 - gate.alpha) > 0
