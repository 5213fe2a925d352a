"""A card as one HTML page: readable in light and dark, on paper and by ear; it loads nothing."""

from collections.abc import Sequence
from typing import Final

from services.evaluator.card.parts import Block, Items, Section, Table, Words
from shared.pictures import Picture, drawn
from shared.plain_text import html

_STYLE: Final = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2330;--soft:#5b6472;--rule:#d9dee6;
--candidate:#0b63c5;--champion:#b45309;--baseline:#6b7280;--bad:#b3261e;--tint:#fdecea}
@media(prefers-color-scheme:dark){:root{--paper:#12161d;--ink:#e6e9ef;--soft:#a2abb9;--rule:#323a47;
--candidate:#6cb1ff;--champion:#f0a24b;--baseline:#9aa3b0;--bad:#ff8a80;--tint:#3a1f1f}}
body{font:16px/1.5 system-ui,sans-serif;background:var(--paper);color:var(--ink);margin:0 auto;
max-width:72rem;padding:1rem}
h1{margin:.5rem 0}h2{border-bottom:1px solid var(--rule);margin-top:2rem}
.verdict{font-weight:600}.rejected{color:var(--bad)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:left;border-bottom:1px solid var(--rule);vertical-align:top;
overflow-wrap:anywhere}thead th{color:var(--soft);font-weight:600;white-space:nowrap}
tr.bad td,tr.bad th{background:var(--tint)}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(19rem,1fr));gap:1rem}
figure{margin:0}figcaption{color:var(--soft);font-size:.9rem}svg{width:100%;height:auto}
svg text{fill:var(--soft);font:11px system-ui,sans-serif;dominant-baseline:middle}
svg text.name{fill:var(--ink);font-weight:600;font-size:13px}
svg text.x{text-anchor:middle}svg text.y{text-anchor:end}
.axis,.grid,.guide,.line{fill:none}.axis{stroke:var(--soft)}.grid{stroke:var(--rule)}
.guide{stroke:var(--soft);stroke-dasharray:2 3}.line{stroke-width:2}
.line.candidate{stroke:var(--candidate)}.line.champion{stroke:var(--champion);stroke-dasharray:7 3}
.line.baseline{stroke:var(--baseline);stroke-dasharray:2 2}
.dot.candidate,.band.candidate{fill:var(--candidate)}.dot.champion,.band.champion{fill:
var(--champion)}.dot.baseline,.band.baseline{fill:var(--baseline)}.band{opacity:.2}
.key span{margin-right:1.2rem}.key svg{width:2rem;height:.7rem;vertical-align:middle}
@media print{body{max-width:none}.wide{overflow:visible}}
"""
_HEAD: Final = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    '<meta name="referrer" content="no-referrer">'
)


def shown(
    title: str,
    headline: str,
    sections: Sequence[Section],
    pictures: Sequence[Picture],
    *,
    accepted: bool,
    pictures_before: str,
) -> str:
    """The whole page; the pictures come before the section of that title."""
    verdict = "verdict" if accepted else "verdict rejected"
    parts = [
        f"{_HEAD}<title>{html(title)}</title><style>{_STYLE}</style></head><body><main>",
        f'<h1>{html(title)}</h1><p class="{verdict}">{html(headline)}</p>',
    ]
    for section in sections:
        parts += [_gallery(pictures)] if section.title == pictures_before else []
        parts.append(_section(section))
    parts.append("</main></body></html>\n")
    return "\n".join(part for part in parts if part)


def _section(section: Section) -> str:
    inner = "".join(_block(block) for block in section.blocks)
    return f"<section><h2>{html(section.title)}</h2>{inner}</section>"


def _block(block: Block) -> str:
    match block:
        case Words(text=text):
            return f"<p>{html(text)}</p>"
        case Items(texts=texts):
            return f"<ul>{''.join(f'<li>{html(text)}</li>' for text in texts)}</ul>"
        case Table():
            return _table(block)


def _table(block: Table) -> str:
    head = "".join(f'<th scope="col">{html(cell)}</th>' for cell in block.header)
    rows = "".join(_row(row, bad=place in block.marked) for place, row in enumerate(block.rows))
    top = f"<thead><tr>{head}</tr></thead>" if any(block.header) else ""
    return f'<div class="wide"><table>{top}<tbody>{rows}</tbody></table></div>'


def _row(cells: Sequence[str], *, bad: bool) -> str:
    first = f'<th scope="row">{html(cells[0])}</th>'
    others = "".join(f"<td>{html(cell)}</td>" for cell in cells[1:])
    return f'<tr class="bad">{first}{others}</tr>' if bad else f"<tr>{first}{others}</tr>"


def _gallery(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    roles = {line.role: line.name for picture in pictures for line in picture.lines}
    key = "".join(
        f'<span><svg viewBox="0 0 32 8" aria-hidden="true">'
        f'<path class="line {role}" d="M0 4H32"/></svg> {html(name)}</span>'
        for role, name in sorted(roles.items(), key=lambda pair: _ORDER.index(pair[0]))
    )
    figures = "".join(
        f"<figure>{drawn(picture)}<figcaption>{html(picture.says)}</figcaption></figure>"
        for picture in pictures
    )
    return (
        f'<section><h2>Pictures</h2><p class="key">{key}</p>'
        f'<div class="pictures">{figures}</div></section>'
    )


_ORDER: Final = ("candidate", "champion", "baseline")
