"""The rows that judge a version, and the hashes that prove no row was both fitted and judged."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from shared.errors import Unprocessable
from shared.manifest import Column
from shared.tabular import Matrix, rows_of, stacked

FORMAT: Final = "tidewheel/holdout/v1"
MOST_BYTES: Final = 2**31
"""Unpacked. A larger file is refused before any of it is unpacked."""

Label = float | str | bool
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """Held-out rows, in the order in which every model is scored.

    Attributes:
        columns: every column of the dataset a model may read, so that a champion with other
            features can be scored on the same rows.
        values: per column float64, shape (n,), NaN for missing; objects for text, None for missing.
        y: outcomes, shape (n,): float64 for regression, objects (labels) for classification.
        row_hashes: shape (n,), no two alike; equal rows get different ones by their order.
        train_hashes: the same for the rows that were fitted on, shape (m,).
        times: moment of each row in microseconds since 1970 (UTC), where the dataset has one.
    """

    task: Literal["regression", "classification"]
    target: str
    columns: tuple[Column, ...]
    values: Mapping[str, NDArray[Any]]
    y: NDArray[Any]
    row_hashes: Hashes
    train_hashes: Hashes
    times: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def matrix(self, columns: Sequence[Column]) -> Matrix:
        """The rows as a model with these columns sees them, shape (n, columns).

        Raises:
            Unprocessable: a column is not there, or is of another kind.
        """
        known = {column.name: column.kind for column in self.columns}
        for column in columns:
            if known.get(column.name) != column.kind:
                raise Unprocessable(
                    f"the held-out rows have no column {column.name!r} of kind {column.kind}"
                )
        return stacked(columns, self.values, len(self))

    def rows(self) -> list[dict[str, Any]]:
        """The rows as a request would carry them, for the baseline rules."""
        return rows_of(self.columns, self.matrix(self.columns))

    def taken(self, rows: NDArray[Any]) -> "Holdout":
        """Only these rows (places or a mask), in this order."""
        return replace(
            self,
            values={name: column[rows] for name, column in self.values.items()},
            y=self.y[rows],
            row_hashes=self.row_hashes[rows],
            times=None if self.times is None else self.times[rows],
        )

    def to_bytes(self) -> bytes:
        """One npz file without pickled objects; the same rows give the same bytes."""
        arrays: dict[str, NDArray[Any]] = {
            "row_hashes": self.row_hashes,
            "train_hashes": self.train_hashes,
        }
        levels: dict[str, list[Label]] = {}
        for index, column in enumerate(self.columns):
            _pack(f"column_{index}", self.values[column.name], arrays, levels)
        _pack("y", self.y, arrays, levels)
        if self.times is not None:
            arrays["times"] = self.times
        header = _Header(
            task=self.task, target=self.target, columns=self.columns, rows=len(self), levels=levels
        )
        arrays["header"] = np.frombuffer(orjson.dumps(header), dtype=np.uint8)
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What the arrays mean. `levels`: the distinct labels of arrays that hold codes."""

    format: Literal["tidewheel/holdout/v1"] = FORMAT
    task: Literal["regression", "classification"]
    target: str
    columns: tuple[Column, ...]
    rows: int
    levels: dict[str, list[Label]] = field(default_factory=dict)


def _pack(
    name: str,
    values: NDArray[Any],
    arrays: dict[str, NDArray[Any]],
    levels: dict[str, list[Label]],
) -> None:
    """Numbers as they are; labels as codes, -1 for missing."""
    if values.dtype != object:
        arrays[name] = values
        return
    known: dict[tuple[type, Label], int] = {}
    codes = [-1 if v is None else known.setdefault((type(v), v), len(known)) for v in values]
    arrays[name] = np.array(codes, dtype=np.int32)
    levels[name] = [label for _, label in known]


