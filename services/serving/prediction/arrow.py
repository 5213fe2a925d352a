"""Rows and answers as an Arrow IPC stream, for batches. pyarrow is an extra: `serving[arrow]`.

A stream of some hundred bytes can claim gigabytes once its buffers are decompressed, so the frames
are looked through before the library sees them: plain record batches only, no compression, no
dictionaries, no more rows than are taken, no bytes behind the end. What is left holds no more than
the body did, and is validated in full before a value is read.

Source: Apache Arrow, format/Message.fbs and the encapsulated message format, version 1.5.
"""

import struct
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

from services.serving.prediction.forms import (
    MOST_COLUMNS,
    Batch,
    Columns,
    Place,
    rows_of_columns,
)
from services.serving.prediction.reading import as_pointer, check_count, wrong
from shared.errors import Refused

ARROW: Final = "application/vnd.apache.arrow.stream"
_CONTINUATION: Final = 0xFFFFFFFF
_SCHEMA, _RECORD_BATCH = 1, 3
_MOST_METADATA_BYTES: Final = 1_000_000


class ArrowNotInstalled(Refused):
    """The library that reads Arrow is not installed here."""

    status = 415
    code = "media_type_not_accepted"


class MalformedArrow(Refused):
    """The body is no Arrow stream that is taken here."""

    code = "malformed_arrow"


def pyarrow() -> Any:
    """The library, where it is installed.

    Raises:
        ArrowNotInstalled: it is not.
    """
    try:
        import_module("pyarrow.ipc")
        return import_module("pyarrow")
    except ImportError as error:
        raise ArrowNotInstalled(
            "This replica was installed without Arrow; send JSON, or have the operator install "
            "the extra `serving[arrow]`."
        ) from error


def read_arrow(body: bytes, rows_limit: int) -> Batch:
    """The rows of a stream.

    Raises:
        ArrowNotInstalled: nobody here can read it.
        MalformedArrow: it is damaged, or holds what is not taken.
        InvalidInput: a column has a type that no feature has, or a name twice.
        TooLarge: there are more rows than allowed.
    """
    arrow = pyarrow()
    check_count(sum(_rows_of_frames(body)), rows_limit)
    try:
        table = arrow.ipc.open_stream(body).read_all()
        table.validate(full=True)
    except (arrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise MalformedArrow(f"The body is no Arrow stream: {_line(error)}") from error
    check_count(table.num_rows, rows_limit)
    if not table.num_rows or not 1 <= table.num_columns <= MOST_COLUMNS:
        wrong("/columns", f"1 to {MOST_COLUMNS} columns with at least one row are due")
    columns: dict[str, list[Any]] = {}
    for column, name in zip(table.itercolumns(), table.column_names, strict=True):
        pointer = f"/columns/{as_pointer(name)}"
        if name in columns:
            wrong(pointer, "this name comes twice")
        if not _is_plain(arrow, column.type):
            wrong(pointer, f"no feature has the type {str(column.type)[:60]}", _HINT)
        columns[name] = column.to_pylist()
    places = {name: Place(f"/columns/{as_pointer(name)}") for name in columns}
    return Batch(rows_of_columns(columns), Columns(places))


_HINT: Final = "send numbers, booleans or strings, not encoded as dictionaries"


def _is_plain(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_null(kind)
    )


def _line(error: Exception) -> str:
    return ascii(str(error).partition("\n")[0])[1:200]


# --- frames ---------------------------------------------------------------------------------


def _rows_of_frames(body: bytes) -> Iterator[int]:
    """Rows of each record batch.

    Raises:
        MalformedArrow: a frame is damaged, or holds what is not taken.
    """
    place = 0
    try:
        while place < len(body):
            mark, size = struct.unpack_from("<Ii", body, place)
            if mark != _CONTINUATION:
                _refuse("a frame does not begin as frames do")
            place += 8
            if size == 0:
                break
            if not 0 < size <= _MOST_METADATA_BYTES or place + size > len(body):
                _refuse("a frame is longer than the body")
            rows, length = _frame(memoryview(body)[place : place + size])
            place += size + length
            if place > len(body):
                _refuse("a frame is longer than the body")
            yield rows
    except struct.error as error:
        raise MalformedArrow("The body is no Arrow stream: a frame is cut off.") from error
    if place != len(body):
        _refuse("there are bytes behind its end")


def _frame(data: memoryview) -> tuple[int, int]:
    """Rows of a frame, and how many bytes follow its metadata."""
    message = _Table(data, *struct.unpack_from("<I", data))
    kind = message.number(1, "<B")
    length = message.number(3, "<q")
    if length < 0:
        _refuse("a frame has a negative length")
    if kind == _SCHEMA:
        return 0, length
    if kind != _RECORD_BATCH:
        _refuse("it holds a frame that is neither a schema nor a plain record batch")
    batch = message.table(2)
    if batch.place_of(3):
        _refuse("its buffers are compressed; send them as they are")
    rows = batch.number(0, "<q")
    if rows < 0:
        _refuse("a batch has a negative number of rows")
    return rows, length


class _Table:
    """A table of a flatbuffer; whatever lies outside the data raises `struct.error`."""

    def __init__(self, data: memoryview, place: int) -> None:
        self._data = data
        self._place = place
        self._fields = place - struct.unpack_from("<i", data, _inside(place))[0]
        self._size = struct.unpack_from("<H", data, _inside(self._fields))[0]

    def place_of(self, field: int) -> int:
        """Where a field stands; 0 where it is left out."""
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        offset: int = struct.unpack_from("<H", self._data, self._fields + entry)[0]
        return self._place + offset if offset else 0

    def number(self, field: int, code: str) -> int:
        """A number; 0 where it is left out."""
        place = self.place_of(field)
        found: int = struct.unpack_from(code, self._data, place)[0] if place else 0
        return found

    def table(self, field: int) -> "_Table":
        """A table within this one."""
        place = self.place_of(field)
        if not place:
            _refuse("a frame has no content")
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])


def _inside(place: int) -> int:
    """`struct` counts negative places from the end; here they are wrong."""
    if place < 0:
        raise struct.error("outside")
    return place


def _refuse(what: str) -> NoReturn:
    raise MalformedArrow(f"The body is no Arrow stream that is taken here: {what}.")


# --- answers --------------------------------------------------------------------------------


def write_arrow(plain: Sequence[dict[str, Any]]) -> bytes:
    """Answers as the door of our own tells them, one column per field and one per class."""
    arrow = pyarrow()
    rows = []
    for one in plain:
        row = dict(one)
        for label, share in (row.pop("probabilities", None) or {}).items():
            row[f"probability_{label}"] = share
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column(arrow, [row.get(name) for row in rows]) for name in names}
    table = arrow.table(columns)
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _column(arrow: Any, values: list[Any]) -> Any:
    """Of one type, as Arrow wants it: answers of different rungs may be of different ones."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and len(kinds) == 2:
        values = [None if value is None else float(value) for value in values]
    elif len(kinds) > 1:
        values = [None if value is None else str(value) for value in values]
    return arrow.array(values)
