"""The lines of a CSV file, looked at before anything parses it: encoding, names, fields per line.

Memory stays at a few megabytes whatever the file holds. Files without quotation marks are counted
with numpy, the others by the csv module.
"""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from services.registry.profiling.limits import NAMES_BYTES, Limits
from shared.events import Reason
from shared.names import column_name

_CHUNK_BYTES: Final = 4 << 20
_NEWLINE: Final = 10
_COMMA: Final = 44


@dataclass(slots=True, kw_only=True)
class Lines:
    """What the lines of a file say; rows do not count the header."""

    names: list[str] = field(default_factory=list)
    rows: int = 0
    faults: list[Reason] = field(default_factory=list)


class _Quoted(Exception):
    """There is a quotation mark: commas and line ends may be part of a field."""


class _Wrong(Exception):
    """Counting ends here: this is why."""

    def __init__(self, line: int, detail: str, hint: str = "") -> None:
        self.reason = Reason(pointer=f"/line/{line}", detail=f"line {line}: {detail}", hint=hint)


def lines_of(path: Path, limits: Limits) -> Lines:
    """Names, number of rows, and everything that is wrong with the form of the file."""
    found = Lines()
    with path.open("rb") as file:
        header = file.readline(limits.header_bytes + 1)
        if len(header) > limits.header_bytes:
            detail = f"the header is longer than {limits.header_bytes} bytes"
            found.faults.append(Reason(pointer="/line/1", detail=detail))
            return found
        try:
            found.names = _names(header)
            found.faults.extend(faults_of_names(found.names, limits))
            if len(found.names) <= limits.columns:
                _count(file, header, found)
        except _Wrong as wrong:
            found.faults.append(wrong.reason)
    if not found.rows and not found.faults:
        found.faults.append(Reason(pointer="/line/2", detail="there is a header and no row"))
    return found


def _names(header: bytes) -> list[str]:
    if b"\0" in header:
        raise _Wrong(1, "it holds a NUL byte", "send CSV in UTF-8")
    try:
        text = header.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(1) from error
    if "\r" in text:
        raise _Wrong(1, "a line ends with a bare carriage return", "end lines with a line feed")
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise _Wrong(1, f"the header cannot be read: {error}") from error
    return rows[0] if rows else []


def faults_of_names(names: Sequence[str], limits: Limits) -> Iterator[Reason]:
    """What is wrong with the names of the columns."""
    if not names:
        yield Reason(pointer="/columns", detail="there are no columns")
    if len(names) > limits.columns:
        detail = f"there are {len(names)} columns, {limits.columns} are allowed"
        yield Reason(pointer="/columns", detail=detail)
        return
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        detail = "there is one column, and its name holds ';', a tab or '|'"
        yield Reason(pointer="/line/1", detail=detail, hint="separate columns by commas")
    if sum(len(name.encode()) for name in names) > NAMES_BYTES:
        detail = f"the names of the columns have more than {NAMES_BYTES} bytes"
        yield Reason(pointer="/columns", detail=detail)
    for name, count in Counter(names).items():
        if count > 1:
            yield Reason(pointer="/columns", detail=f"{name[:64]!r} names {count} columns")
    for place, name in enumerate(names, 1):
        yield from _faults_of_name(place, name)


def _faults_of_name(place: int, name: str) -> Iterator[Reason]:
    try:
        column_name(name)
    except ValueError as error:
        detail = f"column {place} is named {name[:64]!r}"
        yield Reason(pointer=f"/columns/{place}", detail=detail, hint=str(error))


def _count(file: BinaryIO, header: bytes, found: Lines) -> None:
    if b'"' not in header:
        try:
            _count_plain(file, len(found.names), found)
        except _Quoted:
            pass
        else:
            return
    found.rows = 0
    file.seek(0)
    _count_quoted(file, len(found.names), found)


def _count_plain(file: BinaryIO, columns: int, found: Lines) -> None:
    """Count line feeds and commas; exact as long as nothing is quoted."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    ragged = _Ragged(columns)
    rest = b""
    while chunk := file.read(_CHUNK_BYTES):
        if b'"' in chunk:
            raise _Quoted
        whole, rest = _whole_lines(rest + chunk)
        _check_bytes(chunk, decoder, found.rows + 2, whole)
        found.rows += ragged.look(whole, found.rows + 2)
    if rest:
        found.rows += ragged.look(rest + b"\n", found.rows + 2)
    _end_of_text(decoder, found.rows + 1)
    found.faults.extend(ragged.reasons())


def _whole_lines(data: bytes) -> tuple[bytes, bytes]:
    end = data.rfind(b"\n") + 1
    return data[:end], data[end:]


def _check_bytes(
    chunk: bytes, decoder: codecs.IncrementalDecoder, first_line: int, whole: bytes
) -> None:
    if b"\0" in chunk:
        raise _Wrong(first_line + whole.count(b"\n", 0, whole.find(b"\0")), "it holds a NUL byte")
    if chunk.isascii() and not decoder.getstate()[0]:
        return
    try:
        decoder.decode(chunk)
    except UnicodeDecodeError as error:
        # Bytes kept from the chunk before belong to its last line, at most three of them.
        raise _not_utf8(first_line + chunk.count(b"\n", 0, max(error.start, 0))) from error


def _end_of_text(decoder: codecs.IncrementalDecoder, line: int) -> None:
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _not_utf8(line) from error


def _not_utf8(line: int) -> _Wrong:
    return _Wrong(line, "these bytes are no UTF-8", "save the file as UTF-8")


class _Ragged:
    """Lines with another number of fields than the header."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = 0
        self.first: tuple[int, int] | None = None

    def look(self, whole: bytes, first_line: int) -> int:
        """Look at whole lines; how many they are."""
        data = np.frombuffer(whole, dtype=np.uint8)
        ends = np.flatnonzero(data == _NEWLINE)
        if not len(ends):
            return 0
        commas = np.searchsorted(np.flatnonzero(data == _COMMA), ends)
        fields = np.diff(commas, prepend=0) + 1
        wrong = np.flatnonzero(fields != self.columns)
        if len(wrong):
            self.note(first_line + int(wrong[0]), int(fields[wrong[0]]), len(wrong))
        return len(ends)

    def note(self, line: int, fields: int, lines: int = 1) -> None:
        """Remember the first such line, count all."""
        self.first = self.first or (line, fields)
        self.lines += lines

    def reasons(self) -> Iterator[Reason]:
        """One reason for all of them."""
        if self.first:
            line, fields = self.first
            more = f", and {self.lines - 1} more lines like it" if self.lines > 1 else ""
            detail = f"line {line} has {fields} fields, the header has {self.columns}{more}"
            yield Reason(pointer=f"/line/{line}", detail=detail)


def _count_quoted(file: BinaryIO, columns: int, found: Lines) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    ragged = _Ragged(columns)
    line = 1
    try:
        next(reader, None)
        line = reader.line_num + 1
        for row in reader:
            if len(row) != columns and (row or columns > 1):
                ragged.note(line, max(len(row), 1))
            found.rows += 1
            line = reader.line_num + 1
    except csv.Error as error:
        raise _Wrong(line, f"it cannot be read: {error}", "close every quotation mark") from error
    except UnicodeDecodeError as error:
        raise _not_utf8(line) from error
    finally:
        text.detach()
    found.faults.extend(ragged.reasons())
