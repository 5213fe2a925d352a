"""What a window of rows looks like, as counts per cell: small, exact, and they add and subtract.

A number has 32 cells between quantiles of the reference, one below its least value, one above its
greatest and one for missing values; a value with a 32nd of the mass has a cell of its own. A
category has its levels, one cell for all others and one for missing. One value moves one count,
so no wild value can hide a drift or fake one.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import Unprocessable

Level = float | str | bool
Counts = NDArray[np.int64]
Values = Sequence[Any] | NDArray[Any]

CELLS: Final = 32
MOST_LEVELS: Final = 100
"""Rarer levels count as `other`."""

_PLAIN: Final = frozenset({float, int, bool, type(None)})


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCells:
    """Cells of a number: below, between the edges, above, missing.

    Attributes:
        edges: ascending; a cell is (edge, next edge], the first edge lies just below the least
            value of the reference, the last one is its greatest.
    """

    name: str
    edges: tuple[float, ...]

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self.edges) + 2

    def places(self, values: Values) -> Counts:
        """The cell of every value; infinities are below or above, anything but numbers missing."""
        numbers = values if isinstance(values, np.ndarray) else _numbers(values)
        if numbers.dtype != np.float64:
            numbers = _numbers(numbers.tolist())
        found = np.searchsorted(np.asarray(self.edges), numbers, side="left").astype(np.int64)
        found[np.isnan(numbers)] = len(self.edges) + 1
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryCells:
    """Cells of a category: its levels, all others, missing."""

    name: str
    levels: tuple[Level, ...]
    _place: dict[Any, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._place.update({level: place for place, level in enumerate(self.levels)})
        self._place[None] = len(self.levels) + 1

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self.levels) + 2

    def places(self, values: Values) -> Counts:
        """The cell of every value."""
        other, place = len(self.levels), self._place
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        found = [place.get(v, other) if v == v else other + 1 for v in plain]
        return np.array(found, dtype=np.int64)


Cells = NumberCells | CategoryCells


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The cells of all features, one after the other in one row of counts."""

    features: tuple[Cells, ...]
    _offsets: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = [0, *(feature.size for feature in self.features)]
        object.__setattr__(self, "_offsets", tuple(int(n) for n in np.cumsum(sizes)))

    @property
    def size(self) -> int:
        """How many cells all features have together."""
        return self._offsets[-1]

    def empty(self) -> Counts:
        """The counts of no rows."""
        return np.zeros(self.size, dtype=np.int64)

    def count(self, columns: Sequence[Values]) -> Counts:
        """The counts of a batch, one sequence of values per feature.

        Raises:
            Unprocessable: there are not as many columns as features.
        """
        if len(columns) != len(self.features):
            raise Unprocessable(
                f"{len(columns)} columns were sent for {len(self.features)} watched features"
            )
        places = [
            feature.places(values) + offset
            for feature, values, offset in zip(
                self.features, columns, self._offsets[:-1], strict=True
            )
        ]
        return np.bincount(np.concatenate(places), minlength=self.size).astype(np.int64)

    def split(self, counts: Counts) -> list[Counts]:
        """The counts of each feature by itself."""
        return [
            counts[start:end]
            for start, end in zip(self._offsets[:-1], self._offsets[1:], strict=True)
        ]


def number_cells(name: str, values: Values) -> NumberCells:
    """Cells whose edges are quantiles of these values; none finite means no edges at all."""
    numbers = np.asarray(values, dtype=np.float64)
    found, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
    if not len(found):
        return NumberCells(name=name, edges=())
    seen = np.cumsum(counts)
    ranks = np.ceil(np.arange(1, CELLS) / CELLS * seen[-1])
    inner = found[np.searchsorted(seen, ranks)]
    heavy = found[counts * CELLS >= seen[-1]]
    lows = np.nextafter(np.append(heavy, found[0]), -np.inf)
    edges = np.unique(np.concatenate([inner, heavy, lows, found[-1:]]))
    return NumberCells(name=name, edges=tuple(edges.tolist()))


def category_cells(name: str, values: Values, levels: Sequence[Level] = ()) -> CategoryCells:
    """Cells for these levels, or for the most frequent ones among the values."""
    if not levels:
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        tally: dict[Any, int] = {}
        for value in plain:
            if value is not None and value == value:
                tally[value] = tally.get(value, 0) + 1
        levels = sorted(tally, key=lambda level: (-tally[level], str(level)))
    return CategoryCells(name=name, levels=tuple(levels[:MOST_LEVELS]))


def pack(counts: Counts) -> bytes:
    """Counts as few bytes."""
    return zlib.compress(counts.astype("<u4").tobytes(), 1)


def unpack(data: bytes) -> Counts:
    """The counts that were packed."""
    return np.frombuffer(zlib.decompress(data), dtype="<u4").astype(np.int64)


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    # The usual batch holds numbers and nulls alone: numpy converts those by itself.
    if set(map(type, values)) <= _PLAIN:
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError:
            pass
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    if not isinstance(value, float | int):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf
