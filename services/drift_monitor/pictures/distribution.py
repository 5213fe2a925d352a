"""One feature of one window beside the reference, cell by cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.drift_monitor.pictures.sheet import sheet, shortened, text
from shared.plain_text import html, plain

_LEFT, _TOP, _PLOT, _TALL, _FOOT = 48, 56, 640, 220, 70
_MOST_NAMES: Final = 12


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
    parts = [text(12, 38, says)]
    for place in range(cells):
        parts += _bars(place, shares, wide, highest)
    parts.append(_outline(shares.reference, wide, highest))
    parts += _names(shares.names, wide)
    parts += [
        f'<path class="axis" d="M{_LEFT} {_TOP}V{_TOP + _TALL}H{_LEFT + _PLOT}"/>',
        text(_LEFT - 6, _TOP, f"{highest:.0%}", "y"),
        text(_LEFT - 6, _TOP + _TALL, "0", "y"),
    ]
    title = f"{model}: {shares.feature}"
    width, height = _LEFT + _PLOT + 16, _TOP + _TALL + _FOOT
    return sheet(
        title, f"{says} Filled: the window; outlined: the reference.", width, height, parts
    )


def _bars(place: int, shares: Shares, wide: float, highest: float) -> list[str]:
    tall = _TALL * shares.window[place] / highest
    words = (
        f"{shares.names[place]}: {shares.window[place]:.1%} of the window, "
        f"{shares.reference[place]:.1%} of the reference"
    )
    return [
        f'<rect class="window" x="{_LEFT + wide * place:.1f}" y="{_TOP + _TALL - tall:.1f}" '
        f'width="{max(wide - 1, 0.5):.1f}" height="{tall:.1f}">'
        f"<title>{html(plain(words))}</title></rect>"
    ]


def _outline(shares: Sequence[float], wide: float, highest: float) -> str:
    path = [f"M{_LEFT} {_TOP + _TALL}"]
    for place, share in enumerate(shares):
        y = _TOP + _TALL - _TALL * share / highest
        path.append(f"V{y:.1f}H{_LEFT + wide * (place + 1):.1f}")
    return f'<path class="reference" d="{"".join(path)}V{_TOP + _TALL}"/>'


def _names(names: Sequence[str], wide: float) -> list[str]:
    step = max(1, -(-len(names) // _MOST_NAMES))
    shown = [place for place in range(len(names)) if place % step == 0]
    return [
        f'<text class="soft" x="{_LEFT + wide * (place + 0.5):.1f}" y="{_TOP + _TALL + 12}" '
        f'transform="rotate(35 {_LEFT + wide * (place + 0.5):.1f} {_TOP + _TALL + 12})">'
        f"{html(plain(shortened(names[place], 12)))}</text>"
        for place in shown
    ]
