"""Rows as people send them, and the matrix that an estimator sees; one rule for both.

Numbers and booleans become float64 with NaN for a missing value. As soon as one column is text
the matrix holds objects: floats, strings, and None for missing text.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isinf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import Fault, InvalidInput
from shared.manifest import Column

Row = Mapping[str, Any]
Matrix = NDArray[Any]

MOST_FAULTS: Final = 50
"""More than so many faults are not listed; a caller mends the first ones first."""


def matrix(columns: Sequence[Column], rows: Sequence[Row]) -> Matrix:
    """The rows in the order of the columns, shape (rows, columns).

    A column that a row does not name is missing in it; columns the model does not know are passed
    over.

    Raises:
        InvalidInput: a value has the wrong type or is infinite, with the place of each.
    """
    faults = list(faults_of(columns, rows))
    if faults:
        raise InvalidInput("some values do not fit their column", faults[:MOST_FAULTS])
    return stacked(columns, {c.name: column_values(c, rows) for c in columns}, len(rows))


def faults_of(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[Fault]:
    """What is wrong with the values, one fault per value."""
    for column in columns:
        fits, hint = _CHECKS[column.kind]
        for index, row in enumerate(rows):
            value = row.get(column.name)
            if value is not None and not fits(value):
                pointer = f"/rows/{index}/{_escaped(column.name)}"
                yield Fault(pointer, f"{_shown(value)} is no {column.kind}", hint)


def column_values(column: Column, rows: Sequence[Row]) -> NDArray[Any]:
    """One column of checked rows: float64, or objects for text."""
    found = [row.get(column.name) for row in rows]
    if column.kind == "text":
        return _objects(found)
    return np.array(found, dtype=np.float64)  # None becomes NaN


def stacked(columns: Sequence[Column], arrays: Mapping[str, NDArray[Any]], rows: int) -> Matrix:
    """Columns side by side, shape (rows, columns); float64 unless one of them is text."""
    if any(column.kind == "text" for column in columns):
        table: Matrix = np.empty((rows, len(columns)), dtype=object)
    else:
        table = np.empty((rows, len(columns)), dtype=np.float64)
    for position, column in enumerate(columns):
        table[:, position] = arrays[column.name]
    return table


def rows_of(columns: Sequence[Column], table: Matrix) -> list[dict[str, Any]]:
    """Plain rows from a matrix, None for missing: what the baseline rules read."""
    names = [column.name for column in columns]
    return [
        {
            name: None if _is_missing(value) else value
            for name, value in zip(names, row, strict=True)
        }
        for row in table.tolist()
    ]


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return not isinf(float(value))
    except OverflowError:
        return False


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or value in (0, 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_CHECKS: Final = {
    "number": (_is_number, "send a finite number, or null where it is not known"),
    "boolean": (_is_boolean, "send true, false or null"),
    "text": (_is_text, "send a string or null"),
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
