"""The open sketches of many versions, in arrays, so that a mixed batch costs little per row.

Versions whose profiles have the same shape share a bank: rows of a batch look up the edges, scores
and counts of their own version, all rows at once. What comes out is exactly what `Layout.sketch`
says of the same rows.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final, Generic, TypeVar

import numpy as np

from services.drift_monitor.detection.banks import Bank, Row
from services.drift_monitor.detection.shapes import Shape
from services.drift_monitor.layouts import Grid
from shared.sketch import Layout, Parts, Sketch, read_sketch

Key = TypeVar("Key", bound=Hashable)
_Form = tuple[int, int, int]
_AT_ONCE: Final = 20_000
"""Rows that are laid out at a time; more take memory and save nothing."""


@dataclass(frozen=True, slots=True)
class Group(Generic[Key]):
    """Rows for one key.

    Attributes:
        rows: the first values of each row.
        more: sequences of further values, one per feature that follows.
    """

    key: Key
    rows: Sequence[Row]
    more: Sequence[Sequence[Any]] = ()

    @property
    def form(self) -> tuple[int, int]:
        """How many features come by row and how many by feature.

        Versions of one bank have as many together, and may part them each in its own way: what is
        the score of one may be a feature of the other.
        """
        return len(self.rows[0]), len(self.more)


@dataclass(frozen=True, slots=True)
class Known(Generic[Key]):
    """What it takes to go on counting for a key.

    Attributes:
        parts: what is counted already; None where nothing is.
        most: rows that a sketch will ever have; None where nobody knows.
    """

    key: Key
    grid: Grid
    parts: Parts | None
    most: int | None

    def without_lost_sums(self) -> "Known[Key]":
        """What was counted before there were joint sums stays without them until it closes."""
        if self.grid.paired and self.parts is not None and self.parts.moments is None:
            return replace(self, grid=self.grid.alone())
        return self

    @property
    def form(self) -> Hashable:
        """Keys of one form are opened together: their arrays have the same shapes."""
        grid, parts = self.grid, self.parts
        paired = grid.paired and (grid.paired.features, grid.paired.sizes, grid.paired.seed)
        told = parts and (len(parts.counts), len(parts.invalid), parts.numbers)
        words = tuple([len(cells.levels) for cells in grid.words])
        return grid.sizes, words, paired, told, self.most


@dataclass(slots=True)
class Filling(Generic[Key]):
    """The open sketches by key, such as a version and its season."""

    banks: dict[Shape, Bank] = field(default_factory=dict)
    slots: dict[Key, tuple[Bank, int]] = field(default_factory=dict)

    def __contains__(self, key: Key) -> bool:
        return key in self.slots

    def open(self, key: Key, layout: Layout, sketch: Sketch | None = None) -> None:
        """Begin to count for a key, or go on where `sketch` ends; the layout itself is not kept."""
        self.restore(key, Grid.of(layout), None if sketch is None else sketch.parts())

    def restore(
        self, key: Key, grid: Grid, known: Parts | None, *, most: int | None = None
    ) -> None:
        """Begin to count for a key, or go on where `known` ends.

        Args:
            most: rows that a sketch will ever have; few rows take fewer bytes.
        """
        self.restore_all([Known(key, grid, known, most)])

    def restore_all(self, every: Iterable[Known[Key]]) -> None:
        """The same for many keys, no key twice."""
        alike: dict[Hashable, list[Known[Key]]] = {}
        for one in every:
            self.drop(one.key)
            whole = one.without_lost_sums()
            alike.setdefault(whole.form, []).append(whole)
        for some in alike.values():
            shape = Shape.of(some[0].grid, some[0].most)
            bank = self.banks.get(shape)
            if bank is None:
                bank = self.banks[shape] = Bank(shape)
            slots = bank.open([one.grid for one in some], [one.parts for one in some])
            self.slots.update(
                (one.key, (bank, slot)) for one, slot in zip(some, slots, strict=True)
            )

    def add(self, keys: Sequence[Key], rows: Sequence[Row]) -> None:
        """Count rows, each for its key.

        Raises:
            KeyError: a key is not open; nothing was counted.
        """
        by_key: dict[Key, list[Row]] = {}
        for key, row in zip(keys, rows, strict=True):
            by_key.setdefault(key, []).append(row)
        self.count([Group(key, some) for key, some in by_key.items()])

    def count(self, groups: Sequence[Group[Key]]) -> None:
        """Count rows that come by their keys, no key twice.

        Raises:
            KeyError: a key is not open; nothing was counted.
        """
        alike: dict[_Form, list[tuple[int, Group[Key]]]] = {}
        banks: dict[int, Bank] = {}
        for (bank, slot), group in zip([self.slots[g.key] for g in groups], groups, strict=True):
            if group.rows:
                banks[id(bank)] = bank
                alike.setdefault((id(bank), *group.form), []).append((slot, group))
        for (name, _, _), own in alike.items():
            for some in _in_sweeps(own):
                slots = np.array([slot for slot, _ in some], dtype=np.int64)
                sizes = np.array([len(group.rows) for _, group in some], dtype=np.int64)
                rows = list(chain.from_iterable(group.rows for _, group in some))
                more = zip(*(group.more for _, group in some), strict=True)
                banks[name].add(slots, sizes, rows, [list(chain.from_iterable(m)) for m in more])

    def sketch(self, key: Key) -> Sketch:
        """What is counted for a key so far."""
        return read_sketch(self.parts(key))

    def parts(self, key: Key) -> Parts:
        """The same as it is stored."""
        bank, slot = self.slots[key]
        return bank.read(slot)

    def rows(self, key: Key) -> int:
        """How many rows are counted for a key so far."""
        bank, slot = self.slots[key]
        return int(bank.rows[slot])

    def write(self, key: Key, sketch: Sketch) -> None:
        """Replace what is counted."""
        bank, slot = self.slots[key]
        bank.write(slot, sketch.parts())

    def clear(self, key: Key) -> None:
        """Forget what is counted; the next window begins."""
        bank, slot = self.slots[key]
        bank.clear(slot)

    def drop(self, key: Key) -> None:
        """Forget a key."""
        if key in self.slots:
            bank, slot = self.slots.pop(key)
            bank.drop(slot)

    @property
    def size_bytes(self) -> int:
        """What the arrays take."""
        return sum(bank.size_bytes for bank in self.banks.values())


def _in_sweeps(
    groups: Sequence[tuple[int, Group[Any]]],
) -> Iterator[list[tuple[int, Group[Any]]]]:
    some: list[tuple[int, Group[Any]]] = []
    rows = 0
    for one in groups:
        some.append(one)
        rows += len(one[1].rows)
        if rows >= _AT_ONCE:
            yield some
            some, rows = [], 0
    if some:
        yield some
