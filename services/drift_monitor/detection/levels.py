"""The cells of categories in many versions, each of which may have levels of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.sketch import WORDS, CategoryCells

Whole = NDArray[np.int64]

_UNKNOWN: Final = -1


@dataclass(slots=True)
class Levels:
    """The categories of versions by slot; every version has as many."""

    by_slot: dict[int, tuple[CategoryCells, ...]] = field(default_factory=dict)

    def common(self, slots: Sequence[int]) -> list[CategoryCells | None]:
        """Each category where all these versions share it, as those of a fleet mostly do."""
        kinds = zip(*map(self.by_slot.__getitem__, slots), strict=True)
        return [kind[0] if len(set(map(id, kind))) == 1 else None for kind in kinds]

    def places(
        self, number: int, column: Sequence[Any], owner: Whole, common: CategoryCells
    ) -> tuple[Whole, list[int]]:
        """The cell of every value where all versions share the levels of a category.

        Args:
            owner: the slot of each value.

        Returns:
            The cells, and the slots of values of a wrong type.
        """
        get, _ = common.lookup
        try:
            known = map(get, column, repeat(_UNKNOWN))
            found = np.fromiter(known, dtype=np.int64, count=len(column))
        except TypeError:
            found = _none_of(column)
        return found, self._find_others(found, number, column, owner)

    def places_apart(
        self, number: int, column: Sequence[Any], slots: Whole, sizes: Whole
    ) -> tuple[Whole, list[int]]:
        """The same for values that come slot after slot, so many of each, whatever their levels."""
        known: list[int] = []
        start = 0
        try:
            for slot, size in zip(slots.tolist(), sizes.tolist(), strict=True):
                get, _ = self.by_slot[slot][number].lookup
                known += map(get, column[start : start + size], repeat(_UNKNOWN))
                start += size
            found = np.array(known, dtype=np.int64)
        except TypeError:
            found = _none_of(column)
        return found, self._find_others(found, number, column, np.repeat(slots, sizes))

    def _find_others(
        self, found: Whole, number: int, column: Sequence[Any], owner: Whole
    ) -> list[int]:
        """Find the cells of values that are no level; the slots of those of a wrong type."""
        unknown = np.flatnonzero(found == _UNKNOWN)
        if not len(unknown):
            return []
        values = [column[row] for row in unknown.tolist()]
        slots = owner[unknown].tolist()
        cells = [self.by_slot[slot][number] for slot in slots]
        if set(map(type, values)) <= WORDS:
            found[unknown] = [one.lookup[1] for one in cells]
            return []
        pairs = list(zip(cells, values, strict=True))
        found[unknown] = [one.place(value) for one, value in pairs]
        return [slot for slot, (one, value) in zip(slots, pairs, strict=True) if one.wrong([value])]


def _none_of(column: Sequence[Any]) -> Whole:
    """A list, or the like, is among the values: each of them is looked at by itself."""
    return np.full(len(column), _UNKNOWN, dtype=np.int64)
