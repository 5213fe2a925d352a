"""Figures of a verdict as readers see them while its held-out rows still judge.

Whoever sees every digit of what the same rows say can climb on their noise. So intervals are told
in quarters of their width, and what would give the exact figures away is left out.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from shared.events import Json

NOTE: Final = "rounded while these held-out rows still judge"
_ROUNDED: Final = ("estimate", "lower", "upper", "candidate_value", "other_value")
_LEFT_OUT: Final = ("se", "e_value", "p_value", "smallest_effect")


def coarse(fields: Mapping[str, Any]) -> Json:
    """The fields of an `EvaluationCompleted`, plain JSON, without its exact figures.

    Decisions, reasons, counts and checks stay as they are.
    """
    told: Json = dict(fields)
    told["gates"] = [_rounded(gate) for gate in fields.get("gates") or ()]
    told["slices"] = [_rounded(part) for part in fields.get("slices") or ()]
    if fields.get("fleet"):
        told["fleet"] = dict(fields["fleet"]) | {"e_value": None}
    if fields.get("best"):
        told["best"] = dict(fields["best"]) | {
            "ranking": [[version, None] for version, _ in fields["best"]["ranking"]]
        }
    policy = fields.get("policy") or {}
    if policy.get("given"):
        given = dict(policy["given"]) | {"champion_proven": {}, "anchor_proven": {}}
        told["policy"] = dict(policy) | {"given": given}
    return told


def step_of(lower: float, upper: float) -> float:
    """About a quarter of an interval's width: 1, 2 or 5 times a power of ten, at least that much.

    Only such steps, so that the step itself tells little of the width.
    """
    quarter = (upper - lower) / 4
    if not math.isfinite(quarter) or quarter <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(quarter))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= quarter * (1 - 1e-12))


def _rounded(part: Mapping[str, Any]) -> Json:
    told: Json = dict(part)
    lower, upper = part.get("lower"), part.get("upper")
    if lower is None or upper is None:
        return told
    step = step_of(lower, upper)
    for name in _ROUNDED:
        if part.get(name) is not None and step:
            told[name] = _nearest(part[name], step)
    for name in _LEFT_OUT:
        if name in told:
            told[name] = None
    told["detail"] = NOTE
    return told


def _nearest(value: float, step: float) -> float:
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return round(round(value / step) * step, digits)
