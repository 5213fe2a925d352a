"""Verdicts and the anchor, in words."""

from shared.events import (
    AnchorMoved,
    AnchorRetired,
    BestRefused,
    Check,
    EvaluationCompleted,
    Event,
    Gate,
    SliceVerdict,
)


def of_verdict(event: Event) -> str:
    """One sentence; empty for what is none of these."""
    match event:
        case EvaluationCompleted():
            return _of_evaluation(event)
        case AnchorMoved(version=version, reason="rolled_back"):
            return f"Version {version} is the best champion so far after a rollback."
        case AnchorMoved(version=version, previous=None):
            return f"Version {version} is the first champion, and so the best one so far."
        case AnchorMoved(version=version, previous=previous):
            return f"Version {version} was shown to be better than version {previous}, the anchor."
        case AnchorRetired(version=version, by=by, reason=reason):
            return f"{by} withdrew version {version} as the anchor: {reason}."
        case BestRefused(by=by, metric=metric, code=code, detail=detail):
            return f"The best version by {metric}, which {by} asked for: {detail} ({code})."
    return ""


def _of_evaluation(event: EvaluationCompleted) -> str:
    verdict = "accepted" if event.accepted else f"rejected ({event.reason})"
    asked = ""
    if event.best is not None:
        asked = f", asked for by {event.best.by} as the best by {event.best.metric}"
    return f"Version {event.version} was {verdict}{asked}: {_told(event)}."


def _told(event: EvaluationCompleted) -> str:
    said = [
        *map(_gate, event.gates),
        *(_slice(part) for part in event.slices if not part.passed),
        *(_check(check) for check in event.checks if not check.passed),
    ]
    if event.champion_below_baseline:
        said.append("the champion itself was not shown to beat the baseline")
    return "; ".join(said) or "no gate could be judged"


def _gate(gate: Gate) -> str:
    verdict = "passed" if gate.passed else "failed"
    where = f" where {gate.slice}" if gate.slice else ""
    if gate.estimate is None:
        return f"{gate.metric} against {gate.versus}{where} {verdict} ({gate.detail})"
    margin = f", margin {gate.margin:.4g}" if gate.versus in ("champion", "anchor") else ""
    figures = f"{gate.estimate:+.4g} {interval(gate.lower, gate.upper)}"
    return (
        f"{gate.metric} against {gate.versus}{where} {verdict}: {figures} "
        f"at {100 * gate.confidence:.4g}%{margin}, {gate.rows} rows"
    )


def _slice(part: SliceVerdict) -> str:
    if part.estimate is None:
        return f"the {part.role} slice {part.name} failed ({part.detail})"
    figures = f"{part.estimate:+.4g} {interval(part.lower, part.upper)}"
    return f"the {part.role} slice {part.name} failed: {part.metric} {figures}, {part.rows} rows"


def _check(check: Check) -> str:
    return f"the check {check.name} failed ({check.detail})"


def interval(lower: float | None, upper: float | None) -> str:
    """`[-0.1, +0.3]`; an open end is none."""
    ends = ", ".join("none" if end is None else f"{end:+.4g}" for end in (lower, upper))
    return f"[{ends}]"
