"""What the values of a column are: decided over all rows, never from a sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from services.registry.profiling.profile import Kind, Oddity
from shared.events import Reason

_MOMENT: Final = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?$"
_BOOLEANS: Final = ["true", "false", "True", "False", "TRUE", "FALSE"]
_NEARLY: Final = 0.8
"""A text column of which so large a share is something else has odd values worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A column with its kind, and the expression that gives its values.

    Attributes:
        numbers: float64 values with null for missing, for integers and numbers; None otherwise.
        values: the values as they are counted, null for missing.
    """

    name: str
    kind: Kind
    values: pl.Expr
    numbers: pl.Expr | None = None
    oddity: Oddity | None = None


def _present(name: str) -> pl.Expr:
    """Text without what stands for nothing: an empty quoted field is a missing value too."""
    column = pl.col(name)
    return pl.when(column != "").then(column)


def kinds_of_text(
    texts: pl.LazyFrame, names: Sequence[str], rows: int, *, is_small: bool
) -> list[Typed] | Reason:
    """The kind of every column of a file that was read as text.

    A reason instead when the parser found another number of rows than the lines say.
    """
    checks = [
        check.alias(f"{place}:{what}")
        for place, name in enumerate(names)
        for what, check in _checks(_present(name)).items()
    ]
    engine: Any = "in-memory" if is_small else "streaming"
    counts = texts.select(pl.len().alias("rows"), *checks).collect(engine=engine).row(0, named=True)
    if counts["rows"] != rows:
        detail = f"{rows} rows by its lines, {counts['rows']} by its quotation marks"
        return Reason(pointer="", detail=detail, hint="quote a field that holds a quotation mark")
    return [
        _typed(texts, name, {what: counts[f"{place}:{what}"] for what in _checks(pl.lit(""))})
        for place, name in enumerate(names)
    ]


def _checks(text: pl.Expr) -> dict[str, pl.Expr]:
    """How many values could be read as what."""
    is_moment = text.str.contains(_MOMENT)
    is_date = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).is_not_null()
    return {
        "count": text.count(),
        "integer": text.cast(pl.Int64, strict=False).count(),
        "number": text.cast(pl.Float64, strict=False).count(),
        "boolean": text.is_in(_BOOLEANS).sum(),
        "time": (is_moment & is_date).sum(),
    }


_ORDER: Final[tuple[Kind, ...]] = ("integer", "number", "boolean", "time")


def _typed(texts: pl.LazyFrame, name: str, counts: dict[str, int]) -> Typed:
    total = counts["count"]
    kind: Kind = next((k for k in _ORDER if total and counts[k] == total), "text")
    values = _present(name)
    if kind in ("integer", "number"):
        numbers = _finite_or_null(values.cast(pl.Float64, strict=False))
        return Typed(name=name, kind=kind, values=numbers, numbers=numbers)
    if kind == "boolean":
        return Typed(name=name, kind=kind, values=values.str.to_lowercase() == "true")
    oddity = _oddity(texts, name, counts) if kind == "text" and total else None
    return Typed(name=name, kind=kind, values=values, oddity=oddity)


def _finite_or_null(numbers: pl.Expr) -> pl.Expr:
    return numbers.fill_nan(None)


def _oddity(texts: pl.LazyFrame, name: str, counts: dict[str, int]) -> Oddity | None:
    """The first value that is not what nearly all are."""
    kind = max(_ORDER, key=lambda k: (counts[k], k == "integer"))
    if counts[kind] < _NEARLY * counts["count"]:
        return None
    fits = {
        "integer": _present(name).cast(pl.Int64, strict=False).is_not_null(),
        "number": _present(name).cast(pl.Float64, strict=False).is_not_null(),
        "boolean": _present(name).is_in(_BOOLEANS),
        "time": _present(name).str.contains(_MOMENT),
    }[kind]
    odd = texts.select(pl.col(name)).with_row_index("row", offset=1)
    found = odd.filter(_present(name).is_not_null() & ~fits).head(1).collect(engine="streaming")
    if not len(found):
        return None
    row, value = found.row(0)
    return Oddity(kind=kind, row=int(row), value=str(value)[:64])


def typed_columns(schema: pl.Schema) -> list[Typed | Reason]:
    """The columns of a Parquet file, or why one of them cannot be used."""
    return [_of_type(name, kind) for name, kind in schema.items()]


def _of_type(name: str, kind: pl.DataType) -> Typed | Reason:
    column = pl.col(name)
    if kind.is_integer():
        numbers = column.cast(pl.Float64)
        return Typed(name=name, kind="integer", values=column, numbers=numbers)
    if kind.is_float() or kind.is_decimal():
        numbers = _finite_or_null(column.cast(pl.Float64))
        return Typed(name=name, kind="number", values=numbers, numbers=numbers)
    if kind == pl.Boolean:
        return Typed(name=name, kind="boolean", values=column)
    if kind in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return Typed(name=name, kind="text", values=column.cast(pl.String))
    if kind in (pl.Date, pl.Datetime):
        return Typed(name=name, kind="time", values=column)
    detail = f"column {name!r} is of the Parquet type {str(kind)[:80]}"
    hint = "use integers, floats, booleans, text, dates or timestamps"
    return Reason(pointer=f"/columns/{name}", detail=detail, hint=hint)
