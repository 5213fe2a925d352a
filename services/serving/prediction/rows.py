"""Rows against the columns of an endpoint: every fault with its place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, Final

import orjson

from services.serving.prediction.forms import OBJECTS, Form
from services.serving.prediction.reading import Row
from shared.errors import Fault, InvalidInput
from shared.manifest import Column, Manifest

MOST_FAULTS: Final = 50
TEXT_LIMIT: Final = 1_000
MOST_FIELDS: Final = 2_000
ROW_BYTES_LIMIT: Final = 100_000
"""A wider row would not fit into the event that logs it."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a row of an endpoint may and must hold.

    Attributes:
        columns: what the champion needs; every row must name all of them.
        others: what only other versions of this endpoint know; a row may name them.
        entity: the column that identifies the entity, if the model has one.
        closed: False when no version could be read and only the baseline rule answers; then every
            plain field is taken.
    """

    columns: tuple[Column, ...] = ()
    others: Mapping[str, Column] = field(default_factory=dict)
    entity: str | None = None
    closed: bool = True

    @classmethod
    def of(cls, champion: Manifest | None, others: Sequence[Manifest]) -> "Schema":
        """The schema of an endpoint with this champion, while others may answer too."""
        if champion is None:
            return cls(closed=False)
        known = {column.name for column in champion.columns}
        return cls(
            columns=champion.columns,
            others={c.name: c for m in others for c in m.columns if c.name not in known},
            entity=champion.entity,
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the required columns, in their order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """Every name that a row may hold and what kind of value belongs there."""
        found: dict[str, str] = {name: column.kind for name, column in self.others.items()}
        found |= {column.name: column.kind for column in self.columns}
        if self.entity is not None:
            found.setdefault(self.entity, "entity")
        return found


def check_rows(
    rows: Sequence[Any], schema: Schema, body_bytes: int = 0, form: Form = OBJECTS
) -> None:
    """Refuse rows that are not exactly rows of this endpoint.

    Args:
        form: how the caller laid them out; faults are told where they stand in the request.

    Raises:
        InvalidInput: with every fault, the first fifty of them.
    """
    faults: list[Fault] = [] if form.names is None else list(_header_faults(form, schema))
    total = len(faults)
    for index, row in enumerate(rows if not faults else ()):
        for name, detail, hint in _faults_of(row, schema):
            total += 1
            if total <= MOST_FAULTS:
                pointer = form.row(index) if name is None else form.value(index, name)
                faults.append(Fault(pointer, detail, hint))
    if body_bytes > ROW_BYTES_LIMIT and not faults:
        faults = list(_too_wide(rows, form))
        total = len(faults)
    if faults:
        places = "place" if total == 1 else "places"
        raise InvalidInput(f"The rows are wrong in {total} {places}.", faults[:MOST_FAULTS])


def _header_faults(form: Form, schema: Schema) -> Iterator[Fault]:
    """Of names that all rows have alike, and which therefore are wrong once."""
    names = frozenset(form.names or ())
    for name in schema.names:
        if name not in names:
            detail = f"{shown_name(name)} is required, a {schema.kinds[name]}"
            yield Fault(form.missing(name), detail, _WITHOUT_VALUE)
    for name in form.names or ():
        if schema.closed and name not in schema.kinds:
            yield Fault(form.column(name), _unknown(name), _HINTS["unknown"])


def shown_name(name: str) -> str:
    """A name in a sentence, not endless."""
    return name if len(name) <= 64 else f"{name[:61]}..."


_WITHOUT_VALUE: Final = "send null if the value is not known"
_Wrong = tuple[str | None, str, str]
"""The name of the field, or None for the row itself; what is wrong; what to do."""


def _faults_of(row: Any, schema: Schema) -> Iterator[_Wrong]:
    if not isinstance(row, dict):
        yield None, "a row is an object of column names and values", ""
        return
    if len(row) > MOST_FIELDS:
        yield None, f"a row has at most {MOST_FIELDS} fields", ""
        return
    for name in schema.names:
        if name not in row:
            yield name, f"required, a {schema.kinds[name]}", _WITHOUT_VALUE
    for name, value in row.items():
        kind = schema.kinds.get(name, "unknown" if schema.closed else "plain")
        detail = _CHECKS[kind](value)
        if detail is not None:
            yield name, detail, _HINTS.get(kind, "")


def _number(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        return None if isfinite(value) else "this number is not finite"
    if isinstance(value, int) and not isinstance(value, bool):
        return None if -(2**63) <= value < 2**63 else "this integer does not fit into 64 bits"
    return f"{_shown(value)} is no number"


def _boolean(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else f"{_shown(value)} is no boolean"


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return f"{_shown(value)} is no text"
    if len(value) > TEXT_LIMIT:
        return f"this text has {len(value)} characters, {TEXT_LIMIT} are allowed"
    if "\x00" in value or not _is_unicode(value):
        return "this text holds a character that is not allowed"
    return None


def _entity(value: Any) -> str | None:
    if isinstance(value, str) and value == "":
        return "an entity has a name"
    return _number(value) if isinstance(value, int) and value is not True else _text(value)


def _plain(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    return _number(value) if isinstance(value, int | float) else _text(value)


def _unknown(_: Any) -> str:
    return "this field is not known to the model"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_CHECKS: Final = {
    "number": _number,
    "boolean": _boolean,
    "text": _text,
    "entity": _entity,
    "plain": _plain,
    "unknown": _unknown,
}
_HINTS: Final = {
    "number": "send a finite number, or null if it is not known",
    "boolean": "send true, false or null",
    "text": f"send up to {TEXT_LIMIT} characters, or null",
    "unknown": "leave it out",
}


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _too_wide(rows: Sequence[Any], form: Form) -> Iterator[Fault]:
    for index, row in enumerate(rows):
        size = len(orjson.dumps(row))
        if size > ROW_BYTES_LIMIT:
            yield Fault(form.row(index), f"{size} bytes; a row has at most {ROW_BYTES_LIMIT}")


def entity_of(row: Row, schema: Schema) -> str | None:
    """Whom a row is about, if it says so."""
    value = None if schema.entity is None else row.get(schema.entity)
    return None if value is None else str(value)
