"""A card as Markdown. Whatever a name holds, it stays a name: no HTML, no link, no heading."""

from collections.abc import Sequence

from services.evaluator.card.parts import Block, Items, Section, Table, Words
from shared.plain_text import markdown


def written(title: str, headline: str, sections: Sequence[Section]) -> str:
    """The whole card."""
    parts = [f"# {markdown(title)}", f"**{markdown(headline)}**"]
    for section in sections:
        parts.append(f"## {markdown(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Words(text=text):
            return markdown(text)
        case Items(texts=texts):
            return "\n".join(f"- {markdown(text)}" for text in texts)
        case Table():
            return _table(block)


def _table(block: Table) -> str:
    lines = [_row(block.header), _row(["---"] * len(block.header), escaped=True)]
    return "\n".join([*lines, *[_row(row) for row in block.rows]])


def _row(cells: Sequence[str], *, escaped: bool = False) -> str:
    shown = cells if escaped else [markdown(cell) for cell in cells]
    return f"| {' | '.join(shown)} |"
