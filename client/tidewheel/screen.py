"""What commands print: data on standard output, talk on standard error."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Row = Mapping[str, Any]
_WORTH_A_BAR_BYTES: Final = 1_000_000
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")
out = Console(highlight=False, soft_wrap=True)
talk = Console(stderr=True, highlight=False, soft_wrap=True)


def as_json(content: Any) -> None:
    """One JSON document, or one per line for a list."""
    many = content if isinstance(content, list) else [content]
    for one in many:
        sys.stdout.write(json.dumps(one, default=str) + "\n")
    sys.stdout.flush()


def table(rows: Sequence[Row], columns: Mapping[str, str], *, none: str) -> None:
    """Rows as a table; `columns` maps titles to keys, dots lead inwards."""
    if not rows:
        talk.print(none)
        return
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in columns:
        made.add_column(title, overflow="fold")
    for row in rows:
        made.add_row(*(cell(within(row, key)) for key in columns.values()))
    # A table that is not shown on a screen keeps its columns whole.
    width = None if out.is_terminal else 240
    Console(highlight=False, width=width).print(made)


@contextmanager
def upload(source: str) -> Iterator[Callable[[int], None] | None]:
    """A bar for a file that takes a while; nothing where nobody looks."""
    file = Path(source)
    if not talk.is_terminal or not file.is_file() or file.stat().st_size < _WORTH_A_BAR_BYTES:
        yield None
        return
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True) as bar:
        task = bar.add_task("sending", total=file.stat().st_size)
        yield lambda sent: bar.update(task, completed=sent)


def within(row: Any, key: str) -> Any:
    """`a.b` of nested objects; None where there is none."""
    for part in key.split("."):
        row = row.get(part) if isinstance(row, Mapping) else None
    return row


def cell(value: Any) -> str:
    """A value as text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(cell(one) for one in value)
    return _MOMENT.sub(r"\1 \2", str(value)) if _MOMENT.fullmatch(str(value)) else str(value)


def short(identifier: object) -> str:
    """An id, short enough for a line and long enough to be found: the end varies most."""
    text = str(identifier or "")
    return text if len(text) <= 13 else f"…{text[-12:]}"
