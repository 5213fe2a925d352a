"""Sketches of versions whose profiles have one shape, side by side in arrays."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.layouts import Grid
from shared.joint import WAVES, heights
from shared.sketch import PLAIN, WORDS, CategoryCells, Parts, numbers_of

Whole = NDArray[np.int64]
Floats = NDArray[np.float64]

_FEW: Final = 3
"""Rows per version from which products are left to the matrix routines."""
_GRAIN: Final = 32
"""Cells and edges are set aside in these steps, so that profiles of about one size share a bank."""
_NARROW: Final = 13_000
"""Rows whose counts fit into 16 bits, and whose joint sums into 32: no score is above 400."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What versions of one bank have in common.

    Attributes:
        numbers, words: places of the features of either kind.
        widths: edges set aside for each of the numbers.
        paired: which of the numbers take part in the joint sums; None without any such sums.
        cells: set aside for each version.
        is_narrow: whether few bytes are enough for all sums.
    """

    numbers: tuple[int, ...]
    words: tuple[int, ...]
    widths: tuple[int, ...]
    paired: tuple[int, ...] | None
    cells: int
    seed: int
    is_narrow: bool

    @classmethod
    def of(cls, grid: Grid, most: int | None = None) -> "Shape":
        """The shape of these cells, for sketches of at most so many rows."""
        paired = grid.paired
        return _shape(
            grid.sizes,
            sum(grid.cells),
            paired.features if paired else None,
            paired.seed if paired else 0,
            most is not None and most <= _NARROW,
        )


@lru_cache(maxsize=4096)
def _shape(
    sizes: tuple[int | None, ...],
    cells: int,
    paired: tuple[int, ...] | None,
    seed: int,
    is_narrow: bool,
) -> Shape:
    numbers = [i for i, size in enumerate(sizes) if size is not None]
    return Shape(
        numbers=tuple(numbers),
        words=tuple(i for i, size in enumerate(sizes) if size is None),
        widths=tuple(_stepped(size - 2) + 2 for size in sizes if size is not None),
        paired=tuple(numbers.index(f) for f in paired) if paired is not None else None,
        cells=_stepped(cells),
        seed=seed,
        is_narrow=is_narrow,
    )


Way = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Places in a table, and what of all edges comes there."""


@lru_cache(maxsize=64)
def _ways(
    sizes: tuple[int | None, ...], widths: tuple[int, ...]
) -> tuple[NDArray[np.int64], dict[int, Way]]:
    """The cell of each number that says missing, and how edges come into the tables."""
    lengths = np.array([size for size in sizes if size is not None], dtype=np.int64)
    of_number = np.repeat(np.arange(len(lengths)), lengths)
    found: dict[int, Way] = {}
    for width in dict.fromkeys(widths):
        alike = [place for place, other in enumerate(widths) if other == width]
        taken = np.flatnonzero(np.isin(of_number, alike))
        found[width] = (_filled(tuple(lengths[alike].tolist()), width), taken)
    return lengths + 1, found


@lru_cache(maxsize=64)
def _filled(lengths: tuple[int, ...], width: int) -> NDArray[np.intp]:
    """The places of a table whose rows are filled so far."""
    return np.flatnonzero(np.arange(width) < np.array(lengths, dtype=np.int64)[:, None])


