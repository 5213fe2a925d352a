"""What a card is made of, whatever it is written in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.plain_text import number, plain

MOST_ROWS: Final = 100
"""Of one table; how many more there are is said below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list of sentences."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Plain cells under a header; `marked` rows stand out as bad news."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()


Block = Words | Items | Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a card under its own heading."""

    title: str
    blocks: tuple[Block, ...]


def table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], marked: Sequence[int] = ()
) -> tuple[Block, ...]:
    """A table of any values, cut to its most rows; nothing without rows."""
    if not rows:
        return ()
    cells = tuple(tuple(plain(value) for value in row) for row in rows[:MOST_ROWS])
    shown = Table(header=tuple(header), rows=cells, marked=frozenset(marked))
    left = len(rows) - MOST_ROWS
    return (shown, Words(text=f"and {number(left)} more")) if left > 0 else (shown,)


def facts(*rows: tuple[str, Any]) -> tuple[Block, ...]:
    """Names and what they are; those that are not there are left out."""
    return table(("", ""), [row for row in rows if row[1] not in (None, "", (), [])])
