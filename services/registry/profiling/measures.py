"""The statistics of typed columns: exact where streaming gives them, from a sample where not."""

from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

import polars as pl

from services.registry.profiling.kinds import Typed
from services.registry.profiling.profile import ColumnProfile, Format, Plain, Profile

_PROBABILITIES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_EXACT_ROWS: Final = 100_000
"""Up to so many rows distinct values and quantiles are counted, not estimated."""
_SAMPLE_CELLS: Final = 4_000_000
_TOP: Final = 10
_TEXT_LENGTH: Final = 64


def measured(
    frame: pl.LazyFrame, columns: Sequence[Typed], *, rows: int, name: Format, is_small: bool
) -> Profile:
    """The profile of a file.

    Args:
        frame: the file as it is read; `columns` turn it into values.
        is_small: whether it may be worked on in memory at once.
    """
    is_exact = rows <= _EXACT_ROWS and is_small
    typed = frame.select([_value(column).alias(str(i)) for i, column in enumerate(columns)])
    found, sample = _collected(typed, columns, rows, is_small=is_small, is_exact=is_exact)
    return Profile(
        format=name,
        rows=rows,
        columns=tuple(
            _column(column, rows, _only(found, place), sample, str(place), is_exact=is_exact)
            for place, column in enumerate(columns)
        ),
        sampled_rows=None if is_exact else len(sample),
    )


_ROW: Final = "\x00row"


def _value(column: Typed) -> pl.Expr:
    return column.values if column.numbers is None else column.numbers


def _collected(
    typed: pl.LazyFrame, columns: Sequence[Typed], rows: int, *, is_small: bool, is_exact: bool
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Measures by place and name, and the rows that quantiles are taken from."""
    if is_small:
        typed = typed.collect().lazy()
    indexed = typed.with_row_index(_ROW, offset=1)
    wanted = [
        measure.alias(f"{place}:{what}")
        for place, column in enumerate(columns)
        for what, measure in _measures(column, pl.col(str(place)), is_exact=is_exact).items()
    ]
    measures = indexed.select(wanted)
    sample = typed if is_exact else _sample(indexed, columns, rows)
    engine: Any = "in-memory" if is_small else "streaming"
    # Together, so that a large file is parsed once for both.
    found, picked = pl.collect_all([measures, sample], engine=engine)
    return found.row(0, named=True), picked


def _only(found: dict[str, Any], place: int) -> dict[str, Any]:
    prefix = f"{place}:"
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def _measures(column: Typed, values: pl.Expr, *, is_exact: bool) -> dict[str, pl.Expr]:
    row = pl.col(_ROW)
    distinct = values.drop_nulls().n_unique() if is_exact else values.approx_n_unique()
    measures = {
        "count": values.count(),
        "distinct": distinct,
        "missing_row": pl.when(values.is_null()).then(row).min(),
    }
    if column.numbers is not None:
        measures |= _numeric(values, row)
    elif column.kind == "boolean":
        measures |= {"mean": values.cast(pl.Float64).mean()}
    else:
        measures |= {"minimum": values.min(), "maximum": values.max()}
    return measures


def _numeric(numbers: pl.Expr, row: pl.Expr) -> dict[str, pl.Expr]:
    is_infinite = numbers.is_infinite()
    finite = pl.when(numbers.is_finite()).then(numbers)
    return {
        "infinite": is_infinite.sum(),
        "infinite_row": pl.when(is_infinite).then(row).min(),
        "minimum": finite.min(),
        "maximum": finite.max(),
        "mean": finite.mean(),
        "deviation": finite.std(),
    }


def _sample(indexed: pl.LazyFrame, columns: Sequence[Typed], rows: int) -> pl.LazyFrame:
    """Every so-many-th row by a hash of its place: no period of the data meets it."""
    most = max(1, min(_EXACT_ROWS, _SAMPLE_CELLS // len(columns)))
    step = max(1, rows // most)
    picked = pl.col(_ROW).hash(seed=7) % step == 0
    sampled = [str(i) for i, c in enumerate(columns) if c.numbers is not None or c.kind == "text"]
    return indexed.filter(picked).select(sampled)


def _column(
    column: Typed,
    rows: int,
    found: dict[str, Any],
    sample: pl.DataFrame,
    place: str,
    *,
    is_exact: bool,
) -> ColumnProfile:
    count = int(found["count"])
    distinct = int(found["distinct"])
    if not is_exact and count < rows and distinct:
        distinct -= 1  # the estimate counts null as a value
    is_number = column.numbers is not None
    values = sample.get_column(place) if place in sample.columns else None
    return ColumnProfile(
        name=column.name,
        kind=column.kind,
        count=count,
        missing=rows - count,
        infinite=int(found.get("infinite") or 0),
        distinct=min(distinct, count),
        distinct_is_estimate=not is_exact,
        minimum=_plain(found.get("minimum"), column),
        maximum=_plain(found.get("maximum"), column),
        mean=_number(found.get("mean")),
        deviation=_number(found.get("deviation")),
        quantiles=_quantiles(values) if is_number and values is not None else None,
        top=_top(values) if column.kind == "text" and values is not None else (),
        first_missing_row=found["missing_row"],
        first_infinite_row=found.get("infinite_row"),
        oddity=column.oddity,
    )


def _plain(value: Any, column: Typed) -> Plain:
    if value is None:
        return None
    if column.kind == "integer":
        return int(value)
    if column.kind == "number":
        return _number(value)
    return (value if isinstance(value, str) else value.isoformat())[:_TEXT_LENGTH]


def _number(value: Any) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if value is not None and isfinite(value) else None


def _quantiles(values: pl.Series) -> dict[str, float] | None:
    finite = values.filter(values.is_finite())
    if not len(finite):
        return None
    ordered = finite.sort()
    return {str(p): float(ordered[round(p * (len(ordered) - 1))]) for p in _PROBABILITIES}


def _top(values: pl.Series) -> tuple[tuple[str, float], ...]:
    present = values.drop_nulls()
    counts = present.value_counts(sort=True).head(_TOP).rows()
    ranked = sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    return tuple((str(text)[:_TEXT_LENGTH], count / len(present)) for text, count in ranked)
