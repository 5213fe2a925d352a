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
    return f"v{data['version']} {verdict}: " + "; ".join(interval(gate) for gate in data["gates"])


def _desired(data: Data) -> str:
    arms = ", ".join(f"v{arm['version']} {arm['weight']:.0%}" for arm in data["arms"])
    return f"generation {data['generation']}: {arms or 'baseline rule only'}"


def _advanced(data: Data) -> str:
    return f"v{data['version']} answers {data['weight']:.0%}"


def _promoted(data: Data) -> str:
    before = f" instead of v{data['previous']}" if data.get("previous") else ""
    return f"v{data['version']} is the champion{before}"


def _drifted(data: Data) -> str:
    worst = data["features"][0] if data["features"] else None
    return f"window {data['window']}" + (f", worst {worst['feature']}" if worst else "")


_TOLD: Final[Mapping[str, Callable[[Data], str]]] = {
    "dataset.published": _published,
    "dataset.refused": _refused,
    "model.defined": lambda d: f"{d['model']} on {d['dataset']}",
    "training.started": lambda d: f"attempt {d['attempt']} on v{d['dataset_version']}",
    "training.completed": lambda d: f"{d['use']}, {d['rows_trained']} rows",
    "training.failed": lambda d: f"{d['reason']}: {d['detail']}",
    "training.skipped": lambda d: f"{d['reason']}: {d['detail']}",
    "candidate.superseded": lambda d: f"v{d['by_version']} was trained on newer data",
    "model.registered": lambda d: f"{d['model']} v{d['version']}",
    "evaluation.completed": _judged,
    "rollout.proposed": lambda d: f"v{d['version']}",
    "approval.requested": lambda d: f"v{d['version']}; tidewheel approve {d['rollout']}",
    "approval.granted": lambda d: f"v{d['version']} by {d['by']}",
    "approval.denied": lambda d: f"v{d['version']} by {d['by']}: {d['comment']}",
    "window.awaited": lambda d: f"v{d['version']} until {d['opens_at']}",
    "deployment.desired": _desired,
    "rollout.advanced": _advanced,
    "model.promoted": _promoted,
    "rollout.aborted": lambda d: f"v{d['version']} {d['reason']}: {d['detail']}",
    "rollout.superseded": lambda d: f"v{d['version']} by v{d['by_version']}",
    "deployment.rolled_back": lambda d: (
        f"v{d['from_version']} → v{d['to_version']} by {d['by']}: {d['reason']}"
    ),
    "serving.applied": lambda d: f"replica {d['replica']} generation {d['generation']}",
    "drift.detected": _drifted,
    "drift.cleared": lambda d: f"window {d['window']} of v{d['version']}",
    "quality.recovered": lambda d: f"{d['metric']} {d['value']:.3f}, window {d['window']}",
    "quality.degraded": lambda d: (
        f"{d['metric']} {d['value']:.3f}, promised {d['reference']:.3f}, bound {d['bound']:.3f}"
    ),
    "retraining.requested": lambda d: f"{d['reason']}: {d['detail']}",
    "retraining.withheld": lambda d: f"{d['reason']}: {d['detail']}",
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
        case "rollout.aborted" | "deployment.rolled_back":
            return Exit.ROLLED_BACK
        case "approval.requested" | "window.awaited":
            return Exit.WAITS
        case _:
            return None


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
