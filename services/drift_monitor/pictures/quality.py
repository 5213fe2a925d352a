"""How wrong the answers were, window by window, beside what was promised and the rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.drift_monitor.pictures.sheet import LINE, Sign, legend, lines, sheet, text
from shared.pictures import HEIGHT, WIDTH, Line, Picture, Point, around, drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The quality of one window.

    Attributes:
        low, high: interval of the value.
        reference: the same metric on the held-out rows.
        baseline: the same metric of the rule, on the same rows.
        completeness: labels over rows, 0 to 1.
        expected: what it should be by now; None while nobody knows how long labels take.
    """

    at: datetime
    value: float
    low: float | None
    high: float | None
    reference: float | None
    baseline: float | None
    completeness: float
    expected: float | None = None


def quality(model: str, metric: str, judged: Sequence[Judged]) -> bytes:
    """Realised, promised and the rule's, with completeness in words.

    Args:
        judged: from the oldest to the newest.
    """
    says = _says(metric, judged)
    if not judged:
        words = text(24, 60, "No window has labels yet.")
        return sheet(f"{model}: quality", says, WIDTH, 90, [words])
    picture = Picture(
        title=metric,
        says=says,
        x_title="end of the window",
        y_title=metric,
        lines=_lines(judged),
        x_range=_span([one.at.timestamp() for one in judged]),
        y_range=around([value for one in judged for value in _known(one)], least=0.0),
        x_names=_names(judged),
        guide=judged[-1].reference,
    )
    inner = drawn(picture)
    body = f'<svg x="0" y="26" width="{WIDTH}" height="{HEIGHT}"{inner.removeprefix("<svg")}'
    told = lines(HEIGHT + 42, says, WIDTH)
    parts = [body, *legend(WIDTH - 12, 40, _meanings(picture)), *told]
    return sheet(f"{model}: quality", says, WIDTH, HEIGHT + 34 + LINE * len(told), parts)


def _meanings(picture: Picture) -> list[tuple[str, Sign, str]]:
    found: list[tuple[str, Sign, str]] = [
        (f"line {line.role}", "stroke", line.name) for line in picture.lines
    ]
    promised: list[tuple[str, Sign, str]] = [("guide", "stroke", "promised")]
    return [*found, *(promised if picture.guide is not None else ())]


def _lines(judged: Sequence[Judged]) -> tuple[Line, ...]:
    realised = Line(
        name="realised",
        role="candidate",
        points=tuple((one.at.timestamp(), one.value) for one in judged),
        band=_band(judged),
        dots=True,
    )
    rule = tuple((one.at.timestamp(), one.baseline) for one in judged if one.baseline is not None)
    return (realised, Line(name="rule", role="baseline", points=rule)) if rule else (realised,)


def _band(judged: Sequence[Judged]) -> tuple[Point, ...]:
    ends = [(one.low, one.high) for one in judged if one.low is not None and one.high is not None]
    return tuple(ends) if len(ends) == len(judged) else ()


def _known(one: Judged) -> list[float]:
    return [v for v in (one.value, one.low, one.high, one.reference, one.baseline) if v is not None]


def _span(moments: Sequence[float]) -> Point:
    low, high = min(moments), max(moments)
    # Room at the end, so that the last name is not cut off.
    return (low - 1.0, high + 1.0) if low == high else (low, high + (high - low) * 0.08)


def _names(judged: Sequence[Judged]) -> tuple[tuple[float, str], ...]:
    ends = [judged[0]] if len(judged) == 1 else [judged[0], judged[-1]]
    return tuple((one.at.timestamp(), f"{one.at:%m-%d %H:%M}") for one in ends)


def _says(metric: str, judged: Sequence[Judged]) -> str:
    if not judged:
        return "No window has labels yet."
    newest = judged[-1]
    rule = f", the rule {newest.baseline:.4g}" if newest.baseline is not None else ""
    promised = f" (promised {newest.reference:.4g}{rule})" if newest.reference is not None else ""
    due = "it is not known how many are due"
    if newest.expected is not None:
        due = f"{newest.expected:.0%} are due by now"
    return (
        f"{metric} {newest.value:.4g}{promised} in the newest window; "
        f"{newest.completeness:.0%} of its rows have labels, {due}."
    )
