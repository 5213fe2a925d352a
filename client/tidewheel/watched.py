"""How inputs and answers of a model stand, as a few lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tidewheel.cards import labelled, moment
from tidewheel.sparks import spark

Data = Mapping[str, Any]
_MARKS: Final[Mapping[str, str]] = {
    "critical": "!!", "warning": "! ", "clean": "  ", "insufficient": "? "
}  # fmt: skip


def drift(found: Data) -> list[str]:
    """Each version: how its inputs compare with the reference, its worst features first."""
    lines: list[str] = []
    for version in found["versions"]:
        lines += _version(found["model"], version)
    if found.get("phase") not in (None, "healthy"):
        lines.append(f"the model is {found['phase']}: {found.get('phase_detail') or 'no detail'}")
    if found.get("retraining_asked_at"):
        lines.append(f"a retraining was asked for at {moment(found['retraining_asked_at'])}")
    return lines


def champion(found: Data) -> int:
    """The version that answers; where none does the newest that is watched."""
    return int(found["champion"] or found["versions"][0]["version"])


def _version(model: str, version: Data) -> Iterator[str]:
    champion = ", champion" if version["is_champion"] else ""
    judged = "like the reference" if version.get("last_window") else "not judged yet"
    state = version["drift"] or judged
    answers = ", answers degraded" if version["is_degraded"] else ""
    yield f"{model} v{version['version']}{champion}: {state}{answers}"
    yield from labelled("windows", _windows(version))
    last = version.get("last_window")
    yield from labelled("last", str(last["detail"]) if last else "")
    yield from labelled("seasons", _seasons(version.get("drifted_seasons") or ()))
    yield from labelled("features", *_worst(version.get("worst") or ()))


def _windows(version: Data) -> str:
    rows, opened = version["window_rows"], version.get("open_window")
    filled = f"; {opened['rows']} of {rows} rows in window {opened['window']}" if opened else ""
    last = version.get("last_window")
    ended = f"the last one ended {moment(last['ended_at'])}" if last else "none was full yet"
    return f"of {rows} rows, {ended}{filled}"


def _seasons(drifted: Any) -> str:
    told = [f"{one['season']} {one['drift']} (window {one['window']})" for one in drifted]
    return ", ".join(told)


def _worst(worst: Any) -> list[str]:
    shown = [(_MARKS.get(one["tier"], "  "), spark(one["history"]), one["words"]) for one in worst]
    wide = max((len(history) for _, history, _ in shown), default=0)
    return [f"{mark} {history:<{wide}}  {words}" for mark, history, words in shown]
