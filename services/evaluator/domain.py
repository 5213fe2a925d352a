"""What follows from the comparisons: gates, mode, margin, verdict. Plain numbers in and out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Literal

from pydantic import ValidationError

from shared.events import Digest, Gate, Json, ModelRegistered
from shared.spec import GateRule, ModelSpec, read_spec

Mode = Literal["first", "refresh", "change"]
Reason = Literal[
    "accepted",
    "worse",
    "not_shown_better",
    "not_shown_noninferior",
    "below_baseline",
    "limit",
    "insufficient",
    "cannot_compare",
    "invalid_input",
]

GAIN_SHARE: Final = 0.1
"""Part of the champion's proven gain over the baseline that a refresh may give away."""
_POWER_Z: Final = NormalDist().inv_cdf(0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """Who the candidate is compared with.

    Attributes:
        proven: per metric, the lower bound of its own gain over the baseline.
    """

    version: int
    manifest: Digest
    code_digest: str | None = None
    proven: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict and its reason."""

    accepted: bool
    reason: Reason
    gates: tuple[Gate, ...] = ()


def mode_of(code_digest: str, champion: Champion | None) -> Mode:
    """`refresh` when only the data is newer, `change` when anything else is, too."""
    if champion is None:
        return "first"
    return "refresh" if champion.code_digest == code_digest else "change"


def margin_of(rule: GateRule, mode: Mode, champion: Champion | None) -> float:
    """Loss that may be given away, fixed before the candidate is scored; 0 asks for superiority.

    A change has to be better. A refresh may give away what the specification says, by default a
    tenth of what the champion is proven to gain over the baseline; nothing proven, nothing to give.
    """
    if rule.vs == "absolute":
        return 0.0
    if rule.vs == "baseline":
        return rule.margin or 0.0
    if mode == "change":
        return 0.0
    if rule.margin is not None:
        return rule.margin
    proven = champion.proven if champion else None
    return max(0.0, GAIN_SHARE * (proven or {}).get(rule.metric, 0.0))


def spec_of(plain: Json) -> ModelSpec | None:
    """The specification; None when it cannot be read, and then nothing can be accepted."""
    try:
        return read_spec(plain)
    except ValidationError:
        return None


def policy_digest(spec: ModelSpec | None) -> str:
    """Digest of everything in a specification that a verdict depends on."""
    if spec is None:
        return "unreadable"
    rules = [rule.model_dump(mode="json") for rule in spec.effective_gates]
    text = json.dumps({"gates": rules, "split": spec.data.split_kind}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def seed_of(*digests: str) -> int:
    """The seed of a verdict: a function of the digests of all that goes into it."""
    joined = "\x1f".join(digests).encode()
    return int.from_bytes(hashlib.sha256(joined).digest()[:8], "big") >> 1


def judge(
    spec: ModelSpec, comparisons: Mapping[str, Json], mode: Mode, champion: Champion | None
) -> Judgement:
    """Accepted when every gate is passed; else the reason of the first that is not.

    Args:
        comparisons: by the place of the gate in the specification, as `scoring.score` gives them.
    """
    gates: list[Gate] = []
    broken: list[Reason] = []
    for place, rule in enumerate(spec.effective_gates):
        if rule.vs == "champion" and champion is None:
            continue
        found = comparisons.get(str(place)) or {"insufficient": "this gate was not compared"}
        gate, reason = _judged(rule, found, margin_of(rule, mode, champion))
        gates.append(gate)
        if reason != "accepted":
            broken.append(reason)
    if not gates:
        broken.append("insufficient")
    reason = broken[0] if broken else "accepted"
    return Judgement(accepted=not broken, reason=reason, gates=tuple(gates))


def _judged(rule: GateRule, found: Json, margin: float) -> tuple[Gate, Reason]:
    if "insufficient" in found:
        return _gate(
            rule, found, margin, passed=False, detail=found["insufficient"]
        ), "insufficient"
    passed = found["lower"] > -margin
    reason = "accepted" if passed else _reason(rule, found, margin)
    lacks_evidence = reason in ("not_shown_better", "not_shown_noninferior")
    detail = (
        f"{found['detail']}; {_wanting(rule, found, margin)}" if lacks_evidence else found["detail"]
    )
    return _gate(rule, found, margin, passed=passed, detail=detail), reason


def _reason(rule: GateRule, found: Json, margin: float) -> Reason:
    if rule.vs == "baseline":
        return "below_baseline"
    if rule.vs == "absolute":
        return "limit"
    if found["upper"] < -margin:
        return "worse"
    return "not_shown_noninferior" if margin else "not_shown_better"


def _wanting(rule: GateRule, found: Json, margin: float) -> str:
    """What could have been seen on so many rows, and how many rows the margin would need."""
    reach = (NormalDist().inv_cdf(rule.confidence) + _POWER_Z) * found["se"]
    said = f"the smallest effect that {found['rows']} rows show is {reach:.4g}"
    wanted = margin or abs(found["estimate"])
    if wanted <= 0:
        return said
    return f"{said}; {wanted:.4g} would need about {found['rows'] * (reach / wanted) ** 2:.0f} rows"


def _gate(rule: GateRule, found: Json, margin: float, *, passed: bool, detail: str) -> Gate:
    return Gate(
        metric=rule.metric,
        versus=rule.vs,
        passed=passed,
        estimate=found.get("estimate"),
        lower=found.get("lower"),
        upper=found.get("upper"),
        confidence=rule.confidence,
        margin=margin,
        rows=found.get("rows", 0),
        test=found.get("test", "none"),
        detail=detail,
        candidate_value=found.get("candidate_value"),
        other_value=found.get("other_value"),
    )


def refused(reason: Literal["invalid_input", "cannot_compare"], detail: str) -> Judgement:
    """A verdict without any comparison; its one gate carries why."""
    gate = Gate(
        metric="none",
        versus="champion" if reason == "cannot_compare" else "absolute",
        passed=False,
        estimate=None,
        lower=None,
        upper=None,
        confidence=0.0,
        margin=0.0,
        rows=0,
        test="none",
        detail=detail,
    )
    return Judgement(accepted=False, reason=reason, gates=(gate,))


def proven_gains(gates: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Per metric, how much better than the baseline a verdict has shown its version to be."""
    return {
        gate["metric"]: gate["lower"]
        for gate in gates
        if gate["versus"] == "baseline" and gate["lower"] is not None and gate["lower"] > 0
    }


def natural_key(candidate: ModelRegistered, champion: int | None, policy: str) -> str:
    """One job, and one verdict, per candidate, champion and policy."""
    return f"{candidate.model}/{candidate.version}/{champion or 'none'}/{policy}"
