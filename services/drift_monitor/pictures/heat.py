"""Features by time: which of them left the reference, when, and how far."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import log10
from typing import Final, Literal

from services.drift_monitor.pictures.sheet import Sign, legend, sheet, shortened, text
from shared.plain_text import html, plain

Tier = Literal["clean", "warning", "critical", "insufficient"]
MOST_ROWS: Final = 40
_LEFT, _TOP, _HIGH, _PLOT, _FOOT = 220, 44, 18, 640, 46
_LEAST_P: Final = 1e-12
"""Beyond it a cell is as dark as it gets."""
_MEANINGS: Final[tuple[tuple[str, Sign, str], ...]] = (
    ("clean", "block", "like the reference"),
    ("warning", "block", "warning"),
    ("critical", "block", "critical"),
    ("insufficient", "block", "not judged"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One feature in one window.

    Attributes:
        column: place of the window, from the left.
        p: of the feature, on the scale on which `alpha` is the level.
        words: what was found, for the one who points at the cell.
    """

    feature: str
    column: int
    p: float
    tier: Tier
    words: str


def heat(model: str, moments: Sequence[datetime], cells: Sequence[Cell], *, alpha: float) -> bytes:
    """The map, worst features on top.

    Args:
        moments: ends of the windows, from the left to the right.
        alpha: the level; what is more surprising is drawn in the colour of its tier.
    """
    features = _worst_first(cells)
    shown = features[:MOST_ROWS]
    wide = _PLOT / max(len(moments), 1)
    parts = [part for row, name in enumerate(shown) for part in _row(row, name, cells, wide, alpha)]
    bottom = _TOP + _HIGH * len(shown)
    parts += [*_moments(moments, wide, bottom), *legend(_LEFT + _PLOT, 20, _MEANINGS)]
    if not moments:
        parts.append(text(_LEFT, _TOP + 12, "No window has been compared yet."))
    if len(features) > len(shown):
        left = f"{len(features) - len(shown)} further features are not shown."
        parts.append(text(12, bottom + 34, left))
    says = (
        f"Drift of {model} by feature and window, the worst features on top; "
        f"{len(moments)} windows, {len(features)} features."
    )
    return sheet(f"{model}: drift", says, _LEFT + _PLOT + 16, bottom + _FOOT, parts)


def _worst_first(cells: Sequence[Cell]) -> list[str]:
    worst: dict[str, float] = {}
    for cell in cells:
        worst[cell.feature] = min(cell.p, worst.get(cell.feature, 1.0))
    return sorted(worst, key=lambda name: (worst[name], name))


def _row(row: int, name: str, cells: Sequence[Cell], wide: float, alpha: float) -> list[str]:
    top = _TOP + _HIGH * row
    parts = [text(12, top + _HIGH / 2, shortened(name), "row")]
    for cell in cells:
        if cell.feature == name:
            x = _LEFT + wide * cell.column
            parts.append(
                f'<rect class="{cell.tier}" x="{x:.1f}" y="{top}" width="{max(wide - 1, 0.5):.1f}" '
                f'height="{_HIGH - 2}" fill-opacity="{strength(cell, alpha):.2f}">'
                f"<title>{html(plain(cell.words))}</title></rect>"
            )
    return parts


def strength(cell: Cell, alpha: float) -> float:
    """How strongly a cell is painted, 0.25 to 1, by how surprising it is beyond the level."""
    if cell.tier in ("clean", "insufficient"):
        return 1.0
    beyond = log10(alpha) - log10(max(cell.p, _LEAST_P))
    return min(1.0, 0.55 + 0.45 * beyond / (log10(alpha) - log10(_LEAST_P)))


def _moments(moments: Sequence[datetime], wide: float, bottom: float) -> list[str]:
    if not moments:
        return []
    names = [f"{moment:%Y-%m-%d %H:%M}" for moment in moments]
    if len(names) == 1:
        return [text(_LEFT + _PLOT / 2, bottom + 16, names[0], "x")]
    middle = len(names) // 2
    between = [text(_LEFT + wide * (middle + 0.5), bottom + 16, names[middle], "x")]
    return [
        text(_LEFT, bottom + 16, names[0], "start"),
        *(between if len(names) > 2 else ()),
        text(_LEFT + _PLOT, bottom + 16, names[-1], "end"),
    ]
