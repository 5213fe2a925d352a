"""Recorded verdicts again, in a child: from evidence alone, by the rules of then or by others.

Nothing is scored here, so what the evidence does not hold cannot be judged, and that is said.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.evaluator.checks import bounds, latency, size
from services.evaluator.domain import spec_of, verdict_to_plain
from services.evaluator.evidence import Evidence, read_evidence
from services.evaluator.verdict import Rules, decide, given_of, replayed, rules_from, rules_of
from shared.errors import TidewheelError, Unprocessable
from shared.events import Check, Json
from shared.spec_gate import Checks

Argument = Mapping[str, Any]


def replay(argument: Argument) -> dict[str, Any]:
    """A recorded verdict computed again; an entry of the child.

    Args:
        argument: `event` as plain fields, `evidence` as bytes.
    """
    try:
        again = replayed(argument["event"], argument["evidence"])
    except TidewheelError as error:
        return {"problem": str(error)}
    return {
        "same": again.same,
        "differences": list(again.differences),
        "verdict": verdict_to_plain(again.verdict),
    }


def rejudge(argument: Argument) -> dict[str, Any]:
    """A recorded verdict by other rules; an entry of the child.

    Args:
        argument: `event` as plain fields, `evidence` as bytes, `policy` with parts of a
            specification that take the place of the model's own.

    Returns:
        `accepted`, `reason` and `e_value`; or a `problem`: why it cannot be judged so.
    """
    try:
        event: Json = argument["event"]
        if "rules" not in event["policy"]:
            raise Unprocessable("the event does not say by which rules it was decided")
        found = read_evidence(argument["evidence"])
        recorded = rules_of(event["policy"]["rules"])
        rules = _changed(recorded, event["spec"], argument["policy"])
        given = given_of(event["policy"]["given"])
        fitted = _refitted(found, recorded, rules)
        verdict = decide(fitted, rules, given)
    except TidewheelError as error:
        return {"problem": str(error)}
    return {"accepted": verdict.accepted, "reason": verdict.reason, "e_value": verdict.e_value}


def _changed(recorded: Rules, spec: Json, policy: Json) -> Rules:
    if not policy:
        return recorded
    changed = spec_of(spec | policy)
    if changed is None:
        raise Unprocessable("this policy does not fit the model's specification")
    return rules_from(changed, recorded.draws)


def _refitted(found: Evidence, recorded: Rules, rules: Rules) -> Evidence:
    """The evidence under the names that the changed rules use.

    Raises:
        Unprocessable: they ask for what was not recorded.
    """
    if rules.entity not in (None, recorded.entity):
        raise Unprocessable(f"the entities of {rules.entity!r} are not in the evidence")
    if rules.anchor and not recorded.anchor:
        raise Unprocessable("the anchor was not scored then")
    for metric in {gate.metric for gate in rules.gates} | {part.metric for part in rules.slices}:
        if ":" in metric and ("candidate", metric) not in found.own_losses:
            raise Unprocessable(f"the losses of {metric} are not in the evidence")
    known = {where: found.slices[name] for name, where in recorded.conditions.items()}
    known |= found.found
    missing = sorted(name for name, where in rules.conditions.items() if where not in known)
    if missing:
        raise Unprocessable(f"the rows of the slice {missing[0]!r} are not in the evidence")
    return replace(
        found,
        entities=None if rules.entity is None else found.entities,
        slices={name: known[where] for name, where in rules.conditions.items()},
        checks=_rechecked(found, recorded, rules),
    )


def _rechecked(found: Evidence, recorded: Rules, rules: Rules) -> tuple[Check, ...]:
    """Recorded figures against other limits; answers are there, models are not."""
    if rules.checks == recorded.checks:
        return found.checks
    old, new = (Checks.model_validate(plain.checks) for plain in (recorded, rules))
    known = {check.name: check for check in found.checks}
    checks: list[Check] = []
    if new.bounds is not None:
        checks.append(bounds(new.bounds, found.answers["candidate"], found.row_hashes))
    for column, direction in sorted(new.monotone.items()):
        if old.monotone.get(column) != direction:
            raise Unprocessable(f"the sweep of {column!r} is not in the evidence")
        checks.append(known[f"monotone {column}"])
    for probe in new.probes:
        if probe not in old.probes:
            raise Unprocessable(f"the answer to the probe {probe.name!r} is not in the evidence")
        checks.append(known[f"probe {probe.name}"])
    if new.latency is not None:
        value = _figure(known, "latency", "latency was not measured then")
        checks.append(latency(value, new.latency.total_seconds()))
    if new.size_mb is not None:
        value = _figure(known, "size", "the size of the files is not in the evidence")
        checks.append(size(value, new.size_mb))
    return tuple(checks)


def _figure(known: Mapping[str, Check], name: str, otherwise: str) -> float:
    value = known[name].value if name in known else None
    if value is None:
        raise Unprocessable(otherwise)
    return value
