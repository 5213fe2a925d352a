"""A dataset's bytes as columns of numbers and text; nothing is dropped without a word."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared.errors import Unprocessable
from shared.manifest import Column

Values = NDArray[Any]
MICROSECONDS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400 * MICROSECONDS


class CannotTrain(Unprocessable):
    """This dataset and this specification do not go together; the same run would fail again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Every column of a dataset version.

    Attributes:
        kinds: as the registry found them: integer, number, boolean, text or time.
        values: float64 with NaN for missing; objects with None for text; microseconds since 1970
            (UTC) as float64 for time.
    """

    kinds: Mapping[str, str]
    values: Mapping[str, Values]
    rows: int

    def columns(self) -> tuple[Column, ...]:
        """The columns a model may read: all but moments."""
        return tuple(
            Column(name=name, kind=_COLUMN_KINDS[kind])
            for name, kind in self.kinds.items()
            if kind in _COLUMN_KINDS
        )


_COLUMN_KINDS: Mapping[str, Literal["number", "boolean", "text"]] = {
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "text": "text",
}


def read_table(
    source: bytes | str, file_format: Literal["csv", "parquet"], kinds: Mapping[str, str]
) -> Table:
    """The table in these bytes, or in the file at this path.

    Raises:
        CannotTrain: the file is not what the registry published.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        if file_format == "csv":
            frame = pl.read_csv(file, infer_schema=False, columns=list(kinds))
        else:
            frame = pl.read_parquet(file, columns=list(kinds))
        read = _text_values if file_format == "csv" else _typed_values
        values = {name: read(frame[name], kind) for name, kind in kinds.items()}
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise CannotTrain(f"the dataset cannot be read: {str(error)[:300]}") from error
    return Table(kinds=dict(kinds), values=values, rows=frame.height)


def _text_values(column: pl.Series, kind: str) -> Values:
    """Of a CSV. An empty field is missing, quoted or not."""
    texts = column.set(column == "", None)
    match kind:
        case "integer" | "number":
            return _floats(texts.cast(pl.Float64, strict=True))
        case "boolean":
            truth = texts.str.to_lowercase() == "true"
            return _floats(truth.cast(pl.Float64))
        case "time":
            return _moments(texts)
        case _:
            return _objects(texts)


def _typed_values(column: pl.Series, kind: str) -> Values:
    """Of Parquet."""
    match kind:
        case "integer" | "number" | "boolean":
            return _floats(column.cast(pl.Float64))
        case "time":
            return _instants(column)
        case _:
            return _objects(column.cast(pl.String))


def _floats(column: pl.Series) -> Values:
    return column.to_numpy(writable=True).astype(np.float64, copy=False)


def _objects(column: pl.Series) -> Values:
    found = np.empty(len(column), dtype=object)
    found[:] = column.to_list()
    return found


def _instants(column: pl.Series) -> Values:
    if column.dtype == pl.Date:
        return _floats(column.cast(pl.Int32).cast(pl.Float64) * _DAY)
    return _floats(column.dt.epoch("us").cast(pl.Float64))


def _moments(texts: pl.Series) -> Values:
    """ISO 8601, each with its own offset; without one it is UTC."""
    known: dict[str | None, float] = {None: np.nan}
    found = np.empty(len(texts), dtype=np.float64)
    for index, text in enumerate(texts.to_list()):
        if text not in known:
            known[text] = _microseconds(text)
        found[index] = known[text]
    return found


def _microseconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return float((since.days * 86_400 + since.seconds) * MICROSECONDS + since.microseconds)
