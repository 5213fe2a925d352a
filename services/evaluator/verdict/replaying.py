"""A recorded verdict computed again, bit for bit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from services.evaluator.evidence import read_evidence
from services.evaluator.fleet import FleetState, claim
from services.evaluator.verdict.deciding import decide
from services.evaluator.verdict.terms import Rules, Verdict, given_of, rules_of
from shared.errors import Unprocessable
from shared.events import Check, FleetClaim, Gate, SliceVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A recorded verdict computed again."""

    same: bool
    differences: tuple[str, ...]
    """Names of the fields that came out otherwise, as `gates[0].lower`."""
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """The fields of an `EvaluationCompleted` that follow from its evidence and its policy."""

    accepted: bool
    reason: str
    gates: tuple[Gate, ...]
    slices: tuple[SliceVerdict, ...]
    checks: tuple[Check, ...]
    champion_below_baseline: bool
    rows: int
    draws: int
    engine: str
    policy_digest: str
    fleet: FleetClaim | None = None


_RECORDED: Final = TypeAdapter(_Recorded)


def replayed(event: Mapping[str, Any], evidence: bytes) -> Replay:
    """Compute the verdict of a recorded event again, from its policy and its evidence.

    Args:
        event: the fields of the recorded `EvaluationCompleted`, as plain JSON.

    Raises:
        Unprocessable: the event, its policy or the evidence cannot be read.
    """
    try:
        recorded = _RECORDED.validate_python(dict(event))
        policy = event["policy"]
        rules, given = rules_of(policy["rules"]), given_of(policy["given"])
    except (ValidationError, KeyError, TypeError) as error:
        raise Unprocessable("the event does not say by which rules it was decided") from error
    verdict = decide(read_evidence(evidence), rules, given)
    expected = _expected(verdict, rules, recorded.fleet)
    differences = tuple(_differences("", asdict(recorded), asdict(expected)))
    return Replay(same=not differences, differences=differences, verdict=verdict)


def _expected(verdict: Verdict, rules: Rules, made: FleetClaim | None) -> _Recorded:
    fleet = _claimed(verdict, rules, made)
    is_refused = verdict.accepted and fleet is not None and not fleet.passed
    return _Recorded(
        accepted=verdict.accepted and not is_refused,
        reason="fleet_fdr" if is_refused else verdict.reason,
        gates=verdict.gates,
        slices=verdict.slices,
        checks=verdict.checks,
        champion_below_baseline=verdict.champion_below_baseline,
        rows=verdict.rows,
        draws=verdict.draws,
        engine=verdict.engine,
        policy_digest=rules.digest(),
        fleet=fleet,
    )


def _claimed(verdict: Verdict, rules: Rules, made: FleetClaim | None) -> FleetClaim | None:
    """The claim again, at its place in the stream; the place itself is the stream's to know."""
    if made is None:
        return None
    state = FleetState(claims=made.claim - 1, accepted=made.accepted_before)
    return claim(verdict.e_value, state, rules.fleet_alpha, stream=made.stream)


def _differences(place: str, one: Any, other: Any) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        inner = {key: (f"{place}.{key}".lstrip("."), one[key], other[key]) for key in one}
        return [name for parts in inner.values() for name in _differences(*parts)]
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return [
            name
            for index, (first, second) in enumerate(zip(one, other, strict=True))
            for name in _differences(f"{place}[{index}]", first, second)
        ]
    return [] if one == other else [place]
