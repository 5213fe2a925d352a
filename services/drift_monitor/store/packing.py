"""Rows for PostgreSQL's binary COPY, packed column by column.

Packing value by value costs more than everything else about a label that is simply the first.
Only what stands in every row, or in none, is packed so; a column with gaps is left to the driver.

Source: PostgreSQL documentation, COPY, "Binary Format".
"""

import struct
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
TOGETHER: Final = 500
"""Rows that are packed at a time."""
_NULL: Final = -1
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SIZE: Final = struct.Struct(">i")

Fixed = tuple[str, Callable[[Sequence[Any]], NDArray[Any]]]
"""The type of a column as numpy has it, and what makes an array of its values."""


def _numbers(kind: str) -> Fixed:
    return kind, lambda values: np.array(values, kind)


def _moments(values: Sequence[datetime]) -> NDArray[Any]:
    return np.array([(value - _EPOCH) // _MICROSECOND for value in values], ">i8")


def _ids(values: Sequence[UUID]) -> NDArray[Any]:
    return np.frombuffer(b"".join([value.bytes for value in values]), "V16")


SMALL, WHOLE, LARGE = _numbers(">i2"), _numbers(">i4"), _numbers(">i8")
REAL, TRUTH = _numbers(">f8"), _numbers("u1")
MOMENT: Final[Fixed] = (">i8", _moments)
ID: Final[Fixed] = ("V16", _ids)


def packed(fixed: Sequence[tuple[Fixed, Sequence[Any]]], texts: Sequence[Sequence[bytes]]) -> bytes:
    """Whole rows, as they stand between `HEADER` and `TRAILER`: columns of text come last.

    Args:
        fixed: their types and values, all of one length, which is at least 1; each has values in
            all rows or in none.
        texts: in UTF-8, none of them null.
    """
    named: list[tuple[str, str]] = [("fields", ">i2")]
    filled: dict[str, Any] = {"fields": len(fixed) + len(texts)}
    for place, ((kind, made), values) in enumerate(fixed):
        named.append((f"size_{place}", ">i4"))
        filled[f"size_{place}"] = _NULL
        if not gaps_in(values):
            named.append((f"value_{place}", kind))
            filled[f"size_{place}"] = np.dtype(kind).itemsize
            filled[f"value_{place}"] = made(values)
    rows = np.empty(len(texts[0]), np.dtype(named))
    for name, values in filled.items():
        rows[name] = values
    parts = [_cut(rows.tobytes(), rows.dtype.itemsize), *(_sized(column) for column in texts)]
    return b"".join(chain.from_iterable(zip(*parts, strict=True)))


def gaps_in(values: Sequence[Any]) -> int:
    """How many are null; only numbers are here, and other kinds are slow to compare."""
    return values.count(None) if isinstance(values[0], int | float | None) else 0


async def streamed(
    fixed: Sequence[tuple[Fixed, Sequence[Any]]], texts: Sequence[Sequence[bytes]]
) -> AsyncIterator[bytes]:
    """A whole COPY, part by part: the database writes one while the next one is packed.

    Args:
        fixed, texts: as for `packed`.
    """
    yield HEADER
    for start in range(0, len(texts[0]), TOGETHER):
        span = slice(start, start + TOGETHER)
        part = [(kind, values[span]) for kind, values in fixed]
        yield packed(part, [column[span] for column in texts])
    yield TRAILER


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _sized(column: Sequence[bytes]) -> list[bytes]:
    """Each text after its length."""
    sizes = {size: _SIZE.pack(size) for size in set(map(len, column))}
    return [sizes[len(text)] + text for text in column]
