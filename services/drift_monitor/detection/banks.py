"""Sketches of versions whose profiles have one shape, side by side in arrays."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.levels import Levels
from services.drift_monitor.detection.shapes import Shape, filled, ways
from services.drift_monitor.detection.sums import as_they_lie, products, summed, sweeps
from services.drift_monitor.layouts import Grid, Paired
from shared.joint import WAVES, heights
from shared.sketch import PLAIN, CategoryCells, Parts, numbers_of

Whole = NDArray[np.int64]
Floats = NDArray[np.float64]
Slots = NDArray[np.intp]
Row = Sequence[Any]
"""The values of one row in the order of the layout."""

_READ_AT_ONCE: Final = 500
"""Rows whose values stay in the cache between being found and being read."""


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
    levels: Levels = field(default_factory=Levels)
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

    def open(self, grids: Sequence[Grid], known: Sequence[Parts | None]) -> list[int]:
        """Slots for versions, with what is known of their windows already.

        Args:
            grids: with as many cells of each feature; so a thousand cost little more than one.
            known: of all of them in the same form, or of none.
        """
        slots = self._take(len(grids))
        at, first = np.array(slots, dtype=np.intp), grids[0]
        gone, tables = ways(first.sizes, self.shape.widths)
        edges = np.stack([grid.edges for grid in grids])
        for width, (places, taken) in tables.items():
            table = np.full((len(at), len(self.alike[width]) * width), np.inf)
            table[:, places] = edges[:, taken]
            self.edges[width][at] = table.reshape(len(at), -1, width)
        self.gone[at] = gone
        self.offsets[at] = np.cumsum([0, *first.cells])
        self.levels.by_slot.update((slot, g.words) for slot, g in zip(slots, grids, strict=True))
        self._open_paired(at, [grid.paired for grid in grids if grid.paired])
        self._clear(at)
        self._write(at, [one for one in known if one is not None])
        return slots

    def _open_paired(self, at: Slots, paired: Sequence[Paired]) -> None:
        if not paired:
            return
        self.scale[at, 0] = [one.scale for one in paired]
        longest = self.scores.shape[2]
        table = np.zeros((len(at), self.scores.shape[1] * longest), dtype=np.int16)
        scores = np.stack([one.scores for one in paired])
        table[:, filled(paired[0].sizes, longest)] = scores
        self.scores[at] = table.reshape(len(at), -1, longest)

    def write(self, slot: int, known: Parts) -> None:
        """Replace what is counted in a slot."""
        at = np.array([slot], dtype=np.intp)
        self._clear(at)
        self._write(at, [known])

    def _write(self, at: Slots, known: Sequence[Parts]) -> None:
        """Note what is known, all in the same form, in slots where nothing is counted."""
        if not known:
            return
        end = int(self.offsets[at[0], -1])
        counts = np.stack([one.counts for one in known])
        if counts.shape[1] != end:
            raise ValueError(f"a sketch of {counts.shape[1]} cells does not fit into {end}")
        self.counts[at, :end] = counts
        # Counts that were stored before there were sketches say nothing of types, and of rows only
        # that each of them lies in one cell of the first feature.
        first = int(self.offsets[at[0], 1]) if self.offsets.shape[1] > 1 else 0
        rows = np.array([one.rows for one in known], dtype=np.int64)
        self.rows[at] = np.where(rows >= 0, rows, counts[:, :first].sum(axis=1, dtype=np.int64))
        if len(known[0].invalid):
            self.invalid[at] = np.stack([one.invalid for one in known])
        joint = [
            (one.moments, one.pairs, one.waves)
            for one in known
            if one.moments is not None and one.pairs is not None and one.waves is not None
        ]
        if joint:
            moments, pairs, waves = (np.stack(some) for some in zip(*joint, strict=True))
            self.moments[at] = moments
            self.lacks[at] = rows[:, None] - pairs.astype(np.int64)
            self.waves[at] = waves

    def clear(self, slot: int) -> None:
        """Nothing is counted in a slot."""
        self._clear(slot)

    def _clear(self, at: Slots | int) -> None:
        for name in ("rows", "counts", "invalid", "moments", "lacks", "waves"):
            getattr(self, name)[at] = 0

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
        del self.levels.by_slot[slot]
        self.free.append(slot)

    def add(
        self, slots: Whole, sizes: Whole, rows: Sequence[Row], more: Sequence[Sequence[Any]]
    ) -> None:
        """Count rows.

        Args:
            slots: no slot twice.
            sizes: how many rows each has, at least one.
            rows: the first values of all rows, slot after slot.
            more: one sequence for each feature that follows, of all rows.
        """
        owner = np.repeat(slots, sizes)
        numbers = self._read(slots, sizes, owner, rows, more)
        self.rows[slots] += sizes
        for own, lengths, part in sweeps(sizes):
            self._fill(slots[own], lengths, owner[part], numbers[:, part])

    def _read(
        self,
        slots: Whole,
        sizes: Whole,
        owner: Whole,
        rows: Sequence[Row],
        more: Sequence[Sequence[Any]],
    ) -> Floats:
        """The numbers of all rows, slot after slot; their categories are counted here."""
        width, order = len(rows[0]), as_they_lie(rows)
        lying = np.empty((len(self.shape.numbers), len(order)))
        common = self.levels.common(slots.tolist())
        apart: dict[int, list[Any]] = {
            feature: []
            for feature, cells in zip(self.shape.words, common, strict=True)
            if cells is None and feature < width
        }
        for start in range(0, len(order), _READ_AT_ONCE):
            some = order[start : start + _READ_AT_ONCE]
            columns = list(zip(*map(rows.__getitem__, some.tolist()), strict=True))
            self._read_numbers(owner[some], 0, columns, lying[:, start : start + len(some)])
            self._count_words(owner[some], columns, common)
            for feature, known in apart.items():
                known.extend(columns[feature])
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        numbers = lying.take(place, axis=1)
        self._read_numbers(owner, width, more, numbers)
        places = place.tolist()
        ordered = {
            feature: list(map(values.__getitem__, places)) for feature, values in apart.items()
        }
        self._count_apart(slots, sizes, owner, ordered | dict(enumerate(more, width)))
        return numbers

    def _read_numbers(
        self, owner: Whole, first: int, columns: Sequence[Sequence[Any]], numbers: Floats
    ) -> None:
        """Note the numbers among these columns, which are of the features from `first` on."""
        for place, feature in enumerate(self.shape.numbers):
            if first <= feature < first + len(columns):
                numbers[place] = self._values(owner, feature, columns[feature - first])

    def _count_words(
        self,
        owner: Whole,
        columns: Sequence[Sequence[Any]],
        common: Sequence[CategoryCells | None],
    ) -> None:
        """Count categories whose levels all versions share."""
        words = [
            (number, feature, cells)
            for number, (feature, cells) in enumerate(zip(self.shape.words, common, strict=True))
            if cells is not None and feature < len(columns)
        ]
        if not words:
            return
        places = np.empty((len(words), len(owner)), dtype=np.int64)
        for row, (number, feature, cells) in enumerate(words):
            places[row], wrong = self.levels.places(number, columns[feature], owner, cells)
            self._note_wrong(feature, wrong)
        self._count(owner, [feature for _, feature, _ in words], places)

    def _count_apart(
        self, slots: Whole, sizes: Whole, owner: Whole, columns: Mapping[int, Sequence[Any]]
    ) -> None:
        """Count categories, by feature, whose levels each version has of its own."""
        for number, feature in enumerate(self.shape.words):
            if feature in columns:
                places, wrong = self.levels.places_apart(number, columns[feature], slots, sizes)
                self._note_wrong(feature, wrong)
                self._count(owner, [feature], places[None, :])

    def _note_wrong(self, feature: int, slots: Sequence[int] | Whole) -> None:
        """A value of a wrong type has come for each of these slots."""
        if len(slots):
            np.add.at(self.invalid[:, feature], slots, self.invalid.dtype.type(1))

    def _fill(self, slots: Whole, sizes: Whole, owner: Whole, values: Floats) -> None:
        """Count the numbers of a sweep."""
        places = np.empty(values.shape, dtype=np.int64)
        for width, alike in self.alike.items():
            places[alike] = self._search(owner, width, alike, values[alike])
        self._count(owner, self.shape.numbers, places)
        if self.shape.paired:
            self._join(slots, sizes, owner, places[list(self.shape.paired)])

    def _count(self, owner: Whole, features: Sequence[int], places: Whole) -> None:
        """Add the cells of rows, shape (features, rows), to the counts."""
        flat = places + self.offsets.take(features, axis=1).take(owner, axis=0).T
        flat += owner * self.shape.cells
        np.add.at(self.counts.reshape(-1), flat.reshape(-1), self.counts.dtype.type(1))

    def _values(self, owner: Whole, feature: int, column: Sequence[Any]) -> Floats:
        """Numbers with NaN for what is missing or no number."""
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
            self._note_wrong(feature, owner[wrong])
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

    def _join(self, slots: Whole, sizes: Whole, owner: Whole, places: Whole) -> None:
        width = self.scores.shape[2]
        rows = np.arange(len(places))[:, None] * width
        flat = owner * (len(places) * width) + rows + places
        scores = np.ascontiguousarray(self.scores.reshape(-1).take(flat).T)
        starts = np.cumsum(sizes) - sizes
        self.moments[slots] += products(scores, starts, sizes).astype(self.moments.dtype)
        is_gone = places == self.gone[:, list(self.shape.paired or ())][owner].T
        if is_gone.any():
            there = np.ascontiguousarray((~is_gone).T.astype(np.int16))
            lacks = sizes[:, None] - products(there, starts, sizes)
            self.lacks[slots] += lacks.astype(self.lacks.dtype)
        high = heights(scores, self.scale[owner], self.shape.seed)
        self.waves[slots] += summed(high, starts, sizes).astype(self.waves.dtype)

    def _take(self, count: int) -> list[int]:
        """Slots that nobody has."""
        again = [self.free.pop() for _ in range(min(count, len(self.free)))]
        first, self.taken = self.taken, self.taken + count - len(again)
        if self.taken > len(self.rows):
            self._grow(max(self.taken, len(self.rows) * 9 // 8 + 8))
        return [*again, *range(first, self.taken)]

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
