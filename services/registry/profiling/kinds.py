"""What the values of a column are: decided over all rows, never from a sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from services.registry.profiling.profile import Kind, Oddity
from shared.events import Reason

_MOMENT: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
)
_BOOLEANS: Final = ["true", "false", "True", "False", "TRUE", "FALSE"]
_FIRST_ROWS: Final = 1_000
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
    first = _counted(texts.head(_FIRST_ROWS), names, dict.fromkeys(names, _ORDER), "in-memory")
    # What the first rows are not, the column is not; only the rest is worth checking everywhere.
    open_kinds = {name: _possible(first[name]) for name in names}
    engine: Any = "in-memory" if is_small else "streaming"
    whole = _counted(texts, names, open_kinds, engine)
    found = whole[names[0]]["rows"]
    if found != rows:
        detail = f"{rows} rows by its lines, {found} by its quotation marks"
        return Reason(pointer="", detail=detail, hint="quote a field that holds a quotation mark")
    return [_typed(texts, name, whole[name], first[name]) for name in names]


def _counted(
    texts: pl.LazyFrame,
    names: Sequence[str],
    kinds: Mapping[str, Sequence[Kind]],
    engine: Any,
) -> dict[str, dict[str, int]]:
    """Per column: rows, values, and how many of them could be read as each of the kinds."""
    present = [_present(name).alias(str(place)) for place, name in enumerate(names)]
    wanted: list[pl.Expr] = [pl.len().alias("rows")]
    for place, name in enumerate(names):
        text = pl.col(str(place))
        wanted.append(text.count().alias(f"{place}:count"))
        wanted += [_check(text, kind).alias(f"{place}:{kind}") for kind in kinds[name]]
    counts = texts.select(present).select(wanted).collect(engine=engine).row(0, named=True)
    return {
        name: {"rows": counts["rows"], "count": counts[f"{place}:count"]}
        | {kind: int(counts[f"{place}:{kind}"]) for kind in kinds[name]}
        for place, name in enumerate(names)
    }


def _possible(counts: Mapping[str, int]) -> list[Kind]:
    return [kind for kind in _ORDER if counts[kind] == counts["count"]]


def _check(text: pl.Expr, kind: Kind) -> pl.Expr:
    """How many values could be read as this kind."""
    match kind:
        case "integer":
            return text.cast(pl.Int64, strict=False).count()
        case "number":
            return text.cast(pl.Float64, strict=False).count()
        case "boolean":
            return text.is_in(_BOOLEANS).sum()
        case "time":
            is_date = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).is_not_null()
            return (text.str.contains(_MOMENT) & is_date).sum()
        case "text":
            return text.count()


_ORDER: Final[tuple[Kind, ...]] = ("integer", "number", "boolean", "time")


def _typed(
    texts: pl.LazyFrame, name: str, counts: Mapping[str, int], first: Mapping[str, int]
) -> Typed:
    total = counts["count"]
    kind: Kind = next((k for k in _ORDER if total and counts.get(k) == total), "text")
    values = _present(name)
    if kind in ("integer", "number"):
        numbers = _finite_or_null(values.cast(pl.Float64, strict=False))
        return Typed(name=name, kind=kind, values=numbers, numbers=numbers)
    if kind == "boolean":
        return Typed(name=name, kind=kind, values=values.str.to_lowercase() == "true")
    oddity = _oddity(texts, name, first) if kind == "text" and total else None
    return Typed(name=name, kind=kind, values=values, oddity=oddity)


def _finite_or_null(numbers: pl.Expr) -> pl.Expr:
    return numbers.fill_nan(None)


def _oddity(texts: pl.LazyFrame, name: str, first: Mapping[str, int]) -> Oddity | None:
    """The first value that is not what nearly all of the first rows are."""
    kind = max(_ORDER, key=lambda k: (first[k], k == "integer"))
    if not first["count"] or first[kind] < _NEARLY * first["count"]:
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
