"""A verdict in the words that people decide by: what changed, what was compared, what is worst."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from shared.events import Check, EvaluationCompleted, Gate, Json, SliceVerdict

_MOST_CHANGES: Final = 20
_UNTOLD: Final = frozenset({"apiVersion", "name"})


def words_of(verdict: EvaluationCompleted, champion: EvaluationCompleted | None) -> Json:
    """Everything in sentences, with the digests under which the figures and the card are kept.

    Args:
        champion: the verdict by which the present champion was accepted, where it is known.
    """
    return {
        "summary": _summary(verdict),
        "changed": list(_changes(verdict, champion)),
        "gates": [_gate(gate) for gate in verdict.gates],
        "slices": [_slice(part) for part in verdict.slices],
        "worst_slice": _worst(verdict),
        "checks": [_check(check) for check in verdict.checks],
        "cautions": list(_cautions(verdict)),
        "evidence": verdict.evidence,
        "card": verdict.card,
        "card_html": verdict.card_html,
    }


def _summary(verdict: EvaluationCompleted) -> str:
    against = f"champion {verdict.champion}" if verdict.champion else "the baseline alone"
    purpose = {
        "first": "the first version that may answer",
        "refresh": "newer data, to be no worse",
        "change": "a change, to be better",
    }[verdict.mode]
    return (
        f"Version {verdict.version} of {verdict.model} ({purpose}) was compared with {against} "
        f"on {verdict.rows:,} held-out rows and {'accepted' if verdict.accepted else 'rejected'}."
    )


# --- what changed ---------------------------------------------------------------------------------


def _changes(verdict: EvaluationCompleted, champion: EvaluationCompleted | None) -> Iterator[str]:
    yield _data(verdict, champion)
    if champion is None:
        return
    before, after = dict(_flat(champion.spec)), dict(_flat(verdict.spec))
    names = sorted(name for name in before.keys() | after.keys() if _differ(before, after, name))
    for name in names[:_MOST_CHANGES]:
        yield f"{name}: {_value(before, name)} → {_value(after, name)}"
    if len(names) > _MOST_CHANGES:
        yield f"and {len(names) - _MOST_CHANGES} more keys of the specification"
    if not names:
        yield "nothing in the specification"


def _data(verdict: EvaluationCompleted, champion: EvaluationCompleted | None) -> str:
    told = f"data: version {verdict.dataset_version} of {verdict.dataset}"
    if champion is None:
        return told
    if (champion.dataset, champion.dataset_version) == (verdict.dataset, verdict.dataset_version):
        return f"{told}, the same as the champion's"
    return f"{told}; the champion's is version {champion.dataset_version} of {champion.dataset}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if path or name not in _UNTOLD:
                yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{place}]")
    else:
        yield path, value


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> bool:
    return name not in before or name not in after or before[name] != after[name]


def _value(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name])[:80] if name in values else "not given"


# --- what was compared ----------------------------------------------------------------------------


def _gate(gate: Gate) -> str:
    where = f" where {gate.slice}" if gate.slice else ""
    if gate.estimate is None:
        figures = gate.detail or "no figure could be had"
    else:
        figures = f"{_difference(gate.estimate)}{_interval(gate)}"
    margin = f", {gate.margin:.4g} may be lost" if gate.margin else ""
    return (
        f"{gate.metric} against {_other(gate)}{where}: {figures}{margin}; "
        f"{gate.rows:,} rows, {gate.test}: {'passed' if gate.passed else 'failed'}"
    )


def _other(gate: Gate) -> str:
    if gate.versus == "absolute":
        return "the stated bound"
    return f"the {gate.versus}"


def _difference(estimate: float) -> str:
    if estimate == 0:
        return "no difference"
    return f"{'better' if estimate > 0 else 'worse'} by {abs(estimate):.4g}"


def _interval(gate: Gate) -> str:
    if gate.lower is None and gate.upper is None:
        return ""
    low = "-∞" if gate.lower is None else f"{gate.lower:+.4g}"
    high = "∞" if gate.upper is None else f"{gate.upper:+.4g}"
    return f" ({gate.confidence * 100:.4g} % interval {low} to {high}, positive is better)"


def _slice(part: SliceVerdict) -> str:
    if part.estimate is None:
        figures = part.detail or "no figure could be had"
    else:
        low = "-∞" if part.lower is None else f"{part.lower:+.4g}"
        high = "∞" if part.upper is None else f"{part.upper:+.4g}"
        figures = f"{_difference(part.estimate)} (interval {low} to {high})"
    return (
        f"{part.name} ({part.where}; {part.role}): {part.metric} {figures}, "
        f"{part.rows:,} rows: {'passed' if part.passed else 'failed'}"
    )


def _worst(verdict: EvaluationCompleted) -> str | None:
    measured = [part for part in verdict.slices if part.estimate is not None]
    if not measured:
        return None
    return _slice(min(measured, key=lambda part: (part.passed, part.estimate or 0.0)))


def _check(check: Check) -> str:
    return f"{check.name}: {check.detail}: {'passed' if check.passed else 'failed'}"


def _cautions(verdict: EvaluationCompleted) -> Iterator[str]:
    if verdict.champion_below_baseline:
        yield "the champion was not shown to beat the baseline on these rows"
    if verdict.holdout_use > 1:
        yield f"these held-out rows have given {verdict.holdout_use} verdicts"
    if verdict.best is not None:
        yield f"{verdict.best.by} asked for the best version by {verdict.best.metric}"
    if verdict.anchor is not None:
        yield f"version {verdict.anchor}, not the champion, is the best so far"