def _stepped(size: int) -> int:
    return max(-(-size // _GRAIN), 1) * _GRAIN


@dataclass(slots=True)
class Bank:
    """Sketches of one shape, one slot each.

    Attributes:
        edges: one table for all numbers of one width, shape (slots, numbers, width).
        gone: the cell of each number that says missing.
        lacks: rows in which one of two numbers is missing.
    """

    shape: Shape
    taken: int = 0
    free: list[int] = field(default_factory=list)
    words: dict[int, tuple[CategoryCells, ...]] = field(default_factory=dict)
    alike: dict[int, list[int]] = field(default_factory=dict)
    edges: dict[int, Floats] = field(default_factory=dict)
    gone: NDArray[np.int16] = field(init=False)
    offsets: NDArray[np.int32] = field(init=False)
    scores: NDArray[np.int16] = field(init=False)
    scale: NDArray[np.float32] = field(init=False)
    rows: Whole = field(init=False)
    counts: NDArray[Any] = field(init=False)
    invalid: NDArray[Any] = field(init=False)
    moments: NDArray[Any] = field(init=False)
    lacks: NDArray[Any] = field(init=False)
    waves: NDArray[Any] = field(init=False)

    def __post_init__(self) -> None:
        shape = self.shape
        paired = shape.paired or ()
        small, large = ("u2", "i4") if shape.is_narrow else ("u4", "i8")
        upper = len(paired) * (len(paired) + 1) // 2
        for place, width in enumerate(shape.widths):
            self.alike.setdefault(width, []).append(place)
        for width, places in self.alike.items():
            self.edges[width] = np.empty((0, len(places), width))
        longest = max((shape.widths[place] for place in paired), default=0) + 2
        self.gone = np.empty((0, len(shape.numbers)), dtype=np.int16)
        self.offsets = np.empty((0, len(shape.numbers) + len(shape.words) + 1), dtype=np.int32)
        self.scores = np.empty((0, len(paired), longest), dtype=np.int16)
        self.scale = np.empty((0, 1), dtype=np.float32)
        self.rows = np.empty(0, dtype=np.int64)
        self.counts = np.empty((0, shape.cells), dtype=small)
        self.invalid = np.empty((0, len(shape.numbers) + len(shape.words)), dtype=small)
        self.moments = np.empty((0, upper), dtype=large)
        self.lacks = np.empty((0, upper), dtype=small)
        self.waves = np.empty((0, WAVES if shape.paired is not None else 0), dtype=large)

    @property
    def size_bytes(self) -> int:
        """What the arrays take."""
        tables = sum(table.nbytes for table in self.edges.values())
        arrays: list[NDArray[Any]] = [getattr(self, name) for name in _ARRAYS]
        return tables + sum(array.nbytes for array in arrays)

    def open(self, grid: Grid, known: Parts | None) -> int:
        """A slot for a version, with what is known of its window already."""
        slot = self.free.pop() if self.free else self._next()
        gone, ways = _ways(grid.sizes, self.shape.widths)
        for width, (places, taken) in ways.items():
            table = self.edges[width][slot]
            table.fill(np.inf)
            table.reshape(-1)[places] = grid.edges[taken]
        self.gone[slot] = gone
        self.offsets[slot] = np.cumsum([0, *grid.cells])
        self.words[slot] = grid.words
        if grid.paired:
            self.scale[slot] = grid.paired.scale
            table = self.scores[slot]
            table.fill(0)
            table.reshape(-1)[_filled(grid.paired.sizes, table.shape[1])] = grid.paired.scores
        if known is None:
            self.clear(slot)
        else:
            self.write(slot, known)
        return slot

    def write(self, slot: int, known: Parts) -> None:
        """Replace what is counted in a slot."""
        self.clear(slot)
        end = int(self.offsets[slot, -1])
        if len(known.counts) != end:
            raise ValueError(f"a sketch of {len(known.counts)} cells does not fit into {end}")
        self.counts[slot, :end] = known.counts
        # Counts that were stored before there were sketches say nothing of types, and of rows only
        # that each of them lies in one cell of the first feature.
        first = int(self.offsets[slot, 1]) if self.offsets.shape[1] > 1 else 0
        self.rows[slot] = known.rows if known.rows >= 0 else int(known.counts[:first].sum())
        if len(known.invalid):
            self.invalid[slot] = known.invalid
        if known.moments is not None and known.pairs is not None and known.waves is not None:
            self.moments[slot] = known.moments
            self.lacks[slot] = known.rows - known.pairs.astype(np.int64)
            self.waves[slot] = known.waves

    def clear(self, slot: int) -> None:
        """Nothing is counted in a slot."""
        for name in ("rows", "counts", "invalid", "moments", "lacks", "waves"):
            getattr(self, name)[slot] = 0

    def read(self, slot: int) -> Parts:
        """What is counted in a slot."""
        rows, end = int(self.rows[slot]), int(self.offsets[slot, -1])
        counts, invalid = self.counts[slot, :end].copy(), self.invalid[slot].copy()
        if not self.shape.paired:
            return Parts(rows, counts, invalid, 0, None, None, None)
        return Parts(
            rows,
            counts,
            invalid,
            len(self.shape.paired),
            self.moments[slot].copy(),
            rows - self.lacks[slot].astype(np.int64),
            self.waves[slot].copy(),
        )

    def drop(self, slot: int) -> None:
        """The slot may be used again."""
        del self.words[slot]
        self.free.append(slot)

    def add(self, slots: Whole, sizes: Whole, columns: Sequence[Sequence[Any]]) -> None:
        """Count rows.

        Args:
            slots: no slot twice.
            sizes: how many rows each has, at least one.
            columns: the values of all rows, slot after slot, one sequence per feature.
        """
        owner = np.repeat(slots, sizes)
        places = np.empty((len(self.shape.numbers), len(owner)), dtype=np.int64)
        for width, alike in self.alike.items():
            values = np.stack([self._values(owner, columns, place) for place in alike])
            places[alike] = self._search(owner, width, alike, values)
        self.rows[slots] += sizes
        for number, feature in enumerate(self.shape.numbers):
            self._count(owner, feature, places[number])
        for number, feature in enumerate(self.shape.words):
            found = self._words(slots, sizes, number, columns[feature])
            self._count(owner, feature, found)
        if self.shape.paired:
            self._join(slots, sizes, owner, places[list(self.shape.paired)])

    def _count(self, owner: Whole, feature: int, places: Whole) -> None:
        flat = owner * self.shape.cells + self.offsets[owner, feature] + places
        np.add.at(self.counts.reshape(-1), flat, self.counts.dtype.type(1))

    def _values(self, owner: Whole, columns: Sequence[Sequence[Any]], place: int) -> Floats:
        """Numbers with NaN for what is missing or no number."""
        feature = self.shape.numbers[place]
        column = columns[feature]
        try:
            # Takes numbers alone, texts and nulls not: what nearly all columns hold.
            return np.frombuffer(array("d", column))
        except (TypeError, OverflowError):
            pass
        if not set(map(type, column)) <= PLAIN:
            wrong = [
                row
                for row, value in enumerate(column)
                if value is not None and not isinstance(value, float | int)
            ]
            np.add.at(self.invalid[:, feature], owner[wrong], self.invalid.dtype.type(1))
        return numbers_of(column)

    def _search(self, owner: Whole, width: int, alike: Sequence[int], values: Floats) -> Whole:
        """The cell of every number, by halving the edges for all of them at once."""
        edges = self.edges[width].reshape(-1)
        rows = np.arange(len(alike))[:, None] * width
        first = owner * (len(alike) * width) + rows
        place, left = first.copy(), width
        while left > 1:
            half = left // 2
            place += half * (edges.take(place + (half - 1)) < values)
            left -= half
        place += edges.take(place) < values
        place -= first
        is_missing = np.isnan(values)
        if is_missing.any():
            place[is_missing] = self.gone[:, list(alike)][owner].T[is_missing]
        return np.asarray(place)

    def _words(self, slots: Whole, sizes: Whole, number: int, column: Sequence[Any]) -> Whole:
        """The cells of a category, which each version has levels of its own for."""
        feature = self.shape.words[number]
        is_plain = set(map(type, column)) <= WORDS
        versions = {id(self.words[slot][number]): slot for slot in slots.tolist()}
        if is_plain and len(versions) == 1:
            get, other = self.words[int(slots[0])][number].lookup
            return np.fromiter(map(get, column, repeat(other)), dtype=np.int64, count=len(column))
        found: list[int] = []
        start = 0
        for slot, size in zip(slots.tolist(), sizes.tolist(), strict=True):
            some = column[start : start + size]
            start += size
            if is_plain:
                get, other = self.words[slot][number].lookup
                found += map(get, some, repeat(other))
            else:
                cells = self.words[slot][number]
                found += [cells.place(value) for value in some]
                self.invalid[slot, feature] += cells.wrong(some)
        return np.array(found, dtype=np.int64)

    def _join(self, slots: Whole, sizes: Whole, owner: Whole, places: Whole) -> None:
        width = self.scores.shape[2]
        rows = np.arange(len(places))[:, None] * width
        flat = owner * (len(places) * width) + rows + places
        scores = np.ascontiguousarray(self.scores.reshape(-1).take(flat).T)
        starts = np.cumsum(sizes) - sizes
        self.moments[slots] += _products(scores, starts, sizes).astype(self.moments.dtype)
        is_gone = places == self.gone[:, list(self.shape.paired or ())][owner].T
        if is_gone.any():
            there = np.ascontiguousarray((~is_gone).T.astype(np.int16))
            lacks = sizes[:, None] - _products(there, starts, sizes)
            self.lacks[slots] += lacks.astype(self.lacks.dtype)
        high = heights(scores, self.scale[owner], self.shape.seed)
        self.waves[slots] += _summed(high, starts, sizes).astype(self.waves.dtype)

    def _next(self) -> int:
        if self.taken == len(self.rows):
            self._grow(self.taken * 9 // 8 + 8)
        self.taken += 1
        return self.taken - 1

    def _grow(self, capacity: int) -> None:
        for name in _ARRAYS:
            setattr(self, name, _grown(getattr(self, name), capacity))
        self.edges = {width: _grown(table, capacity) for width, table in self.edges.items()}


_ARRAYS: Final = (
    "gone",
    "offsets",
    "scores",
    "scale",
    "rows",
    "counts",
    "invalid",
    "moments",
    "lacks",
    "waves",
)


def _grown(old: NDArray[Any], capacity: int) -> NDArray[Any]:
    new = np.zeros((capacity, *old.shape[1:]), dtype=old.dtype)
    new[: len(old)] = old
    return new


@lru_cache(maxsize=256)
def _upper(size: int) -> NDArray[np.intp]:
    """Where the upper triangle lies in a square."""
    rows, columns = np.triu_indices(size)
    return np.asarray(rows * size + columns)


def _products(values: NDArray[np.int16], starts: Whole, sizes: Whole) -> Whole:
    """Sums of products of two columns for each run of rows, shape (runs, pairs)."""
    size = values.shape[1]
    pick = _upper(size)
    if len(values) >= _FEW * len(starts):
        exact = values.astype(np.float64)
        found = np.empty((len(starts), len(pick)))
        for run, (start, rows) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
            part = exact[start : start + rows]
            (part.T @ part).take(pick, out=found[run])
        return found.astype(np.int64)
    wide = values.astype(np.int32)
    products = wide[:, pick // size] * wide[:, pick % size]
    return np.asarray(np.add.reduceat(products, starts, axis=0, dtype=np.int64))


def _summed(high: NDArray[np.int16], starts: Whole, sizes: Whole) -> Whole:
    """Sums of runs of rows, shape (runs, 128)."""
    if len(set(sizes.tolist())) == 1:
        runs = high.reshape(len(sizes), -1, high.shape[1])
        return np.asarray(runs.sum(axis=1, dtype=np.int32).astype(np.int64))
    return np.asarray(np.add.reduceat(high, starts, axis=0, dtype=np.int32).astype(np.int64))
