"""How inputs and answers of a model stand, as a few lines of text."""

from collections.abc import Iterable, Iterator, Mapping
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
    quiet = [one for one in found["versions"] if _is_quiet(one)]
    for version in found["versions"]:
        if version not in quiet:
            lines += _version(found["model"], version)
    if quiet:
        numbers = ", ".join(f"v{one['version']}" for one in quiet)
        lines.append(f"{found['model']} {numbers}: no answers yet")
    if found.get("phase") not in (None, "healthy"):
        lines.append(f"the model is {found['phase']}: {found.get('phase_detail') or 'no detail'}")
    if found.get("retraining_asked_at"):
        lines.append(f"a retraining was asked for at {moment(found['retraining_asked_at'])}")
    return lines


def quality(windows: Iterable[Data]) -> list[dict[str, Any]]:
    """Windows as a table shows them: figures with their intervals, and what they are."""
    return [_measured(one) for one in windows]


def _measured(window: Data) -> dict[str, Any]:
    found, guess = window.get("quality") or {}, window.get("estimate") or {}
    # Labels of too few of the scores stand for nothing.
    told = {} if window.get("state") == "censored" else found
    state = window.get("state") or "no labels"
    due = found.get("expected")
    figure = (window.get("value_is") or "").replace("error_rate", "error rate")
    return {
        # What the figures are of stands beside their intervals.
        "name": f"v{window['version']} {window['window']}\n{figure}".rstrip(),
        "labels": f"{window['labels']} of {window['rows']}",
        "due": None if due is None else f"{due:.0%}",
        "state": f"{state}, worse" if told.get("is_worse") else state,
        "value": _figure(told),
        "estimated": _figure(guess),
        "promised": found.get("reference", guess.get("reference")),
        "rule": told.get("baseline"),
    }


def _figure(found: Data) -> str | None:
    if found.get("value") is None:
        return None
    value, low, high = found["value"], found.get("low"), found.get("high")
    # On a line of its own, so that the table stays narrow.
    between = f"\n{low:.3g} to {high:.3g}" if low is not None and high is not None else ""
    return f"{value:.4g}{between}"


def champion(found: Data) -> int:
    """The version that answers; where none does the newest that is watched."""
    return int(found["champion"] or found["versions"][0]["version"])


def _is_quiet(version: Data) -> bool:
    """Most candidates never answer; one line is enough for all of them."""
    is_seen = version.get("last_window") or version.get("open_window") or version["drift"]
    return not (is_seen or version["is_champion"] or version["is_degraded"])


def _version(model: str, version: Data) -> Iterator[str]:
    champion = ", champion" if version["is_champion"] else ""
    state = version["drift"] or _judged(version)
    answers = ", answers degraded" if version["is_degraded"] else ""
    yield f"{model} v{version['version']}{champion}: {state}{answers}"
    yield from labelled("windows", _windows(version))
    last = version.get("last_window")
    yield from labelled("last", str(last["detail"]) if last else "")
    yield from labelled("seasons", _seasons(version.get("drifted_seasons") or ()))
    yield from labelled("features", *_worst(version.get("worst") or ()))


def _judged(version: Data) -> str:
    """How a version without drift stands: what was not tested is like nothing."""
    last = version.get("last_window")
    if not last:
        return "not judged yet"
    if last.get("mode") != "insufficient":
        return "like the reference"
    season = f" in the season {last['season']}" if last.get("season") else ""
    return f"not judged{season}: {version.get('not_judged') or last['detail']}"


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
