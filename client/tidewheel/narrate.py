"""One line per event, for people who watch a cascade."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tidewheel.exits import Exit

Event = Mapping[str, Any]
Data = Mapping[str, Any]


def short_type(event: Event) -> str:
    """`dataset.published` from `tidewheel.dataset.published.v1`."""
    return str(event["type"]).removeprefix("tidewheel.").rpartition(".v")[0] or str(event["type"])


def data_of(event: Event) -> Data:
    """What the event says."""
    data = event.get("data")
    return data if isinstance(data, Mapping) else {}


def told(event: Event) -> str:
    """What an event says, in one line."""
    kind, data = short_type(event), data_of(event)
    tell = _TOLD.get(kind)
    return tell(data) if tell else ""


def interval(gate: Data) -> str:
    """`mae vs champion +0.024 [+0.004, +0.043]`."""
    estimate, lower, upper = gate.get("estimate"), gate.get("lower"), gate.get("upper")
    figures = "cannot be had"
    if isinstance(estimate, int | float):
        ends = ", ".join("" if end is None else f"{end:+.4f}" for end in (lower, upper))
        figures = f"{estimate:+.4f} [{ends}]"
    return f"{gate.get('metric')} vs {gate.get('versus')} {figures}"


def _published(data: Data) -> str:
    return f"{data['dataset']} v{data['version']}, {data['rows']} rows"


def _refused(data: Data) -> str:
    return "; ".join(f"{r['pointer']}: {r['detail']}" for r in data["reasons"])


def _judged(data: Data) -> str:
    verdict = "accepted" if data["accepted"] else f"rejected ({data['reason']})"
    figures = [interval(gate) + _failed(gate) for gate in data["gates"]]
    figures += [f"slice {p['name']} failed" for p in data.get("slices", ()) if not p["passed"]]
    figures += [f"check {c['name']} failed" for c in data.get("checks", ()) if not c["passed"]]
    return f"v{data['version']} {verdict}: " + "; ".join(figures)


def _failed(gate: Data) -> str:
    return "" if gate.get("passed", True) else " failed"


def _anchored(data: Data) -> str:
    before = f" instead of v{data['previous']}" if data.get("previous") else ""
    return f"v{data['version']} is the best so far{before} ({data['reason']})"


def _waits(data: Data) -> str:
    until = f" until {data['expires_at']}" if data.get("expires_at") else ""
    excluded = ", ".join(data.get("excluded") or ())
    others = f" by others than {excluded}" if excluded else ""
    return f"v{data['version']}{until}{others}; tidewheel approve {data['rollout']}"


def _granted(data: Data) -> str:
    missing = data.get("missing") or 0
    return f"v{data['version']} by {data['by']}" + (f", {missing} more needed" if missing else "")


def _expired(data: Data) -> str:
    return f"v{data['version']}: {len(data['granted_by'])} of {data['needed']} approved in time"


def _frozen(data: Data) -> str:
    what = ", ".join(data["models"]) or "all models"
    return f"{what} until {data['ends_at']} by {data['by']}: {data['reason']}"


def _awaited(data: Data) -> str:
    why = f" ({data['reason']})" if data.get("reason") else ""
    return f"v{data['version']} until {data['opens_at'] or 'something happens'}{why}"


def _arm(arm: Data) -> str:
    unseen = " unseen" if arm.get("role") == "shadow" else ""
    return f"v{arm['version']} {arm['weight']:.0%}{unseen}"


def _desired(data: Data) -> str:
    arms = ", ".join(_arm(arm) for arm in data["arms"])
    return f"generation {data['generation']}: {arms or 'baseline rule only'}"


def _advanced(data: Data) -> str:
    how = {"shadow": " unseen", "experiment": " as an experiment"}.get(data.get("stage", ""), "")
    return f"v{data['version']} answers {data['weight']:.0%}{how}"


def _promoted(data: Data) -> str:
    before = f" instead of v{data['previous']}" if data.get("previous") else ""
    approved = ", ".join(data.get("approved_by") or ())
    people = f", approved by {approved}" if approved else ""
    glass = f", window overridden by {data['break_glass']}" if data.get("break_glass") else ""
    return f"v{data['version']} is the champion{before}{people}{glass}"


def _fell_back(data: Data) -> str:
    return f"replica {data['replica']} answers from {data['rung']}: {data['cause']}"


def _window(data: Data) -> str:
    seen = "drifted" if data["drifted"] else "as the reference"
    return f"v{data['version']} window {data['window']}, {data['rows']} rows: {seen}"


def _quality(data: Data) -> str:
    # Where some scores have too few labels there is none.
    value = "not told" if data["value"] is None else f"{data['value']:.3f}"
    return f"{_figure(data)} {value}, {data['labels']} labels, window {data['window']}"


def _figure(data: Data) -> str:
    """What a figure of quality is; events of former releases do not say that it is a loss."""
    what = data.get("value_is") or data["metric"]
    return "error rate" if what in ("accuracy", "error_rate") else str(what)


def _losses(data: Data) -> str:
    count = len(data["pairs"]) + len(data["singles"])
    return f"{count} of v{data['champion']} and v{data['challenger']}"


def _given(data: Data) -> str:
    return f"v{data['version']} {'approve' if data['granted'] else 'deny'} by {data['by']}"


def _wanted_back(data: Data) -> str:
    target = f"v{data['to']}" if data.get("to") is not None else "the previous one"
    return f"{target} by {data['by']}: {data['reason']}"


def _drifted(data: Data) -> str:
    worst = data["features"][0] if data["features"] else None
    return f"window {data['window']}" + (f", worst {worst['feature']}" if worst else "")


def _degraded(data: Data) -> str:
    told = f"{_figure(data)} {data['value']:.3f}, promised {data['reference']:.3f}"
    if data.get("by") == "detector":
        return f"{told}, {data['evidence']:.3g} times what no change lets expect"
    return f"{told}, bound {data['bound']:.3f}"


_TOLD: Final[Mapping[str, Callable[[Data], str]]] = {
    "dataset.offered": lambda d: f"{d['dataset']} at {d['uri']}",
    "dataset.published": _published,
    "dataset.refused": _refused,
    "dataset.annotated": lambda d: f"{d['tag']} ({d['state']}) by {d['by']}: {d['reason']}",
    "model.defined": lambda d: f"{d['model']} on {d['dataset']}",
    "training.started": lambda d: f"attempt {d['attempt']} on v{d['dataset_version']}",
    "training.completed": lambda d: f"{d['use']}, {d['rows_trained']} rows",
    "training.failed": lambda d: f"{d['reason']}: {d['detail']}",
    "training.skipped": lambda d: f"{d['reason']}: {d['detail']}",
    "batch.predicted": lambda d: f"v{d['version']}, {d['rows']} rows, {d['refused']} refused",
    "batch.failed": lambda d: f"{d['reason']}: {d['detail']}",
    "candidate.superseded": lambda d: f"v{d['by_version']} was trained on newer data",
    "model.registered": lambda d: f"{d['model']} v{d['version']}",
    "evaluation.completed": _judged,
    "anchor.moved": _anchored,
    "anchor.retired": lambda d: f"v{d['version']} by {d['by']}: {d['reason']}",
    "best.refused": lambda d: f"by {d['metric']} for {d['by']}: {d['code']}, {d['detail']}",
    "rollout.proposed": lambda d: f"v{d['version']} {d.get('strategy', '')}".rstrip(),
    "approval.requested": _waits,
    "approval.granted": _granted,
    "approval.denied": lambda d: f"v{d['version']} by {d['by']}: {d['comment']}",
    "approval.withdrawn": lambda d: f"v{d['version']} by {d['by']}, {d['missing']} more needed",
    "approval.expired": _expired,
    "request.refused": lambda d: f"{d['kind']} by {d['by']}: {d['code']}, {d['detail']}",
    "freeze.declared": _frozen,
    "freeze.lifted": lambda d: f"{d['freeze']} by {d['by']}: {d['reason']}",
    "window.overridden": lambda d: f"v{d['version']} by {d['by']}: {d['reason']}",
    "window.awaited": _awaited,
    "deployment.desired": _desired,
    "rollout.advanced": _advanced,
    "model.promoted": _promoted,
    "rollout.aborted": lambda d: f"v{d['version']} {d['reason']}: {d['detail']}",
    "rollout.superseded": lambda d: f"v{d['version']} by v{d['by_version']}",
    "deployment.rolled_back": lambda d: (
        f"v{d['from_version']} → v{d['to_version']} by {d['by']}: {d['reason']}"
    ),
    "serving.applied": lambda d: f"replica {d['replica']} generation {d['generation']}",
    "serving.refused": lambda d: f"v{d['version']} on replica {d['replica']}: {d['detail']}",
    "serving.measured": lambda d: f"replica {d['replica']} generation {d['generation']}",
    "serving.fell_back": _fell_back,
    "replica.announced": lambda d: f"{d['models']} models at {d['url']}",
    "predictions.logged": lambda d: f"replica {d['replica']}, {len(d['rows'])} rows",
    "ground_truth.observed": lambda d: f"{d['prediction']} was {d['value']}",
    "window.evaluated": _window,
    "quality.measured": _quality,
    "losses.observed": _losses,
    "drift.detected": _drifted,
    "drift.cleared": lambda d: f"window {d['window']} of v{d['version']}",
    "quality.recovered": lambda d: f"{_figure(d)} {d['value']:.3f}, window {d['window']}",
    "quality.degraded": _degraded,
    "retraining.requested": lambda d: f"{d['reason']}: {d['detail']}",
    "retraining.withheld": lambda d: f"{d['reason']}: {d['detail']}",
    "quality.estimated": lambda d: (
        f"{_figure(d)} {d['value']:.3f} [{d['low']:.3f}, {d['high']:.3f}], window {d['window']}"
    ),
    "brake.set": lambda d: f"{d['confirmed']} of {d['watched']} models of {d['scope']} changed",
    "brake.lifted": lambda d: f"{d['scope']} by {d['by']}: {d['reason']}",
    "fallback.advised": lambda d: f"v{d['version']}: {d['detail']}",
    "fallback.ended": lambda d: f"v{d['version']}: {d['detail']}",
    "annotation.proposed": lambda d: f"{d['dataset']} {d['tag']}: {d['detail']}",
    "data-quality.alarmed": lambda d: f"v{d['version']} {d['kind']}: {d['detail']}",
    "data-quality.cleared": lambda d: f"v{d['version']} {d['kind']}",
    "approval.given": _given,
    "rollback.requested": _wanted_back,
    "best.requested": lambda d: f"by {d['metric']}, {d['by']}: {d['reason']}",
    "audit.anchored": lambda d: f"{d['log']} at position {d['position']}",
    "event.parked": lambda d: f"{d['event']} by {d['service']}: {d['reason']}",
}


def ends_with(event: Event) -> Exit | None:
    """How the cascade has ended for the model of this event; None while it goes on."""
    match short_type(event):
        case "dataset.refused" | "training.failed":
            return Exit.INPUT
        case "evaluation.completed":
            return None if data_of(event).get("accepted") else Exit.REJECTED
        case "model.promoted" | "training.skipped" | "candidate.superseded" | "rollout.superseded":
            return Exit.DONE
        case "rollout.aborted" if data_of(event).get("reason") in _JUDGED_AGAIN:
            return None
        case "rollout.aborted" | "deployment.rolled_back":
            return Exit.ROLLED_BACK
        case "approval.requested" | "window.awaited":
            return Exit.WAITS
        case _:
            return None


_JUDGED_AGAIN: Final = frozenset({"stale_verdict", "champion_changed"})
"""Aborts after which the same version is judged anew, against the champion of now."""

_EXIT_OF: Final[Mapping[str, Exit]] = {
    "promoted": Exit.DONE,
    "superseded": Exit.DONE,
    "withheld": Exit.DONE,
    "rejected": Exit.REJECTED,
    "aborted": Exit.ROLLED_BACK,
    "waiting": Exit.WAITS,
    "failed": Exit.INPUT,
    "dead_lettered": Exit.INPUT,
}


def exit_of(outcome: str) -> Exit | None:
    """The exit code of an outcome; None while it is open."""
    return _EXIT_OF.get(outcome)
