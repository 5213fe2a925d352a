"""What a window of rows looks like, as counts per cell: small, exact, and they add and subtract.

One value moves one count, so no wild value can hide a drift or fake one. What the cells are is in
`shared.cell_kinds`, how numbers move together in `shared.joint`.

Stored sketches are canonical: the same sketch has the same bytes. Counts that were stored before
there were sketches are read as sketches that know nothing of how numbers move together.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.cell_kinds import (
    PLAIN,
    WORDS,
    CategoryCells,
    Cells,
    Counts,
    Level,
    NumberCells,
    Values,
    category_cells,
    number_cells,
    numbers_of,
)
from shared.errors import Unprocessable
from shared.joint import WAVES, Basis, Joint

__all__ = [
    "PLAIN",
    "WORDS",
    "CategoryCells",
    "Cells",
    "Counts",
    "Layout",
    "Level",
    "NumberCells",
    "Sketch",
    "Values",
    "category_cells",
    "number_cells",
    "numbers_of",
    "pack",
    "unpack",
]

_FORM: Final = b"S2"
_SIZES: Final = struct.Struct("<QIII")
"""Rows, cells, features, and how many numbers move together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sketch:
    """Everything that is kept of the rows of a window; sketches add and subtract exactly.

    Attributes:
        counts: rows per cell, all features one after the other.
        invalid: values of a wrong type per feature; they are counted as missing, too.
        joint: how numbers move together; None where nobody kept it, and then in every sum.
    """

    rows: int
    counts: Counts
    invalid: Counts
    joint: Joint | None

    def __add__(self, other: "Sketch") -> "Sketch":
        return Sketch(
            rows=self.rows + other.rows,
            counts=self.counts + other.counts,
            invalid=self.invalid + other.invalid,
            joint=self.joint + other.joint if self.joint and other.joint else None,
        )

    def __sub__(self, other: "Sketch") -> "Sketch":
        return Sketch(
            rows=self.rows - other.rows,
            counts=self.counts - other.counts,
            invalid=self.invalid - other.invalid,
            joint=self.joint - other.joint if self.joint and other.joint else None,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self._canonical() == other._canonical()

    def __hash__(self) -> int:
        return hash(self._canonical())

    def to_bytes(self) -> bytes:
        """The sketch as few bytes; the same sketch has the same."""
        return self.parts().to_bytes()

    def _canonical(self) -> bytes:
        return self.parts().canonical()

    def parts(self) -> "Parts":
        """The sketch as it is stored."""
        joint = self.joint
        if joint is None or not len(joint.moments):
            return Parts(self.rows, self.counts, self.invalid, 0, None, None, None)
        numbers = len(joint.moments)
        upper = _upper(numbers)
        return Parts(
            self.rows,
            self.counts,
            self.invalid,
            numbers,
            joint.moments[upper],
            joint.pairs[upper],
            joint.waves,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A sketch as it is stored: of what is symmetric the upper triangles alone, row by row.

    Attributes:
        numbers: how many move together; without any, the last three are None.
    """

    rows: int
    counts: NDArray[Any]
    invalid: NDArray[Any]
    numbers: int
    moments: NDArray[Any] | None
    pairs: NDArray[Any] | None
    waves: NDArray[Any] | None

    def to_bytes(self, level: int = 1) -> bytes:
        """As bytes; at level 0 they cost little to make and are not squeezed."""
        return _FORM + zlib.compress(self.canonical(), level)

    def canonical(self) -> bytes:
        """The same bytes for the same sketch."""
        found = [
            _SIZES.pack(self.rows, len(self.counts), len(self.invalid), self.numbers),
            self.counts.astype("<u4").tobytes(),
            self.invalid.astype("<u4").tobytes(),
        ]
        if self.moments is not None and self.pairs is not None and self.waves is not None:
            found += [
                self.moments.astype("<i8").tobytes(),
                self.pairs.astype("<u4").tobytes(),
                self.waves.astype("<i8").tobytes(),
            ]
        return b"".join(found)

    @classmethod
    def read(cls, data: bytes) -> "Parts":
        """What was stored, or the counts alone that were stored before there were sketches.

        Raises:
            zlib.error, struct.error, ValueError: the bytes are no sketch.
        """
        if not data.startswith(_FORM):
            return cls(-1, unpack(data), np.zeros(0, dtype=np.int64), 0, None, None, None)
        plain = zlib.decompress(data[len(_FORM) :])
        rows, cells, features, numbers = _SIZES.unpack_from(plain)
        pairs = numbers * (numbers + 1) // 2
        wanted = [("<u4", cells), ("<u4", features)]
        if numbers:
            wanted += [("<i8", pairs), ("<u4", pairs), ("<i8", WAVES)]
        parts: list[NDArray[Any]] = []
        start = _SIZES.size
        for kind, size in wanted:
            part = np.frombuffer(plain, dtype=kind, count=size, offset=start)
            parts.append(part)
            start += part.nbytes
        if not numbers:
            return cls(rows, parts[0], parts[1], 0, None, None, None)
        return cls(rows, parts[0], parts[1], numbers, parts[2], parts[3], parts[4])


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Layout:
    """The cells of all features, one after the other in one row of counts.

    Attributes:
        basis: what is kept of how numbers move together; None where nothing is.
    """

    features: tuple[Cells, ...]
    basis: Basis | None = None
    _offsets: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = [0, *(feature.size for feature in self.features)]
        object.__setattr__(self, "_offsets", tuple(int(n) for n in np.cumsum(sizes)))

    @property
    def size(self) -> int:
        """How many cells all features have together."""
        return self._offsets[-1]

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where the cells of each feature begin, and where the last ones end."""
        return self._offsets

    def empty(self) -> Counts:
        """The counts of no rows."""
        return np.zeros(self.size, dtype=np.int64)

    def blank(self) -> Sketch:
        """The sketch of no rows."""
        return self._sketch(0, self.empty(), None, self.basis.empty() if self.basis else None)

    def sketch(self, columns: Sequence[Values]) -> Sketch:
        """The sketch of a batch, one sequence of values per feature.

        Raises:
            Unprocessable: there are not as many columns as features.
        """
        places = self.places(columns)
        pairs = zip(self.features, columns, strict=True)
        wrong = np.array([feature.wrong(values) for feature, values in pairs], dtype=np.int64)
        joint = None
        if self.basis:
            among = [places[feature] for feature in self.basis.features]
            joint = self.basis.joint(np.stack(among, axis=1)) if among else self.basis.empty()
        rows = len(places[0]) if places else 0
        return self._sketch(rows, self._counted(places), wrong, joint)

    def of_counts(self, counts: Counts) -> Sketch:
        """Counts as a sketch that knows nothing of how numbers move together."""
        rows = int(counts[: self._offsets[1]].sum()) if self.features else 0
        return self._sketch(rows, counts, None, None)

    def read(self, data: bytes) -> Sketch:
        """A stored sketch, or the counts alone that were stored before there were sketches.

        Raises:
            Unprocessable: the bytes are no sketch, or one of another layout.
        """
        try:
            if not data.startswith(_FORM):
                return self._fitting(self.of_counts(unpack(data)))
            return self._fitting(read_sketch(Parts.read(data)))
        except (zlib.error, struct.error, ValueError) as error:
            raise Unprocessable(f"these bytes are no sketch: {error}") from error

    def places(self, columns: Sequence[Values]) -> list[Counts]:
        """The cell of every value, feature by feature."""
        if len(columns) != len(self.features):
            raise Unprocessable(
                f"{len(columns)} columns were sent for {len(self.features)} watched features"
            )
        pairs = zip(self.features, columns, strict=True)
        return [feature.places(values) for feature, values in pairs]

    def count(self, columns: Sequence[Values]) -> Counts:
        """The counts of a batch, one sequence of values per feature.

        Raises:
            Unprocessable: there are not as many columns as features.
        """
        return self._counted(self.places(columns))

    def split(self, counts: Counts) -> list[Counts]:
        """The counts of each feature by itself."""
        return [
            counts[start:end]
            for start, end in zip(self._offsets[:-1], self._offsets[1:], strict=True)
        ]

    def _counted(self, places: Sequence[Counts]) -> Counts:
        if not places:
            return self.empty()
        pairs = zip(places, self._offsets[:-1], strict=True)
        moved = np.concatenate([place + offset for place, offset in pairs])
        return np.bincount(moved, minlength=self.size).astype(np.int64)

    def _sketch(
        self, rows: int, counts: Counts, invalid: Counts | None, joint: Joint | None
    ) -> Sketch:
        none = np.zeros(len(self.features), dtype=np.int64)
        return Sketch(
            rows=rows, counts=counts, invalid=none if invalid is None else invalid, joint=joint
        )

    def _fitting(self, sketch: Sketch) -> Sketch:
        if len(sketch.counts) != self.size or len(sketch.invalid) != len(self.features):
            raise Unprocessable(
                f"a sketch of {len(sketch.counts)} cells does not fit a layout of {self.size}"
            )
        return sketch


def pack(counts: Counts) -> bytes:
    """Counts as few bytes."""
    return zlib.compress(counts.astype("<u4").tobytes(), 1)


def unpack(data: bytes) -> Counts:
    """The counts that were packed."""
    return np.frombuffer(zlib.decompress(data), dtype="<u4").astype(np.int64)


def read_sketch(parts: Parts) -> Sketch:
    """A sketch from what was stored of it."""
    joint = None
    if parts.moments is not None and parts.pairs is not None and parts.waves is not None:
        joint = Joint(
            _square(parts.moments.astype(np.int64), parts.numbers),
            _square(parts.pairs.astype(np.int64), parts.numbers),
            parts.waves.astype(np.int64),
        )
    return Sketch(
        rows=parts.rows,
        counts=parts.counts.astype(np.int64),
        invalid=parts.invalid.astype(np.int64),
        joint=joint,
    )


def _square(upper: Counts, size: int) -> Counts:
    return upper.take(_places(size))


@lru_cache(maxsize=64)
def _upper(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(size)


@lru_cache(maxsize=64)
def _places(size: int) -> NDArray[np.intp]:
    """Where each entry of a symmetric square lies in its upper triangle, shape (size, size)."""
    found = np.zeros((size, size), dtype=np.intp)
    rows, columns = _upper(size)
    found[rows, columns] = found[columns, rows] = np.arange(len(rows))
    return found
