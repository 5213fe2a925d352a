"""How numbers of one row move together: second moments of their scores, and sums of random waves.

Both are sums of whole numbers, so that they add and subtract exactly, in any order of rows and
batches, as counts do: a score is a whole 64th of a reference standard deviation, and the height of
a wave a whole 1024th. What the rounding changes, it changes in the reference as well.

Source: Rahimi and Recht (2007), Random Features for Large-Scale Kernel Machines, NIPS 20.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Floats = NDArray[np.float64]
Single = NDArray[np.float32]

UNIT: Final = 64
"""Scores are whole parts of this of a standard deviation."""
WAVES: Final = 128
HEIGHT: Final = 1024
"""Of a wave, in whole numbers."""
MOST_PAIRED: Final = 48
"""Numbers whose pairs are watched; the state grows with their square."""
SEED: Final = 20_260_301
"""The same for every profile, so that rows of many models can be worked out together."""

_TURN: Final = 4096
"""Steps of a full turn of a wave; a power of two."""
_GRID: Final = 128
"""Random directions are whole parts of this: sums of products stay exact in single precision."""
_POSITIVE: Final = float(2**20)
"""A whole number of turns that keeps every phase above zero, where truncation is rounding down."""
_EXACT: Final = 2**24
_COSINES: Final = np.round(np.cos(2 * np.pi * np.arange(_TURN) / _TURN) * HEIGHT).astype(np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """Sums over rows; d numbers take part.

    Attributes:
        moments: shape (d, d), sums of products of two scores, in 64ths squared.
        pairs: shape (d, d), rows in which both numbers are present.
        waves: shape (128,), sums of the heights of the waves.
    """

    moments: Whole
    pairs: Whole
    waves: Whole

    def __add__(self, other: "Joint") -> "Joint":
        return Joint(
            self.moments + other.moments, self.pairs + other.pairs, self.waves + other.waves
        )

    def __sub__(self, other: "Joint") -> "Joint":
        return Joint(
            self.moments - other.moments, self.pairs - other.pairs, self.waves - other.waves
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Which numbers take part, what their cells are worth, and how wide the waves are.

    Attributes:
        features: their places in the layout, in order.
        scores: of the cells of each, in 64ths; the last cell is missing and worth 0.
        width: the median distance of two rows of the reference; waves that are narrower see noise.
        seed: of the directions of the waves.
    """

    features: tuple[int, ...]
    scores: tuple[tuple[int, ...], ...]
    width: float
    seed: int = SEED
    _table: NDArray[np.int16] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        most = max((len(scores) for scores in self.scores), default=0)
        table = np.zeros((len(self.scores), most), dtype=np.int16)
        for place, scores in enumerate(self.scores):
            table[place, : len(scores)] = scores
        object.__setattr__(self, "_table", table)

    @property
    def size(self) -> int:
        """How many numbers take part."""
        return len(self.features)

    @property
    def table(self) -> NDArray[np.int16]:
        """The scores of the cells, shape (d, cells of the longest)."""
        return self._table

    @property
    def last(self) -> Whole:
        """The cell of each number that says missing."""
        return np.array([len(scores) - 1 for scores in self.scores], dtype=np.int64)

    def empty(self) -> Joint:
        """The sums over no rows."""
        square = (self.size, self.size)
        return Joint(
            np.zeros(square, dtype=np.int64),
            np.zeros(square, dtype=np.int64),
            np.zeros(WAVES, dtype=np.int64),
        )

    def scored(self, places: Whole) -> NDArray[np.int16]:
        """The scores of rows, shape (n, d), from the cells they lie in."""
        return np.asarray(self._table[np.arange(self.size), places])

    def joint(self, places: Whole) -> Joint:
        """The sums over a batch.

        Args:
            places: the cell of every number of every row, shape (n, d).
        """
        scores = self.scored(places)
        exact = scores.astype(np.float64)
        return Joint(
            (exact.T @ exact).astype(np.int64),
            _pairs(places != self.last),
            heights(scores, scale_of(self.width), self.seed).sum(axis=0, dtype=np.int64),
        )


def scale_of(width: float) -> np.float32:
    """Steps of a turn per unit of the product of scores and directions."""
    return np.float32(_TURN / (2 * np.pi * UNIT * _GRID * max(width, 1.0)))


def heights(scores: NDArray[np.int16], scale: np.float32 | Single, seed: int) -> NDArray[np.int16]:
    """The height of every wave at every row, shape (n, 128).

    Args:
        scores: shape (n, d), in 64ths.
        scale: `scale_of` the width; one for all rows, or shape (n, 1).
        seed: of the directions.
    """
    directions, phases = _waves(seed, scores.shape[1])
    # Whole numbers below 2**24: single precision holds every sum exactly, in whatever order.
    is_small = scores.shape[1] * 400 * 5 * _GRID < _EXACT
    kind = np.float32 if is_small else np.float64
    turned = (scores.astype(kind) @ directions.astype(kind)).astype(np.float32)
    turned *= scale
    turned += phases
    steps = turned.astype(np.int32)
    steps &= _TURN - 1
    return np.asarray(_COSINES.take(steps))


@lru_cache(maxsize=256)
def _waves(seed: int, numbers: int) -> tuple[Single, Single]:
    """Directions, shape (d, 128), in whole grid steps, and phases, shape (128,), in steps."""
    drawn = np.random.PCG64(seed).random_raw((numbers + 1) * WAVES)
    uniform = ((drawn >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    normal = [NormalDist().inv_cdf(p) for p in uniform[WAVES:].tolist()]
    # Beyond five standard deviations nothing is drawn in practice; the limit is for exactness.
    directions = np.clip(np.round(np.array(normal) * _GRID), -5 * _GRID, 5 * _GRID)
    phases = np.floor(uniform[:WAVES] * _TURN) + _POSITIVE
    return directions.reshape(numbers, WAVES).astype(np.float32), phases.astype(np.float32)


def _pairs(present: NDArray[np.bool_]) -> Whole:
    rows, numbers = present.shape
    if present.all():
        return np.full((numbers, numbers), rows, dtype=np.int64)
    exact = present.astype(np.float64)
    return np.asarray((exact.T @ exact).astype(np.int64))
