"""The open sketches of many versions, in arrays, so that a mixed batch costs little per row.

Versions whose profiles have the same shape share a bank: rows of a batch look up the edges, scores
and counts of their own version, all rows at once. What comes out is exactly what
`Layout.sketch` says of the same rows.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.joint import WAVES, Joint, heights, scale_of
from shared.sketch import (
    PLAIN,
    WORDS,
    CategoryCells,
    Layout,
    NumberCells,
    Sketch,
    numbers_of,
)

Key = TypeVar("Key", bound=Hashable)
Row = Sequence[Any]
"""The values of one row in the order of the layout, outputs last."""
Whole = NDArray[np.int64]

_FEW: Final = 8
"""Rows per version from which products are left to the matrix routines."""
_GRAIN: Final = 32
"""Cells are set aside in these steps, so that profiles of about one size share a bank."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What versions of one bank have in common.

    Attributes:
        numbers, words: places of the features of either kind.
        paired: which of the numbers take part in the joint sums; None without any such sums.
        edges, cells: set aside for each number, and for each version.
    """

    numbers: tuple[int, ...]
    words: tuple[int, ...]
    paired: tuple[int, ...] | None
    edges: int
    cells: int
    seed: int

    @classmethod
    def of(cls, layout: Layout) -> "Shape":
        numbers = [i for i, f in enumerate(layout.features) if isinstance(f, NumberCells)]
        words = [i for i, f in enumerate(layout.features) if isinstance(f, CategoryCells)]
        edges = [len(f.edges) for f in layout.features if isinstance(f, NumberCells)]
        basis = layout.basis
        return cls(
            numbers=tuple(numbers),
            words=tuple(words),
            paired=tuple(numbers.index(f) for f in basis.features) if basis else None,
            edges=max([1, *edges]),
            cells=-(-layout.size // _GRAIN) * _GRAIN,
            seed=basis.seed if basis else 0,
        )


@dataclass(slots=True)
class Bank:
    """Sketches of one shape, one slot each."""

    shape: Shape
    taken: int = 0
    free: list[int] = field(default_factory=list)
    words: dict[int, tuple[CategoryCells, ...]] = field(default_factory=dict)
    lookups: dict[int, tuple[tuple[Callable[[Any, int], int], int], ...]] = field(
        default_factory=dict
    )
    numbers_of_row: Callable[[Row], Any] = field(init=False)
    words_of_row: Callable[[Row], Any] = field(init=False)
    edges: NDArray[np.float64] = field(init=False)
    gone: NDArray[np.int32] = field(init=False)
    offsets: NDArray[np.int32] = field(init=False)
    scores: NDArray[np.int16] = field(init=False)
    scale: NDArray[np.float32] = field(init=False)
    rows: Whole = field(init=False)
    counts: NDArray[np.int32] = field(init=False)
    invalid: NDArray[np.int32] = field(init=False)
    moments: Whole = field(init=False)
    lacks: NDArray[np.int32] = field(init=False)
    waves: Whole = field(init=False)

    def __post_init__(self) -> None:
        shape, numbers = self.shape, len(self.shape.numbers)
        features, paired = numbers + len(shape.words), len(shape.paired or ())
        self.numbers_of_row = _getter(shape.numbers)
        self.words_of_row = _getter(shape.words)
        upper = paired * (paired + 1) // 2
        waves = WAVES if shape.paired is not None else 0
        self.edges = np.empty((0, numbers, shape.edges))
        self.gone = np.empty((0, numbers), dtype=np.int32)
        self.offsets = np.empty((0, features + 1), dtype=np.int32)
        self.scores = np.empty((0, paired, shape.edges + 2), dtype=np.int16)
        self.scale = np.empty((0, 1), dtype=np.float32)
        self.rows = np.empty(0, dtype=np.int64)
        self.counts = np.empty((0, shape.cells), dtype=np.int32)
        self.invalid = np.empty((0, features), dtype=np.int32)
        self.moments = np.empty((0, upper), dtype=np.int64)
        self.lacks = np.empty((0, upper), dtype=np.int32)
        self.waves = np.empty((0, waves), dtype=np.int64)

    def open(self, layout: Layout, sketch: Sketch) -> int:
        """A slot for a version, with what is known of its window already."""
        slot = self.free.pop() if self.free else self._next()
        cells = [layout.features[i] for i in self.shape.numbers]
        self.edges[slot] = np.inf
        for place, cell in enumerate(c for c in cells if isinstance(c, NumberCells)):
            self.edges[slot, place, : len(cell.edges)] = cell.edges
            self.gone[slot, place] = len(cell.edges) + 1
        self.offsets[slot] = layout.offsets
        self.words[slot] = tuple(
            cell for cell in layout.features if isinstance(cell, CategoryCells)
        )
        self.lookups[slot] = tuple(cell.lookup for cell in self.words[slot])
        if layout.basis:
            table = layout.basis.table
            self.scores[slot] = 0
            self.scores[slot, :, : table.shape[1]] = table
            self.scale[slot] = scale_of(layout.basis.width)
        self.write(slot, sketch)
        return slot

    def write(self, slot: int, sketch: Sketch) -> None:
        """Replace what is counted in a slot."""
        self.rows[slot] = sketch.rows
        self.counts[slot] = 0
        self.counts[slot, : len(sketch.counts)] = sketch.counts
        self.invalid[slot] = sketch.invalid
        if sketch.joint and self.shape.paired is not None:
            upper = np.triu_indices(len(sketch.joint.moments))
            self.moments[slot] = sketch.joint.moments[upper]
            self.lacks[slot] = sketch.rows - sketch.joint.pairs[upper]
            self.waves[slot] = sketch.joint.waves

    def read(self, slot: int) -> Sketch:
        """What is counted in a slot."""
        joint = None
        if self.shape.paired is not None:
            size = len(self.shape.paired)
            joint = Joint(
                _square(self.moments[slot], size),
                _square(self.rows[slot] - self.lacks[slot].astype(np.int64), size),
                self.waves[slot].copy(),
            )
        return Sketch(
            rows=int(self.rows[slot]),
            counts=self.counts[slot, : self.offsets[slot, -1]].astype(np.int64),
            invalid=self.invalid[slot].astype(np.int64),
            joint=joint,
        )

    def drop(self, slot: int) -> None:
        """The slot may be used again."""
        del self.words[slot], self.lookups[slot]
        self.free.append(slot)

    def add(self, slots: Whole, rows: Sequence[Row]) -> None:
        """Count rows, each into its slot."""
        order = np.argsort(slots, kind="stable")
        slots = slots[order]
        rows = [rows[i] for i in order.tolist()]
        starts = np.flatnonzero(np.diff(slots, prepend=-1))
        self.rows[slots[starts]] += np.diff(starts, append=len(slots))
        places = self._number_places(slots, rows)
        self._count(slots, self.shape.numbers, places)
        if self.shape.words:
            self._count(slots, self.shape.words, self._word_places(slots, rows))
        if self.shape.paired is not None:
            self._join(slots, starts, places[:, list(self.shape.paired)])

    def _count(self, slots: Whole, features: tuple[int, ...], places: Whole) -> None:
        flat = slots[:, None] * self.shape.cells + self.offsets[slots][:, list(features)] + places
        np.add.at(self.counts.reshape(-1), flat.reshape(-1), np.int32(1))

    def _number_places(self, slots: Whole, rows: Sequence[Row]) -> Whole:
        """The cell of every number, by halving the edges for all of them at once."""
        values = self._values(slots, rows)
        width = self.shape.edges
        first = (slots[:, None] * values.shape[1] + np.arange(values.shape[1])) * width
        edges, place, left = self.edges.reshape(-1), first.copy(), width
        while left > 1:
            half = left // 2
            place += half * (edges.take(place + (half - 1)) < values)
            left -= half
        place += edges.take(place) < values
        place -= first
        is_missing = np.isnan(values)
        if is_missing.any():
            place[is_missing] = self.gone[slots][is_missing]
        return np.asarray(place)

    def _values(self, slots: Whole, rows: Sequence[Row]) -> NDArray[np.float64]:
        taken = [self.numbers_of_row(row) for row in rows]
        shape = (len(rows), len(self.shape.numbers))
        if set(map(type, chain.from_iterable(taken))) <= PLAIN:
            try:
                return np.array(taken, dtype=np.float64).reshape(shape)
            except OverflowError:
                pass
        for slot, row in zip(slots.tolist(), taken, strict=True):
            for place, value in zip(self.shape.numbers, row, strict=True):
                is_wrong = value is not None and not isinstance(value, float | int)
                self.invalid[slot, place] += is_wrong
        return np.array([numbers_of(row) for row in taken], dtype=np.float64).reshape(shape)

    def _word_places(self, slots: Whole, rows: Sequence[Row]) -> Whole:
        taken = [self.words_of_row(row) for row in rows]
        if set(map(type, chain.from_iterable(taken))) <= WORDS:
            found = self._places_of_words(slots, taken)
        else:
            found = self._places_of_anything(slots, taken)
        return np.array(found, dtype=np.int64).reshape(len(rows), len(self.shape.words))

    def _places_of_words(self, slots: Whole, taken: Sequence[Row]) -> list[int]:
        known = self.lookups
        return [
            get(value, other)
            for slot, words in zip(slots.tolist(), taken, strict=True)
            for (get, other), value in zip(known[slot], words, strict=True)
        ]

    def _places_of_anything(self, slots: Whole, taken: Sequence[Row]) -> list[int]:
        found = []
        for slot, words in zip(slots.tolist(), taken, strict=True):
            for cell, place, value in zip(self.words[slot], self.shape.words, words, strict=True):
                found.append(cell.place(value))
                self.invalid[slot, place] += cell.wrong([value])
        return found

    def _join(self, slots: Whole, starts: Whole, places: Whole) -> None:
        paired = self.shape.paired or ()
        scores = self.scores[slots[:, None], np.arange(len(paired)), places]
        upper = np.triu_indices(len(paired))
        unique = slots[starts]
        self.moments[unique] += _products(scores, starts, upper)
        is_gone = places == self.gone[slots][:, list(paired)]
        if is_gone.any():
            there = (~is_gone).astype(np.int16)
            held = np.diff(starts, append=len(slots))
            self.lacks[unique] += (held[:, None] - _products(there, starts, upper)).astype(np.int32)
        waves = heights(scores, self.scale[slots], self.shape.seed)
        self.waves[unique] += np.add.reduceat(waves, starts, axis=0, dtype=np.int64)

    def _next(self) -> int:
        if self.taken == len(self.rows):
            self._grow(max(8, self.taken * 3 // 2))
        self.taken += 1
        return self.taken - 1

    def _grow(self, capacity: int) -> None:
        for name in _ARRAYS:
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)


_ARRAYS: Final = (
    "edges",
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


@dataclass(slots=True)
class Filling(Generic[Key]):
    """The open sketches by key, such as a version and its season."""

    banks: dict[Shape, Bank] = field(default_factory=dict)
    slots: dict[Key, tuple[Bank, int]] = field(default_factory=dict)

    def __contains__(self, key: Key) -> bool:
        return key in self.slots

    def open(self, key: Key, layout: Layout, sketch: Sketch | None = None) -> None:
        """Begin to count for a key, or go on where `sketch` ends; the layout itself is not kept."""
        self.drop(key)
        known = sketch or layout.blank()
        if layout.basis and known.joint is None:
            # What was counted before there were joint sums stays without them until it closes.
            layout = Layout(features=layout.features)
        shape = Shape.of(layout)
        bank = self.banks.setdefault(shape, Bank(shape))
        self.slots[key] = (bank, bank.open(layout, known))

    def add(self, keys: Sequence[Key], rows: Sequence[Row]) -> None:
        """Count rows, each for its key.

        Raises:
            KeyError: a key is not open; nothing was counted.
        """
        by_bank: dict[int, tuple[Bank, list[int], list[Row]]] = {}
        for (bank, slot), row in zip([self.slots[key] for key in keys], rows, strict=True):
            _, slots, taken = by_bank.setdefault(id(bank), (bank, [], []))
            slots.append(slot)
            taken.append(row)
        for bank, slots, taken in by_bank.values():
            bank.add(np.array(slots, dtype=np.int64), taken)

    def sketch(self, key: Key) -> Sketch:
        """What is counted for a key so far."""
        bank, slot = self.slots[key]
        return bank.read(slot)

    def rows(self, key: Key) -> int:
        """How many rows are counted for a key so far."""
        bank, slot = self.slots[key]
        return int(bank.rows[slot])

    def write(self, key: Key, sketch: Sketch) -> None:
        """Replace what is counted, such as by nothing when the next window begins."""
        bank, slot = self.slots[key]
        bank.write(slot, sketch)

    def drop(self, key: Key) -> None:
        """Forget a key."""
        if key in self.slots:
            bank, slot = self.slots.pop(key)
            bank.drop(slot)

    @property
    def size_bytes(self) -> int:
        """What the arrays take."""
        return sum(getattr(bank, name).nbytes for bank in self.banks.values() for name in _ARRAYS)


def _products(
    scores: NDArray[np.int16], starts: Whole, upper: tuple[NDArray[np.intp], NDArray[np.intp]]
) -> Whole:
    """Sums of products of two columns for each run of rows, shape (runs, pairs)."""
    if len(scores) >= _FEW * len(starts):
        exact = scores.astype(np.float64)
        parts = np.split(exact, starts[1:])
        return np.stack([(part.T @ part)[upper] for part in parts]).astype(np.int64)
    wide = scores.astype(np.int32)
    return np.add.reduceat(wide[:, upper[0]] * wide[:, upper[1]], starts, axis=0, dtype=np.int64)


def _square(upper: Whole, size: int) -> Whole:
    square = np.zeros((size, size), dtype=np.int64)
    rows, columns = np.triu_indices(size)
    square[rows, columns] = upper
    square[columns, rows] = upper
    return square


def _getter(places: tuple[int, ...]) -> Callable[[Row], Any]:
    if len(places) == 1:
        return lambda row: (row[places[0]],)
    if not places:
        return lambda _: ()
    if places == tuple(range(len(places))):
        return itemgetter(slice(0, len(places)))
    return itemgetter(*places)
