"""One feature of one window beside the reference, cell by cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.drift_monitor.pictures.sheet import LINE, Entry, head, lines, sheet, shortened, text
from shared.plain_text import html, plain

_LEFT, _PLOT, _RIGHT, _TALL, _FOOT = 48, 640, 76, 220, 84
_MOST_NAMES: Final = 12
_WIDTH: Final = _LEFT + _PLOT + _RIGHT
_MEANINGS: Final[tuple[Entry, ...]] = (
    ("window", "full", "the window"),
    ("reference", "stroke", "the reference"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """A feature as shares of rows.

    Attributes:
        names: of the cells: ranges, or levels; the last ones are what has no value.
        window, reference: share of the rows in each, 0 to 1.
    """

    feature: str
    names: tuple[str, ...]
    window: tuple[float, ...]
    reference: tuple[float, ...]


def distribution(model: str, shares: Shares, says: str) -> bytes:
    """Bars for the window, an outline for the reference.

    Args:
        says: what was found, in a sentence.
    """
    cells = len(shares.names)
    wide = _PLOT / max(cells, 1)
    highest = max([*shares.window, *shares.reference, 1e-9])
    title = f"{model}: {shares.feature}"
    parts, y = head(title, _WIDTH, _MEANINGS)
    told = lines(y, says, _WIDTH)
    top = y + LINE * len(told) + 4
    parts += told
    for place in range(cells):
        parts += _bars(place, shares, wide, highest, top)
    parts.append(_outline(shares.reference, wide, highest, top))
    parts += _names(shares.names, wide, top)
    parts += [
        f'<path class="axis" d="M{_LEFT} {top}V{top + _TALL}H{_LEFT + _PLOT}"/>',
        text(_LEFT - 6, top, f"{highest:.0%}", "y"),
        text(_LEFT - 6, top + _TALL, "0", "y"),
    ]
    told_so = f"{says} Filled: the window; outlined: the reference."
    return sheet(title, told_so, _WIDTH, top + _TALL + _FOOT, parts)


def _bars(place: int, shares: Shares, wide: float, highest: float, top: int) -> list[str]:
    tall = _TALL * shares.window[place] / highest
    words = (
        f"{shares.names[place]}: {shares.window[place]:.1%} of the window, "
        f"{shares.reference[place]:.1%} of the reference"
    )
    return [
        f'<rect class="window" x="{_LEFT + wide * place:.1f}" y="{top + _TALL - tall:.1f}" '
        f'width="{max(wide - 1, 0.5):.1f}" height="{tall:.1f}">'
        f"<title>{html(plain(words))}</title></rect>"
    ]


def _outline(shares: Sequence[float], wide: float, highest: float, top: int) -> str:
    path = [f"M{_LEFT} {top + _TALL}"]
    for place, share in enumerate(shares):
        y = top + _TALL - _TALL * share / highest
        path.append(f"V{y:.1f}H{_LEFT + wide * (place + 1):.1f}")
    return f'<path class="reference" d="{"".join(path)}V{top + _TALL}"/>'


def _names(names: Sequence[str], wide: float, top: int) -> list[str]:
    """Some of the names, aslant; the last one, which is often what is missing, in any case."""
    last, step = len(names) - 1, max(1, -(-len(names) // _MOST_NAMES))
    shown = [place for place in range(0, last + 1, step) if place == last or last - place >= step]
    y = top + _TALL + 12
    return [
        f'<text class="soft" x="{_LEFT + wide * (place + 0.5):.1f}" y="{y}" '
        f'transform="rotate(35 {_LEFT + wide * (place + 0.5):.1f} {y})">'
        f"{html(plain(shortened(names[place], 96)))}</text>"
        for place in dict.fromkeys([*shown, *([last] if last >= 0 else [])])
    ]
