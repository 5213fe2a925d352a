"""How wrong the answers were, window by window, beside what was promised and the rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.drift_monitor.pictures.sheet import LINE, Entry, head, lines, sheet
from shared.figures import shown
from shared.pictures import HEIGHT, WIDTH, Line, Picture, Point, Reach, around, drawn

_MOST_DOTS: Final = 100
"""More would hide the line that they lie on."""
_NOTHING: Final = "No window has labels or an estimate yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class Guessed:
    """What the scores of a window let expect before its labels come."""

    value: float
    low: float
    high: float
    reference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The quality of one window.

    Attributes:
        value: None while there are no labels, or too few of some scores.
        low, high: interval of the value.
        reference: the same metric on the held-out rows.
        baseline: the same metric of the rule, on the same rows.
        completeness: labels over rows, 0 to 1.
        expected: what it should be by now; None while nobody knows how long labels take.
        estimate: None where scores tell nothing.
    """

    at: datetime
    value: float | None
    low: float | None
    high: float | None
    reference: float | None
    baseline: float | None
    completeness: float
    expected: float | None = None
    estimate: Guessed | None = None

    @property
    def promised(self) -> float | None:
        """The metric on the held-out rows, whoever knows it."""
        if self.reference is None and self.estimate is not None:
            return self.estimate.reference
        return self.reference


def quality(model: str, metric: str, judged: Sequence[Judged]) -> bytes:
    """Realised, estimated, promised and the rule's, with completeness in words.

    Args:
        metric: that is watched; it is told as what its figures are.
        judged: from the oldest to the newest.
    """
    figure = shown(metric)
    title, says = f"{model}: quality", _says(figure, judged)
    if not judged:
        parts, top = head(title, WIDTH, [])
        return sheet(title, says, WIDTH, top + 24, [*parts, *lines(top + 8, says, WIDTH)])
    picture = Picture(
        title=figure,
        says=says,
        x_title="end of the window",
        y_title=figure,
        lines=_lines(judged),
        x_range=_span([one.at.timestamp() for one in judged]),
        y_range=around([value for one in judged for value in _known(one)], least=0.0),
        x_names=_names(judged),
        guide=judged[-1].promised,
    )
    parts, top = head(title, WIDTH, _meanings(picture))
    body = f'<svg x="0" y="{top - 12}" width="{WIDTH}" height="{HEIGHT}"'
    inner = body + drawn(picture).removeprefix("<svg")
    told = lines(top + HEIGHT + 4, says, WIDTH)
    height = top + HEIGHT + LINE * len(told)
    return sheet(title, says, WIDTH, height, [*parts, inner, *told])


def _meanings(picture: Picture) -> list[Entry]:
    found: list[Entry] = [
        (f"dot {line.role}", "ring", line.name)
        if line.role == "estimated"
        else (f"line {line.role}", "stroke", line.name)
        for line in picture.lines
    ]
    promised: list[Entry] = [("guide", "stroke", "promised")]
    return [*found, *(promised if picture.guide is not None else ())]


def _lines(judged: Sequence[Judged]) -> tuple[Line, ...]:
    """Those of which anything is known."""
    dots = len(judged) <= _MOST_DOTS
    estimated = Line(
        name="estimated",
        role="estimated",
        points=tuple(
            (one.at.timestamp(), one.estimate.value) for one in judged if one.estimate is not None
        ),
        dots=dots,
        whiskers=tuple(
            (one.at.timestamp(), one.estimate.low, one.estimate.high)
            for one in judged
            if one.estimate is not None
        ),
    )
    realised = Line(
        name="realised",
        role="candidate",
        points=tuple((one.at.timestamp(), one.value) for one in judged if one.value is not None),
        dots=dots,
        whiskers=tuple(_reaches(judged)),
    )
    rule = tuple((one.at.timestamp(), one.baseline) for one in judged if one.baseline is not None)
    known = (estimated, realised, Line(name="rule", role="baseline", points=rule))
    return tuple(line for line in known if line.points)


def _reaches(judged: Sequence[Judged]) -> Iterator[Reach]:
    for one in judged:
        if one.value is not None and one.low is not None and one.high is not None:
            yield one.at.timestamp(), one.low, one.high


def _known(one: Judged) -> list[float]:
    guess = one.estimate
    guessed = [] if guess is None else [guess.value, guess.low, guess.high]
    realised = (one.value, one.low, one.high, one.promised, one.baseline)
    return [*guessed, *(value for value in realised if value is not None)]


def _span(moments: Sequence[float]) -> Point:
    low, high = min(moments), max(moments)
    # Room at the end, so that the last name is not cut off.
    return (low - 1.0, high + 1.0) if low == high else (low, high + (high - low) * 0.12)


def _names(judged: Sequence[Judged]) -> tuple[tuple[float, str], ...]:
    """The first and the last moment; those of one minute are one."""
    names = {f"{one.at:%m-%d %H:%M}": one.at.timestamp() for one in (judged[0], judged[-1])}
    return tuple((moment, name) for name, moment in names.items())


# --- words ------------------------------------------------------------------------------------


def _says(figure: str, judged: Sequence[Judged]) -> str:
    if not judged:
        return _NOTHING
    newest = judged[-1]
    rule = f", the rule {newest.baseline:.4g}" if newest.baseline is not None else ""
    promised = f" (promised {newest.promised:.4g}{rule})" if newest.promised is not None else ""
    if newest.value is None:
        return (
            f"{figure} is estimated{_estimated(newest)} by scores alone in the newest window"
            f"{promised}; {_why_not(newest)}."
        )
    guess = f", estimated{_estimated(newest)} by scores alone" if newest.estimate else ""
    due = "it is not known how many are due"
    if newest.expected is not None:
        due = f"{newest.expected:.0%} are due by now"
    return (
        f"{figure} {newest.value:.4g}{promised} in the newest window{guess}; "
        f"{newest.completeness:.0%} of its rows have labels, {due}."
    )


def _estimated(one: Judged) -> str:
    guess = one.estimate
    return f" {guess.value:.4g} ({guess.low:.4g} to {guess.high:.4g})" if guess else ""


def _why_not(one: Judged) -> str:
    if one.completeness == 0:
        return "none of its rows has a label"
    return f"{one.completeness:.0%} of its rows have labels, too few to tell more"
