"""The cells of a version in few bytes: what counting needs of a profile, and nothing else of it.

A profile has hundreds of kilobytes; to go on after a start takes the edges, levels and scores of
thousands of versions, and them only. A grid has them as arrays that lie in the bytes they were
read from.
"""

import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.errors import Unprocessable
from shared.joint import Basis, scale_of
from shared.sketch import CategoryCells, Layout, Level, NumberCells

_FORM: Final = b"L1"
_SIZE: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """The numbers that take part in the joint sums of a sketch.

    Attributes:
        features: their places in the layout.
        scores: of their cells, one after the other.
        sizes: how many cells each has.
        width: the median distance of two rows of the reference.
    """

    features: tuple[int, ...]
    scores: NDArray[np.int16]
    sizes: tuple[int, ...]
    width: float
    seed: int

    @classmethod
    def of(cls, basis: Basis) -> "Paired":
        """The same numbers."""
        return cls(
            basis.features,
            np.array([score for some in basis.scores for score in some], dtype="<i2"),
            tuple(len(some) for some in basis.scores),
            basis.width,
            basis.seed,
        )

    @property
    def scale(self) -> np.float32:
        """Steps of a turn of a wave per unit."""
        return scale_of(self.width)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A layout as arrays.

    Attributes:
        sizes: of the edges of each feature; None where it is a category.
        edges: of all numbers, one after the other.
        words: the cells of each category, in order.
        paired: None where nothing is kept of how numbers move together.
    """

    sizes: tuple[int | None, ...]
    edges: NDArray[np.float64]
    words: tuple[CategoryCells, ...]
    paired: Paired | None
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, layout: Layout) -> "Grid":
        """The same cells."""
        numbers = [cells for cells in layout.features if isinstance(cells, NumberCells)]
        return cls(
            sizes=tuple(
                len(cells.edges) if isinstance(cells, NumberCells) else None
                for cells in layout.features
            ),
            edges=np.array([edge for cells in numbers for edge in cells.edges], dtype="<f8"),
            words=tuple(cells for cells in layout.features if isinstance(cells, CategoryCells)),
            paired=Paired.of(layout.basis) if layout.basis else None,
            names=tuple(cells.name for cells in layout.features),
        )

    @property
    def cells(self) -> list[int]:
        """How many cells each feature has."""
        words = iter(self.words)
        return [next(words).size if size is None else size + 2 for size in self.sizes]

    @property
    def last(self) -> NumberCells | None:
        """The cells of the last feature; None where it is a category."""
        size = self.sizes[-1] if self.sizes else None
        if size is None:
            return None
        edges = self.edges[len(self.edges) - size :].tolist()
        return NumberCells(name=self.names[-1], edges=tuple(edges))

    def alone(self) -> "Grid":
        """The same without the joint sums."""
        return replace(self, paired=None)

    def to_bytes(self) -> bytes:
        """A header of names and sizes, then all edges, then all scores."""
        paired = self.paired
        header = orjson.dumps(
            {
                "names": self.names,
                "sizes": self.sizes,
                "levels": [list(cells.levels) for cells in self.words],
                "paired": paired
                and {
                    "features": paired.features,
                    "sizes": paired.sizes,
                    "width": paired.width,
                    "seed": paired.seed,
                },
            }
        )
        scores = paired.scores.tobytes() if paired else b""
        return b"".join([_FORM, _SIZE.pack(len(header)), header, self.edges.tobytes(), scores])

    @classmethod
    def read(cls, data: bytes) -> "Grid":
        """What was written.

        Raises:
            Unprocessable: the bytes are no cells of this form.
        """
        if data[:2] != _FORM:
            raise Unprocessable("these bytes are no cells of this form")
        (size,) = _SIZE.unpack_from(data, 2)
        start = 2 + _SIZE.size
        header = orjson.loads(data[start : start + size])
        sizes, names = tuple(header["sizes"]), tuple(header["names"])
        edges = sum(length for length in sizes if length is not None)
        start += size
        levels = iter(header["levels"])
        return cls(
            sizes=sizes,
            edges=np.frombuffer(data, dtype="<f8", count=edges, offset=start),
            words=tuple(
                _words(name, tuple(next(levels)))
                for name, length in zip(names, sizes, strict=True)
                if length is None
            ),
            paired=header["paired"] and _paired(header["paired"], data, start + 8 * edges),
            names=names,
        )


@lru_cache(maxsize=10_000)
def _words(name: str, levels: tuple[Level, ...]) -> CategoryCells:
    """The same object for the same levels, which versions of one fleet mostly share."""
    return CategoryCells(name=name, levels=levels)


def _paired(header: dict[str, Any], data: bytes, start: int) -> Paired:
    return Paired(
        tuple(header["features"]),
        np.frombuffer(data, dtype="<i2", offset=start),
        tuple(header["sizes"]),
        header["width"],
        header["seed"],
    )
