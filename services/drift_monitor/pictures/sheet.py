"""A picture that stands alone: its size, its style, and nothing that could run."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Final, Literal

from shared.plain_text import html, plain

_STYLE: Final = (
    ":root{--ink:#1d2733;--soft:#5b6b7c;--rule:#dfe5ea;--page:#fff;--clean:#e8eef2;"
    "--candidate:#0b6e99;--champion:#8a4fbf;--baseline:#8a6d00;--warning:#e0a100;--critical:#b3261e;"
    "--insufficient:#c5ccd3}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa9b8;--rule:#35414d;"
    "--page:#161c22;--clean:#26313b;--candidate:#58b7dd;--champion:#c39bea;--baseline:#d9bd52;"
    "--critical:#e5534b;--insufficient:#4a5661}}"
    "svg{background:var(--page);font:12px system-ui,sans-serif}text{fill:var(--ink)}"
    "text.soft{fill:var(--soft)}text.name{font-weight:600}text.x{text-anchor:middle}"
    "text.end{text-anchor:end}text.y{text-anchor:end;dominant-baseline:middle}text.row{dominant-baseline:middle}"
    ".axis,.grid,.guide,.line{fill:none}.axis{stroke:var(--soft)}.grid{stroke:var(--rule)}"
    ".guide{stroke:var(--soft);stroke-dasharray:2 3}.line{stroke-width:2}"
    ".line.candidate{stroke:var(--candidate)}"
    ".line.champion{stroke:var(--champion);stroke-dasharray:7 3}"
    ".line.baseline{stroke:var(--baseline);stroke-dasharray:2 2}"
    ".dot.candidate,.band.candidate{fill:var(--candidate)}"
    ".dot.champion,.band.champion{fill:var(--champion)}"
    ".dot.baseline,.band.baseline{fill:var(--baseline)}.band{opacity:.2}"
    ".clean{fill:var(--clean)}.warning{fill:var(--warning)}.critical{fill:var(--critical)}"
    ".insufficient{fill:var(--insufficient)}"
    ".window{fill:var(--candidate)}.reference{fill:none;stroke:var(--champion);stroke-width:2}"
)


def sheet(title: str, says: str, width: int, height: int, parts: Sequence[str]) -> bytes:
    """An SVG file; the same parts give the same bytes.

    Args:
        says: in a sentence, for people who do not see the picture.
    """
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{html(plain(title))}</title><desc>{html(plain(says))}</desc>",
            f"<style>{_STYLE}</style>",
            f'<text class="name" x="12" y="20">{html(plain(title))}</text>',
            *parts,
            "</svg>",
        ]
    ).encode()


def text(x: float, y: float, words: str, kind: str = "soft") -> str:
    """Words at a place, harmless whatever they are."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html(plain(words))}</text>'


LINE: Final = 16
"""Height of a line of words."""
_LETTER: Final = 6.4
"""Width of a letter, roughly; a little more than most letters take."""


def lines(y: float, words: str, width: int) -> list[str]:
    """Words from the left edge on, in as many lines as this width needs."""
    broken = wrap(plain(words), max(int((width - 24) / _LETTER), 8))
    return [text(12, y + LINE * row, line) for row, line in enumerate(broken)]


Sign = Literal["block", "stroke"]


def legend(right: float, y: float, entries: Sequence[tuple[str, Sign, str]]) -> list[str]:
    """What the classes of a picture mean, ending at `right`; each as (class, sign, words)."""
    parts: list[str] = []
    for kind, sign, words in reversed(entries):
        right -= len(words) * _LETTER
        parts.append(text(right, y, words))
        right -= 16
        shape = (
            f"M{right:.1f} {y - 9}h10v10h-10z" if sign == "block" else f"M{right:.1f} {y - 4}h12"
        )
        parts.append(f'<path class="{kind}" d="{shape}"/>')
        right -= 14
    return parts


def shortened(name: str, most: int = 28) -> str:
    """A name that fits beside a row."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
