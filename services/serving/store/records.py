"""How rows lie in a file: whole records, each with its mark, its length and a checksum.

A record holds the rows of one answer. Its rows are numbered, and the numbers go on from record to
record: where some are missing, so many rows were lost. Whoever meets bytes that are no record looks
for the next mark and goes on there.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

MARK: Final = b"\xf5TwR"
"""Not valid in UTF-8, so no row of JSON can hold it."""

_HEAD: Final = struct.Struct("<4sIIQI")
"""Mark, bytes of the body, checksum of all that follows it, number of the first row, rows."""
_CHECKED_FROM: Final = 12
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The rows of one answer.

    Attributes:
        first: number of the first row.
        end: where the next record begins.
    """

    first: int
    rows: Sequence[bytes]
    end: int


def packed(rows: Sequence[bytes], first: int) -> bytes:
    """Rows as the bytes of a record."""
    body = b"".join([part for row in rows for part in (_LENGTH.pack(len(row)), row)])
    head = _HEAD.pack(MARK, len(body), 0, first, len(rows))
    checksum = crc32(body, crc32(head[_CHECKED_FROM:]))
    return b"".join((head[:8], _LENGTH.pack(checksum), head[_CHECKED_FROM:], body))


def record_at(data: bytes, offset: int) -> Record | None:
    """The record that begins here; None where there is no whole one."""
    begin = offset + _HEAD.size
    if begin > len(data):
        return None
    mark, size, checksum, first, count = _HEAD.unpack_from(data, offset)
    end = begin + size
    if mark != MARK or end > len(data):
        return None
    body = data[begin:end]
    if crc32(body, crc32(data[offset + _CHECKED_FROM : begin])) != checksum:
        return None
    rows = []
    position = 0
    for _ in range(count):
        start = position + 4
        position = start + int.from_bytes(body[position:start], "little")
        rows.append(body[start:position])
    return Record(first=first, rows=rows, end=end)


def next_record(data: bytes, offset: int) -> tuple[Record | None, int]:
    """The first whole record from here on, and where it begins; without one, the end."""
    while True:
        offset = data.find(MARK, offset)
        if offset < 0:
            return None, len(data)
        record = record_at(data, offset)
        if record is not None:
            return record, offset
        offset += 1
