"""Parts of the held-out rows on which the candidate must not do worse than the champion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from services.evaluator.comparison import Found
from services.evaluator.evidence import Evidence, Floats, Mask
from services.evaluator.metrics import Insufficient
from shared.events import SliceVerdict

REST: Final = "rest"
LEAST_FOUND: Final = 50
"""Rows of a part that is looked for automatically."""

Role = Literal["required", "watched", "found"]
Broken = Literal["slice_harmed", "insufficient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTerms:
    """A slice with its defaults worked out."""

    name: str
    where: str
    role: Literal["required", "watched"]
    metric: str
    margin: float | None = None
    """None: a tenth of the champion's proven gain in the metric."""
    confidence: float = 0.95
    min_rows: int = 50
    min_positives: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A slice to be compared, or why it cannot be.

    Attributes:
        alpha: error spent if this slice were alone.
        lacking: what it has too little of.
    """

    name: str
    where: str
    role: Role
    metric: str
    margin: float
    alpha: float
    mask: Mask
    lacking: str | None = None


def planned(
    evidence: Evidence,
    terms: Sequence[SliceTerms],
    margins: Mapping[str, float],
    alphas: Mapping[str, float],
) -> list[Planned]:
    """Slices with their sizes looked at; watched ones that are too small become one, the rest.

    Args:
        margins, alphas: by the name of the slice.
    """
    found: list[Planned] = []
    small: list[tuple[SliceTerms, Planned]] = []
    for term in terms:
        plan = Planned(
            name=term.name,
            where=term.where,
            role=term.role,
            metric=term.metric,
            margin=margins[term.name],
            alpha=alphas[term.name],
            mask=evidence.slices[term.name],
            lacking=_lacking(evidence, evidence.slices[term.name], term),
        )
        if term.role == "watched" and plan.lacking:
            small.append((term, plan))
        else:
            found.append(plan)
    metrics = dict.fromkeys(term.metric for term, _ in small)
    rests = ([pair for pair in small if pair[0].metric == metric] for metric in metrics)
    return found + [_rest(evidence, pairs) for pairs in rests]


def _lacking(evidence: Evidence, mask: Mask, term: SliceTerms) -> str | None:
    rows = int(mask.sum())
    if not rows:
        return "no held-out row lies in this slice"
    if rows < term.min_rows:
        return f"{rows} rows are fewer than {term.min_rows}"
    if term.min_positives and evidence.task == "classification":
        rarest = _rarest(evidence, mask)
        if rarest < term.min_positives:
            return f"{rarest} rows of the rarer class are fewer than {term.min_positives}"
    return None


def _rarest(evidence: Evidence, mask: Mask) -> int:
    outcomes = evidence.y[mask].tolist()
    return min((outcomes.count(label) for label in evidence.classes["candidate"]), default=0)


def _rest(evidence: Evidence, small: Sequence[tuple[SliceTerms, Planned]]) -> Planned:
    """All watched slices of a metric that are too small, together; the strictest terms of all."""
    mask: Mask = np.logical_or.reduce([plan.mask for _, plan in small])
    easiest = min((term for term, _ in small), key=lambda term: term.min_rows)
    first = small[0][1]
    return Planned(
        name=REST,
        where=" or ".join(f"({term.where})" for term, _ in small),
        role="watched",
        metric=first.metric,
        margin=min(plan.margin for _, plan in small),
        alpha=max(plan.alpha for _, plan in small),
        mask=mask,
        lacking=_lacking(evidence, mask, easiest),
    )


def judged(
    plans: Sequence[Planned], found: Sequence[Found | None]
) -> list[tuple[SliceVerdict, Broken | None]]:
    """Required slices each at their alpha; watched ones by Holm's steps.

    All required ones must be shown to be no worse, so nothing is divided among them. Watched ones
    block when shown to be worse, and the more there are the more must be shown.

    Args:
        found: what came of each plan; None where it was not compared.
    """
    harms = {
        place: interval.harm(-plan.margin)
        for place, (plan, interval) in enumerate(zip(plans, found, strict=True))
        if plan.role == "watched" and not plan.lacking and _is_interval(interval)
        if interval is not None and not isinstance(interval, Insufficient)
    }
    harmed = holm(harms, {place: plans[place].alpha for place in harms})
    return [
        _judged(plan, found[place], harms.get(place), harmed=place in harmed)
        for place, plan in enumerate(plans)
    ]


def _is_interval(found: Found | None) -> bool:
    return found is not None and not isinstance(found, Insufficient)


def holm(p_values: Mapping[int, float], alphas: Mapping[int, float]) -> set[int]:
    """Keys whose hypothesis is rejected, with all errors together kept at alpha.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian
    Journal of Statistics 6.
    """
    rejected: set[int] = set()
    for step, key in enumerate(sorted(p_values, key=lambda key: (p_values[key], key))):
        if p_values[key] > alphas[key] / (len(p_values) - step):
            break
        rejected.add(key)
    return rejected


def _judged(
    plan: Planned, found: Found | None, harm: float | None, *, harmed: bool
) -> tuple[SliceVerdict, Broken | None]:
    is_required = plan.role == "required"
    if plan.lacking or isinstance(found, Insufficient):
        detail = plan.lacking or str(found)
        broken: Broken | None = "insufficient" if is_required else None
        return _told(plan, None, broken, detail, None), broken
    if found is None:
        return _told(plan, None, None, "no champion to compare with", None), None
    if is_required:
        broken = None if found.lower(1 - plan.alpha) > -plan.margin else "slice_harmed"
    else:
        broken = "slice_harmed" if harmed else None
    return _told(plan, found, broken, found.detail, harm), broken


def _told(
    plan: Planned, found: Found | None, broken: Broken | None, detail: str, harm: float | None
) -> SliceVerdict:
    interval = None if isinstance(found, Insufficient) else found
    return SliceVerdict(
        name=plan.name,
        where=plan.where,
        role=plan.role,
        metric=plan.metric,
        passed=broken is None,
        rows=int(plan.mask.sum()),
        estimate=interval.estimate if interval else None,
        lower=interval.lower(1 - plan.alpha) if interval else None,
        upper=interval.upper(1 - plan.alpha) if interval else None,
        margin=plan.margin,
        p_value=harm,
        detail=detail,
    )


def worst_found(evidence: Evidence, differences: Floats) -> str | None:
    """The part, of those looked for automatically, where the candidate does worst.

    By the lowest mean difference in standard errors; it is the worst of many and proves nothing.

    Args:
        differences: loss(other) - loss(candidate) per row.
    """
    scores: dict[str, float] = {}
    for name in sorted(evidence.found):
        inside = differences[evidence.found[name]]
        if len(inside) >= LEAST_FOUND and len(inside) < len(differences):
            spread = float(inside.std(ddof=1))
            scores[name] = float(inside.mean()) / spread * len(inside) ** 0.5 if spread else 0.0
    return min(scores, key=lambda name: (round(scores[name], 9), name)) if scores else None
