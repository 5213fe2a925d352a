"""What the sketches of one bank have in common, and how their edges lie in its tables."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.layouts import Grid

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
def ways(
    sizes: tuple[int | None, ...], widths: tuple[int, ...]
) -> tuple[NDArray[np.int64], dict[int, Way]]:
    """The cell of each number that says missing, and how edges come into the tables."""
    lengths = np.array([size for size in sizes if size is not None], dtype=np.int64)
    of_number = np.repeat(np.arange(len(lengths)), lengths)
    found: dict[int, Way] = {}
    for width in dict.fromkeys(widths):
        alike = [place for place, other in enumerate(widths) if other == width]
        taken = np.flatnonzero(np.isin(of_number, alike))
        found[width] = (filled(tuple(lengths[alike].tolist()), width), taken)
    return lengths + 1, found


@lru_cache(maxsize=64)
def filled(lengths: tuple[int, ...], width: int) -> NDArray[np.intp]:
    """The places of a table whose rows are filled so far."""
    return np.flatnonzero(np.arange(width) < np.array(lengths, dtype=np.int64)[:, None])


def _stepped(size: int) -> int:
    return max(-(-size // _GRAIN), 1) * _GRAIN
