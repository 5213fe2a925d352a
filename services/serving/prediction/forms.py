"""The forms in which a caller lays out rows, and where in the request each value then stands.

Whatever the form, the rows become objects; a fault is told by a pointer into what was sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

from services.serving.prediction.reading import Row, as_pointer, check_count, rows_of, wrong

MOST_COLUMNS: Final = 2_000
Names = tuple[str, ...]


class Form(Protocol):
    """Where things stand in a request."""

    @property
    def names(self) -> Names | None:
        """The names that all rows have alike; None where each row brings its own."""

    def row(self, index: int) -> str:
        """Pointer to a row."""

    def value(self, index: int, name: str) -> str:
        """Pointer to a value of a row."""

    def column(self, name: str) -> str:
        """Pointer to what all rows have under this name."""

    def missing(self, name: str) -> str:
        """Pointer to where this name would have to stand."""


@dataclass(frozen=True, slots=True)
class Objects:
    """Each row an object with its names."""

    top: str = "/rows"

    @property
    def names(self) -> Names | None:
        """None: each row has its own."""
        return None

    def row(self, index: int) -> str:
        """Pointer to a row."""
        return f"{self.top}/{index}"

    def value(self, index: int, name: str) -> str:
        """Pointer to a value of a row."""
        return f"{self.top}/{index}/{as_pointer(name)}"

    def column(self, name: str) -> str:
        """Pointer to the name in the first row."""
        return self.value(0, name)

    def missing(self, name: str) -> str:
        """Pointer to the name in the first row."""
        return self.value(0, name)


@dataclass(frozen=True, slots=True)
class Single(Objects):
    """One row alone, which no list is around."""

    top: str = "/row"

    def row(self, index: int) -> str:  # noqa: ARG002 - there is one
        """Pointer to the row."""
        return self.top

    def value(self, index: int, name: str) -> str:  # noqa: ARG002 - there is one
        """Pointer to a value of the row."""
        return f"{self.top}/{as_pointer(name)}"


OBJECTS: Final = Objects()
SINGLE: Final = Single()


@dataclass(frozen=True)
class Arrays:
    """Each row a list, in the order of names that are told once.

    Attributes:
        header: pointer to the names, or to the rows where the model's own order counts.
    """

    names: Names | None
    top: str = "/rows"
    header: str = "/names"

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        return {name: position for position, name in enumerate(self.names or ())}

    def row(self, index: int) -> str:
        """Pointer to a row."""
        return f"{self.top}/{index}"

    def value(self, index: int, name: str) -> str:
        """Pointer to a value of a row."""
        return f"{self.top}/{index}/{self._positions.get(name, 0)}"

    def column(self, name: str) -> str:
        """Pointer to the name."""
        return f"{self.header}/{self._positions.get(name, 0)}"

    def missing(self, name: str) -> str:  # noqa: ARG002 - it has no place yet
        """Pointer to the names."""
        return self.header


@dataclass(frozen=True, slots=True)
class Place:
    """Where the values of one column stand: its first one, and how far the next one is."""

    pointer: str
    stride: int = 1
    first: int = 0


@dataclass(frozen=True)
class Columns:
    """The values of each column together."""

    places: Mapping[str, Place]
    top: str = "/columns"

    @property
    def names(self) -> Names | None:
        """The names of the columns."""
        return tuple(self.places)

    def row(self, index: int) -> str:  # noqa: ARG002 - it stands nowhere as a whole
        """Pointer to all columns."""
        return self.top

    def value(self, index: int, name: str) -> str:
        """Pointer to a value of a row."""
        place = self.places[name]
        return f"{place.pointer}/{index * place.stride + place.first}"

    def column(self, name: str) -> str:
        """Pointer to the values of a column."""
        return self.places[name].pointer

    def missing(self, name: str) -> str:  # noqa: ARG002 - it has no place yet
        """Pointer to all columns."""
        return self.top


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as objects, and the form in which they came; their values are not looked at yet."""

    rows: Sequence[Row]
    form: Form = OBJECTS


def batch_of(document: Any, limit: int) -> Batch:
    """The rows of a request of our own: as objects, as columns, or as arrays.

    `{"rows": [{…}]}`, `{"row": {…}}`, `{"columns": {"a": […]}}`, or
    `{"names": ["a"], "rows": [[…]]}`.

    Raises:
        InvalidInput: it has another form.
        TooLarge: there are more rows than allowed.
    """
    if isinstance(document, dict) and "columns" in document:
        _check_alone(document, ("columns",), 'send {"columns": {"a": […]}}')
        return columns_batch(document["columns"], limit, "/columns")
    if isinstance(document, dict) and "names" in document:
        _check_alone(document, ("names", "rows"), 'send {"names": ["a"], "rows": [[…]]}')
        names = names_of(document["names"], "/names")
        return arrays_batch(document.get("rows"), Arrays(names), limit)
    rows = rows_of(document, limit)
    return Batch(rows, SINGLE if "row" in document else OBJECTS)


def _check_alone(document: Mapping[str, Any], known: Sequence[str], hint: str) -> None:
    for name in document:
        if name not in known:
            wrong(f"/{as_pointer(name)}", "this field does not belong to this form", hint)


def names_of(given: Any, pointer: str) -> Names:
    """The names of columns, each once.

    Raises:
        InvalidInput: they are none.
    """
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_COLUMNS:
        wrong(pointer, f"a list of 1 to {MOST_COLUMNS} names is due")
    met: set[str] = set()
    for position, name in enumerate(given):
        if not isinstance(name, str) or name in met:
            wrong(f"{pointer}/{position}", "a name is a text, and each comes once")
        met.add(name)
    return tuple(given)


def arrays_batch(given: Any, form: Arrays, limit: int) -> Batch:
    """Rows as lists of values in the order of the names.

    Raises:
        InvalidInput: it is no list, or a row has another length.
        TooLarge: there are more rows than allowed.
    """
    names = form.names or ()
    if not isinstance(given, list) or not given:
        wrong(form.top, "this is no list with at least one row")
    check_count(len(given), limit)
    for index, row in enumerate(given):
        if not isinstance(row, list):
            wrong(form.row(index), "a row is a list of values here")
        if len(row) != len(names):
            wrong(form.row(index), f"{len(row)} values, {len(names)} are due")
    return Batch([dict(zip(names, row, strict=True)) for row in given], form)


def columns_batch(given: Any, limit: int, top: str) -> Batch:
    """Columns as an object of names and equally long lists.

    Raises:
        InvalidInput: it has another form.
        TooLarge: there are more rows than allowed.
    """
    if not isinstance(given, dict) or not 1 <= len(given) <= MOST_COLUMNS:
        wrong(top, f"an object of 1 to {MOST_COLUMNS} columns is due, each a list of values")
    places = {name: Place(f"{top}/{as_pointer(name)}") for name in given}
    rows = -1
    for name, values in given.items():
        if not isinstance(values, list) or not values:
            wrong(places[name].pointer, "this is no list with at least one value")
        check_count(len(values), limit)
        if rows not in (-1, len(values)):
            wrong(places[name].pointer, f"{len(values)} values, the first column has {rows}")
        rows = len(values)
    return Batch(rows_of_columns(given), Columns(places, top))


def rows_of_columns(columns: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Equally long columns as rows."""
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
