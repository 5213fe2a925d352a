"""The statistics of a file's columns as plain values, and their canonical bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from shared.errors import Unprocessable

Kind = Literal["integer", "number", "boolean", "text", "time"]
Format = Literal["csv", "parquet"]
Plain = float | int | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """The value that keeps a column from being what nearly all its values are."""

    kind: Kind
    row: int
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """One column.

    Attributes:
        count: values that are there; NaN counts as missing.
        infinite: values that are plus or minus infinity.
        distinct: how many different values; an estimate when `distinct_is_estimate` (HyperLogLog).
        minimum, maximum: of text and time by the order of characters; text is cut at 64.
        quantiles: by probability, "0.05" to "0.95"; from a sample when the profile has one.
        top: most frequent values of text and their share, from the same sample.
        first_missing_row, first_infinite_row: rows are counted from 1.
        oddity: where a text column would be another kind but for a few values.
    """

    name: str
    kind: Kind
    count: int
    missing: int
    infinite: int = 0
    distinct: int = 0
    distinct_is_estimate: bool = False
    minimum: Plain = None
    maximum: Plain = None
    mean: float | None = None
    deviation: float | None = None
    quantiles: Mapping[str, float] | None = None
    top: tuple[tuple[str, float], ...] = ()
    first_missing_row: int | None = None
    first_infinite_row: int | None = None
    oddity: Oddity | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no row has a value; the kind then says nothing."""
        return self.count == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A whole file. `sampled_rows` is None when quantiles and top values are exact."""

    version: Literal["tidewheel/profile/v1"] = "tidewheel/profile/v1"
    format: Format
    rows: int
    columns: tuple[ColumnProfile, ...]
    sampled_rows: int | None = None

    @property
    def kinds(self) -> dict[str, str]:
        """Column name to kind, in the order of the file."""
        return {column.name: column.kind for column in self.columns}

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same file has the same bytes."""
        return orjson.dumps(self)


_ADAPTER: Final[list[TypeAdapter[Profile]]] = []


def read_profile(data: bytes | Mapping[str, Any]) -> Profile:
    """A profile from its bytes, or from plain data, validated.

    Raises:
        Unprocessable: this is no profile.
    """
    if not _ADAPTER:
        _ADAPTER.append(TypeAdapter(Profile))
    try:
        if isinstance(data, bytes):
            return _ADAPTER[0].validate_json(data)
        return _ADAPTER[0].validate_python(data)
    except ValidationError as error:
        raise Unprocessable(f"this is no profile: {error.error_count()} faults") from error
