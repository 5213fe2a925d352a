"""A picture that stands alone: its size, its style, and nothing that could run."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from shared.plain_text import html, plain

_STYLE: Final = (
    ":root{--ink:#1d2733;--soft:#5b6b7c;--rule:#dfe5ea;--page:#fff;--clean:#b9c6d0;"
    "--candidate:#0b6e99;--champion:#8a4fbf;--baseline:#8a6d00;--warning:#e0a100;--critical:#b3261e;"
    "--insufficient:#93a0ac}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa9b8;--rule:#35414d;"
    "--page:#161c22;--clean:#3f4d59;--candidate:#58b7dd;--champion:#c39bea;--baseline:#d9bd52;"
    "--critical:#e5534b;--insufficient:#6d7c89}}"
    "svg{background:var(--page);font:12px system-ui,sans-serif}text{fill:var(--ink)}"
    "text.soft{fill:var(--soft)}text.name{font-weight:600}text.x{text-anchor:middle}"
    "text.end{text-anchor:end}text.y{text-anchor:end;dominant-baseline:middle}text.row{dominant-baseline:middle}"
    ".axis,.grid,.guide,.line,.whiskers{fill:none}.axis{stroke:var(--soft)}.grid{stroke:var(--rule)}"
    ".guide{stroke:var(--soft);stroke-dasharray:2 3}.line{stroke-width:2}"
    ".line.candidate,.whiskers.candidate{stroke:var(--candidate)}"
    ".line.champion{stroke:var(--champion);stroke-dasharray:7 3}"
    ".line.estimated{stroke:var(--champion);stroke-width:1.5;stroke-dasharray:5 4}"
    ".whiskers{stroke-width:1.5;opacity:.45}.whiskers.estimated{stroke:var(--champion)}"
    ".line.baseline{stroke:var(--baseline);stroke-dasharray:2 2}"
    ".dot.candidate{fill:var(--candidate)}.dot.champion{fill:var(--champion)}"
    ".dot.estimated{fill:var(--page);stroke:var(--champion);stroke-width:1.5}"
    ".dot.baseline{fill:var(--baseline)}"
    ".clean{fill:var(--clean)}.warning{fill:var(--warning)}.critical{fill:var(--critical)}"
    ".insufficient{fill:var(--insufficient)}"
    ".window{fill:var(--candidate)}.reference{fill:none;stroke:var(--champion);stroke-width:2}"
)
LINE: Final = 16
"""Height of a line of words."""
_EDGE: Final = 12
_MOST_LINES: Final = 3
"""Of a title; the whole of it is in the `<title>`."""
_BOLD: Final = 1.1
_NARROW: Final = frozenset(" !'(),-./:;I[]`fijlrt|{}")
_BROAD: Final = frozenset("MW%@mw<>&+=~#\N{HORIZONTAL ELLIPSIS}\N{EM DASH}")


def sheet(title: str, says: str, width: int, height: int, parts: Sequence[str]) -> bytes:
    """An SVG file; the same parts give the same bytes.

    Args:
        says: in a sentence, for people who do not see the picture.
    """
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{html(plain(title))}</title><desc>{html(_plain(says))}</desc>",
            f"<style>{_STYLE}</style>",
            *parts,
            "</svg>",
        ]
    ).encode()


def _plain(says: str) -> str:
    """Sentences may be longer than a value."""
    return " ".join(plain(part) for part in says.split())


def text(x: float, y: float, words: str, kind: str = "soft") -> str:
    """Words at a place, harmless whatever they are."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html(plain(words))}</text>'


# --- how wide words are -----------------------------------------------------------------------


def width_of(words: str) -> float:
    """About how many pixels words take; rather more than fewer."""
    return sum(map(_width_of, words))


def _width_of(letter: str) -> float:
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 13.0
    if letter in _NARROW:
        return 4.8
    if letter in _BROAD:
        return 12.0
    if letter.isascii():
        return 8.6 if letter.isupper() else 7.3
    return 9.0


def shortened(name: str, width: float) -> str:
    """A name that takes no more than this many pixels."""
    name = plain(name)
    if width_of(name) <= width:
        return name
    room, kept = width - width_of("…"), 0
    for letter in name:
        room -= _width_of(letter)
        if room < 0:
            break
        kept += 1
    return f"{name[:kept]}…"


def broken(words: str, width: float) -> list[str]:
    """Words in as many lines as this width needs; what is too long for a line is cut anywhere."""
    found, line = [], ""
    for word in _pieces(_plain(words), width):
        longer = f"{line} {word}" if line else word
        if line and width_of(longer) > width:
            found.append(line)
            longer = word
        line = longer
    return [*found, line] if line else found


def _pieces(words: str, width: float) -> Iterator[str]:
    for word in words.split():
        piece = ""
        for letter in word:
            if piece and width_of(piece) + _width_of(letter) > width:
                yield piece
                piece = ""
            piece += letter
        yield piece


def lines(y: float, words: str, width: int) -> list[str]:
    """Words from the left edge on, in as many lines as this width needs."""
    told = broken(words, width - 2 * _EDGE)
    return [text(_EDGE, y + LINE * row, line) for row, line in enumerate(told)]


# --- title and legend -------------------------------------------------------------------------

Sign = Literal["full", "half", "low", "middle", "stroke", "ring"]
Entry = tuple[str, Sign, str]
"""Class, sign and words."""


def head(title: str, width: int, entries: Sequence[Entry]) -> tuple[list[str], int]:
    """Title and legend, beside each other where both fit; and where the rest may begin."""
    room = (width - 2 * _EDGE) / _BOLD
    told = broken(title, room)
    if len(told) > _MOST_LINES:
        rest = " ".join(told[_MOST_LINES - 1 :])
        told = [*told[: _MOST_LINES - 1], shortened(rest, room)]
    wide = sum(_wide(words) for _, _, words in entries)
    y = 20 + LINE * (len(told) - 1)
    if len(told) > 1 or width_of(told[0]) * _BOLD + wide > width - 2 * _EDGE:
        y += LINE + 4
    parts = [text(_EDGE, 20 + LINE * row, line, "name") for row, line in enumerate(told)]
    return [*parts, *_legend(max(width - _EDGE - wide, _EDGE), y, entries)], y + LINE


def _wide(words: str) -> float:
    return width_of(words) + 30


def _legend(x: float, y: float, entries: Sequence[Entry]) -> list[str]:
    parts: list[str] = []
    for kind, sign, words in entries:
        parts += [_shape(kind, sign, x, y), text(x + 16, y, words)]
        x += _wide(words)
    return parts


_SHAPES: Final[dict[Sign, str]] = {
    "full": "M{x:.1f} {top}h10v10h-10z",
    "half": "M{x:.1f} {middle}h10v5h-10z",
    "low": "M{x:.1f} {low}h10v2h-10z",
    "middle": "M{x:.1f} {middle}h10v2h-10z",
    "stroke": "M{x:.1f} {middle}h12",
}


def _shape(kind: str, sign: Sign, x: float, y: float) -> str:
    if sign == "ring":
        return f'<circle class="{kind}" cx="{x + 6:.1f}" cy="{y - 4}" r="3"/>'
    path = _SHAPES[sign].format(x=x, top=y - 9, middle=y - 4, low=y - 1)
    return f'<path class="{kind}" d="{path}"/>'
