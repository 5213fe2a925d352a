"""The cells that values of a feature fall into: those of numbers, and those of categories.

A number has 32 cells between quantiles of the reference, one below its least value, one above its
greatest and one for missing values; a value with a 32nd of the mass has a cell of its own. A
category has its levels, one cell for all others and one for missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Level = float | str | bool
Counts = NDArray[np.int64]
Values = Sequence[Any] | NDArray[Any]

CELLS: Final = 32
MOST_LEVELS: Final = 100
"""Rarer levels count as `other`."""

PLAIN: Final = frozenset({float, int, bool, type(None)})
WORDS: Final = frozenset({str, type(None)})
"""Types of values that need no second look: among numbers, and among texts."""


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
        numbers = values if isinstance(values, np.ndarray) else numbers_of(values)
        if numbers.dtype != np.float64:
            numbers = numbers_of(numbers.tolist())
        found = np.searchsorted(np.asarray(self.edges), numbers, side="left").astype(np.int64)
        found[np.isnan(numbers)] = len(self.edges) + 1
        return found

    def wrong(self, values: Values) -> int:
        """How many values are neither numbers nor missing."""
        if isinstance(values, np.ndarray) and values.dtype != object:
            return 0
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        if set(map(type, plain)) <= PLAIN:
            return 0
        return sum(value is not None and not isinstance(value, float | int) for value in plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryCells:
    """Cells of a category: its levels, all others, missing."""

    name: str
    levels: tuple[Level, ...]
    _place: dict[Any, int] = field(init=False, repr=False, compare=False, default_factory=dict)
    _is_text: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._place.update({level: place for place, level in enumerate(self.levels)})
        self._place[None] = len(self.levels) + 1
        is_text = bool(self.levels) and all(isinstance(level, str) for level in self.levels)
        object.__setattr__(self, "_is_text", is_text)

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self.levels) + 2

    def places(self, values: Values) -> Counts:
        """The cell of every value; what is no text among levels of text is missing."""
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        if set(map(type, plain)) <= WORDS:
            other, place = len(self.levels), self._place
            return np.array([place.get(value, other) for value in plain], dtype=np.int64)
        return np.array([self.place(value) for value in plain], dtype=np.int64)

    @property
    def lookup(self) -> tuple[Callable[[Any, int], int], int]:
        """For texts and nulls alone: their cell, asked for with the cell of all others."""
        return self._place.get, len(self.levels)

    def place(self, value: Any) -> int:
        """The cell of one value."""
        if isinstance(value, str):
            return self._place.get(value, len(self.levels))
        if self._is_text or value != value or isinstance(value, list | dict):
            return len(self.levels) + 1
        return self._place.get(value, len(self.levels))

    def wrong(self, values: Values) -> int:
        """How many values are neither text nor missing, where all levels are text."""
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        if not self._is_text or set(map(type, plain)) <= WORDS:
            return 0
        return sum(not isinstance(v, str) and v is not None and v == v for v in plain)


Cells = NumberCells | CategoryCells


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


def numbers_of(values: Sequence[Any]) -> NDArray[np.float64]:
    """Values as numbers: anything but numbers is missing, whole numbers too large infinite."""
    # The usual batch holds numbers and nulls alone: numpy converts those by itself.
    if set(map(type, values)) <= PLAIN:
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
