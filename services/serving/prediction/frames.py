"""What MLflow's clients send to be scored, as rows: split, records, inputs, instances, or CSV."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from services.serving.prediction.forms import (
    MOST_COLUMNS,
    Arrays,
    Batch,
    Objects,
    arrays_batch,
    columns_batch,
    names_of,
)
from services.serving.prediction.reading import (
    as_pointer,
    check_count,
    read_json,
    wrong,
)
from services.serving.prediction.rows import Schema
from shared.errors import Refused

FORMS: Final = ("dataframe_split", "dataframe_records", "inputs", "instances")
_BESIDE: Final = frozenset({"params", "signature_name"})
_SPLIT: Final = frozenset({"columns", "data", "index"})
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_BOOLEANS: Final = {"true": True, "false": False}


class MalformedCsv(Refused):
    """The body is not CSV."""

    code = "malformed_csv"


def read_frame(body: bytes, schema: Schema, rows_limit: int) -> Batch:
    """Rows from JSON in one of MLflow's four forms.

    Raises:
        MalformedJson: it is no JSON.
        InvalidInput: it has another form, or more than one.
        TooLarge: there are more rows than allowed.
    """
    document = read_json(body)
    hint = f"send an object with one of {', '.join(FORMS)}"
    if not isinstance(document, dict):
        wrong("", "the body is no object", hint)
    for name in document:
        if name not in FORMS and name not in _BESIDE:
            wrong(f"/{as_pointer(name)}", "this field is not known", hint)
    if not isinstance(document.get("params") or {}, dict):
        wrong("/params", "an object is due")
    named = [form for form in FORMS if form in document]
    if len(named) != 1:
        wrong(f"/{named[1]}" if named else "", "exactly one form is due", hint)
    return _READERS[named[0]](document[named[0]], f"/{named[0]}", schema, rows_limit)


def _split(given: Any, top: str, _: Schema, rows_limit: int) -> Batch:
    if not isinstance(given, dict):
        wrong(top, "an object is due", 'send {"columns": […], "data": [[…]]}')
    for name in given:
        if name not in _SPLIT:
            wrong(f"{top}/{as_pointer(name)}", "this field is not known", "leave it out")
    names = names_of(given.get("columns"), f"{top}/columns")
    form = Arrays(names, top=f"{top}/data", header=f"{top}/columns")
    batch = arrays_batch(given.get("data"), form, rows_limit)
    index = given.get("index")
    if index is not None and (not isinstance(index, list) or len(index) != len(batch.rows)):
        wrong(f"{top}/index", "a list with one entry per row is due", "leave it out")
    return batch


def _records(given: Any, top: str, _: Schema, rows_limit: int) -> Batch:
    if not isinstance(given, list) or not given:
        wrong(top, "this is no list with at least one row", "send a list of objects")
    check_count(len(given), rows_limit)
    return Batch(given, Objects(top))


def _tensors(given: Any, top: str, schema: Schema, rows_limit: int) -> Batch:
    """Named columns, rows as objects, or rows as lists in the model's own order."""
    if isinstance(given, dict):
        return columns_batch({n: _squeezed(v) for n, v in given.items()}, rows_limit, top)
    if not isinstance(given, list) or not given:
        wrong(top, "a list of rows or an object of columns is due")
    if isinstance(given[0], dict):
        return _records(given, top, schema, rows_limit)
    if not isinstance(given[0], list) and len(schema.names) == 1:
        given = [[value] for value in given]
    return arrays_batch(given, Arrays(schema.names, top=top, header=top), rows_limit)


def _squeezed(values: Any) -> Any:
    """A column of shape [n, 1] is one of shape [n]."""
    is_column = isinstance(values, list) and all(
        isinstance(v, list) and len(v) == 1 for v in values
    )
    return [value for (value,) in values] if is_column else values


_READERS: Final = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "inputs": _tensors,
    "instances": _tensors,
}


def read_csv(body: bytes, schema: Schema, rows_limit: int) -> Batch:
    """Rows from CSV with a header; an empty cell is a missing value, whatever its column.

    Raises:
        MalformedCsv: it is no CSV in UTF-8.
        InvalidInput: the header is none, or a row has another length.
        TooLarge: there are more rows than allowed.
    """
    try:
        lines = list(_lines(body.decode("utf-8-sig"), rows_limit))
    except (csv.Error, UnicodeDecodeError) as error:
        raise MalformedCsv(f"The body is no CSV in UTF-8: {str(error)[:100]}") from error
    if not lines:
        wrong("/header", "the first line holds the names of the columns")
    names = names_of(lines[0], "/header")
    form = Arrays(names, top="/rows", header="/header")
    kinds = [schema.kinds.get(name, "text") for name in names]
    rows = [_values(line, kinds) for line in lines[1:]]
    return arrays_batch(rows, form, rows_limit)


def _lines(text: str, rows_limit: int) -> Iterator[list[str]]:
    count = 0
    for line in csv.reader(io.StringIO(text, newline=""), strict=True):
        if not line:
            continue
        if len(line) > MOST_COLUMNS:
            wrong(f"/rows/{max(count - 1, 0)}", f"a row has at most {MOST_COLUMNS} values")
        check_count(count, rows_limit)
        count += 1
        yield line


def _values(line: Sequence[str], kinds: Sequence[str]) -> list[Any]:
    """Cells by the kind of their column; what is none stays a text, and is refused as such."""
    known = [*kinds, *["text"] * (len(line) - len(kinds))]
    return [_value(cell, kind) for cell, kind in zip(line, known, strict=False)]


def _value(cell: str, kind: str) -> Any:
    if cell == "":
        return None
    if kind == "number" and _NUMBER.fullmatch(cell.strip()):
        return int(cell) if _WHOLE.fullmatch(cell.strip()) else float(cell)
    if kind == "boolean":
        return _BOOLEANS.get(cell.strip().lower(), cell)
    return cell
