"""Small diagrams as SVG: lines, bands and bars on two axes, drawn from plain numbers.

Colours are classes, so that one page serves light and dark. Every line also differs in its dashes,
and every picture says in words what it shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from shared.plain_text import html, plain

Role = Literal["candidate", "champion", "baseline", "estimated"]
Point = tuple[float, float]
Reach = tuple[float, float, float]
"""A place on the horizontal axis, and a lower and an upper end there."""

WIDTH: Final = 420
HEIGHT: Final = 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 30, 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve.

    Attributes:
        points: from left to right.
        band: lower and upper end at each point, where there is such.
        dots: marks at the points.
        whiskers: intervals, each by itself.
    """

    name: str
    role: Role
    points: tuple[Point, ...]
    band: tuple[Point, ...] = ()
    dots: bool = False
    whiskers: tuple[Reach, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One diagram.

    Attributes:
        says: what it shows, in a sentence.
        x_range, y_range: ends of the axes.
        x_names: places on the horizontal axis with their names, where they are no plain numbers.
        guide: a line that would be perfect: both axes alike, or this height all along.
    """

    title: str
    says: str
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    x_range: Point
    y_range: Point
    x_names: tuple[tuple[float, str], ...] = ()
    guide: Literal["diagonal"] | float | None = None


def around(values: Sequence[float], *, least: float | None = None) -> Point:
    """Ends of an axis that shows all of them, with a little room; `least` is shown in any case."""
    shown = [value for value in values if math.isfinite(value)]
    shown += [] if least is None else [least]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return (low if low == least else low - room), high + room


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within an axis, about as many as wanted."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    rough = span / wanted
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next((unit * f for f in (1, 2, 2.5, 5) if unit * f >= rough), unit * 10)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [place * step for place in range(first, min(last, first + 20) + 1)]


def drawn(picture: Picture) -> str:
    """The picture as an `svg` element; the same numbers give the same text."""
    view = _View(picture)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="'
        f'{html(plain(f"{picture.title}. {picture.says}"))}">',
        f'<text class="name" x="{_LEFT}" y="16">{html(plain(picture.title))}</text>',
        *_axes(picture, view),
        *_guide(picture, view),
        *[part for line in picture.lines for part in _band(line, view)],
        *[part for line in picture.lines for part in _whiskers(line, view)],
        *[part for line in picture.lines for part in _line(line, view)],
        "</svg>",
    ]
    return "".join(parts)


class _View:
    """Where a value lies on the paper."""

    def __init__(self, picture: Picture) -> None:
        self.x_range, self.y_range = picture.x_range, picture.y_range

    def x(self, value: float) -> str:
        return f"{_LEFT + _part(value, self.x_range) * (WIDTH - _LEFT - _RIGHT):.1f}"

    def y(self, value: float) -> str:
        return f"{HEIGHT - _BOTTOM - _part(value, self.y_range) * (HEIGHT - _TOP - _BOTTOM):.1f}"

    def at(self, point: Point) -> str:
        return f"{self.x(point[0])},{self.y(point[1])}"


def _part(value: float, ends: Point) -> float:
    """0 at the lower end, 1 at the upper; what lies outside is drawn at the edge."""
    span = ends[1] - ends[0]
    return min(max((value - ends[0]) / span, 0.0), 1.0) if span > 0 else 0.5


def _axes(picture: Picture, view: _View) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in ticks(*picture.y_range):
        y = view.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{right}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 6}" y="{y}">{_short(value)}</text>')
    named = picture.x_names or tuple((value, _short(value)) for value in ticks(*picture.x_range))
    for value, name in named:
        parts.append(
            f'<text class="x" x="{view.x(value)}" y="{bottom + 15}">{html(plain(name))}</text>'
        )
    middle = (_TOP + bottom) // 2
    return [
        *parts,
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>',
        f'<text class="x" x="{(_LEFT + right) // 2}" y="{HEIGHT - 10}">'
        f"{html(plain(picture.x_title))}</text>",
        f'<text class="x" transform="rotate(-90 12 {middle})" x="12" y="{middle}">'
        f"{html(plain(picture.y_title))}</text>",
    ]


def _short(value: float) -> str:
    return f"{value:.3g}" if value else "0"


def _guide(picture: Picture, view: _View) -> list[str]:
    if picture.guide is None:
        return []
    if picture.guide == "diagonal":
        low = max(picture.x_range[0], picture.y_range[0])
        high = min(picture.x_range[1], picture.y_range[1])
        ends: tuple[Point, Point] = ((low, low), (high, high))
    else:
        ends = ((picture.x_range[0], picture.guide), (picture.x_range[1], picture.guide))
    return [f'<path class="guide" d="M{view.at(ends[0])}L{view.at(ends[1])}"/>']


def _band(line: Line, view: _View) -> list[str]:
    if not line.band:
        return []
    places = [point[0] for point in line.points]
    upper = [view.at((x, ends[1])) for x, ends in zip(places, line.band, strict=True)]
    lower = [view.at((x, ends[0])) for x, ends in zip(places, line.band, strict=True)]
    return [f'<path class="band {line.role}" d="M{"L".join([*upper, *reversed(lower)])}Z"/>']


def _whiskers(line: Line, view: _View) -> list[str]:
    ends = [f"M{view.at((x, low))}V{view.y(high)}" for x, low, high in line.whiskers]
    return [f'<path class="whiskers {line.role}" d="{"".join(ends)}"/>'] if ends else []


def _line(line: Line, view: _View) -> list[str]:
    usable = [p for p in line.points if math.isfinite(p[0]) and math.isfinite(p[1])]
    parts = []
    if len(usable) > 1:
        parts.append(f'<path class="line {line.role}" d="M{"L".join(map(view.at, usable))}"/>')
    if line.dots or len(usable) == 1:
        parts += [
            f'<circle class="dot {line.role}" cx="{view.x(x)}" cy="{view.y(y)}" r="3"/>'
            for x, y in usable
        ]
    return parts


def steps(edges: Sequence[float], heights: Sequence[float]) -> tuple[Point, ...]:
    """A histogram's outline: `heights` between neighbouring `edges`."""
    outline = [(edges[0], 0.0)]
    for (left, right), height in zip(pairwise(edges), heights, strict=True):
        outline += [(left, height), (right, height)]
    return (*outline, (edges[-1], 0.0))