def read_holdout(data: bytes) -> Holdout:
    """Held-out rows from their bytes, checked.

    Raises:
        Unprocessable: the bytes are no such file, or their parts do not fit together.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(member.file_size for member in packed.infolist()) > MOST_BYTES:
                raise Unprocessable("the held-out rows are too large to be unpacked")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = _HEADER.validate_json(arrays["header"].tobytes())
        return _checked(_unpacked(header, arrays), header.rows)
    except (ValueError, KeyError, IndexError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise Unprocessable(f"these are no held-out rows: {_line(error)}") from error


def _unpacked(header: _Header, arrays: Mapping[str, NDArray[Any]]) -> Holdout:
    def labels(name: str) -> NDArray[Any]:
        if name not in header.levels:
            numbers: NDArray[Any] = arrays[name].astype(np.float64, casting="safe")
            return numbers
        levels = np.empty(len(header.levels[name]) + 1, dtype=object)
        levels[:-1] = header.levels[name]
        codes = arrays[name]
        if len(codes) and not -1 <= codes.min() <= codes.max() < len(levels) - 1:
            raise ValueError(f"{name} names labels that are not there")
        found: NDArray[Any] = levels[codes]  # code -1 is the last place, which is None
        return found

    return Holdout(
        task=header.task,
        target=header.target,
        columns=header.columns,
        values={c.name: labels(f"column_{i}") for i, c in enumerate(header.columns)},
        y=labels("y"),
        row_hashes=arrays["row_hashes"],
        train_hashes=arrays["train_hashes"],
        times=arrays.get("times"),
    )


def _checked(held: Holdout, rows: int) -> Holdout:
    parts = [*held.values.values(), held.y, held.row_hashes]
    if held.times is not None:
        parts.append(held.times)
    if any(part.shape != (rows,) for part in parts):
        raise ValueError("its parts have different lengths")
    if held.row_hashes.dtype != np.uint64 or held.train_hashes.dtype != np.uint64:
        raise ValueError("its hashes are no hashes")
    faults = problems(held)
    if faults:
        raise Unprocessable(f"these held-out rows may judge nothing: {'; '.join(faults)}")
    return held


def problems(held: Holdout) -> list[str]:
    """Why these rows may not judge: sentences, empty when they may."""
    found = []
    if len(np.unique(held.row_hashes)) != len(held.row_hashes):
        found.append("a row is there twice")
    both = overlap(held, held.train_hashes)
    if both:
        found.append(f"{both} rows were also fitted on")
    if held.task == "regression" and not np.isfinite(held.y.astype(np.float64)).all():
        found.append("an outcome is not finite")
    if held.task == "classification" and any(label is None for label in held.y):
        found.append("an outcome is missing")
    return found


def overlap(held: Holdout, train_hashes: Hashes) -> int:
    """How many held-out rows are among the rows that some version was fitted on."""
    return int(np.isin(held.row_hashes, train_hashes).sum())


def content_hashes(columns: Mapping[str, NDArray[Any]]) -> Hashes:
    """One hash per row, the same for the same content whatever the order of rows or columns.

    Only integer arithmetic of fixed width, so that it is the same on every machine and version.
    Source of the mixing step: Steele, Lea, Flood (2014), Fast splittable pseudorandom number
    generators, doi:10.1145/2660193.2660195 (SplitMix64).
    """
    rows = len(next(iter(columns.values())))
    total = np.zeros(rows, dtype=np.uint64)
    for name in sorted(columns):
        total = _mixed(total ^ _mixed(_column_bits(columns[name]) + _word(f"column:{name}")))
    return total


def row_hashes(content: Hashes) -> Hashes:
    """Hashes that tell equal rows apart: the n-th repeat of a content gets its own."""
    order = np.argsort(content, kind="stable")
    ranked = content[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else order
    repeat = np.arange(len(ranked)) - np.repeat(starts, np.diff(np.r_[starts, len(ranked)]))
    told_apart = np.empty_like(content)
    told_apart[order] = np.where(repeat > 0, _mixed(ranked + repeat.astype(np.uint64)), ranked)
    return told_apart


def is_held_out(content: Hashes, share: float) -> NDArray[np.bool_]:
    """Which rows a random split holds out: by their content, so the same in every version."""
    limit = np.uint64(int(share * 2**53))
    drawn: NDArray[np.bool_] = (_mixed(content + _word("holdout")) >> np.uint64(11)) < limit
    return drawn


def _column_bits(values: NDArray[Any]) -> Hashes:
    if values.dtype != object:
        numbers = values.astype(np.float64) + 0.0  # -0.0 becomes 0.0
        numbers[np.isnan(numbers)] = np.nan
        return numbers.view(np.uint64)
    words: dict[Any, np.uint64] = {}
    for value in values:
        if value not in words:
            words[value] = _word("missing" if value is None else f"text:{value}")
    return np.array([words[value] for value in values], dtype=np.uint64)


def _word(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def _mixed(value: Hashes) -> Hashes:
    with np.errstate(over="ignore"):
        z = value + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


_HEADER: Final = TypeAdapter(_Header)


def _line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return f"{error.error_count()} faults in the header"
    return str(error).partition("\n")[0] or type(error).__name__
