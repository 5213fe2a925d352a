"""What is known of chance, as arrays over features, so that all of them are tested at once."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.calibration import Factors, Scale

Floats = NDArray[np.float64]
_NONE: Final = Factors()

FACTORS: Final = (
    "location",
    "location_df",
    "scale",
    "scale_df",
    "shape",
    "shape_cells",
    "shape_spread",
    "shape_df",
    "fine",
    "missing",
    "tail",
    "clump",
    "root",
)
"""The factors of `Factors` by name, and what follows from them: the design effect of a share in a
tail (the steadiest estimate of how rows cluster), to how many rows one independent row amounts, and
the factor of the standard error of a share."""
_GIVEN: Final = FACTORS[:-3]
ROW: Final = {name: row for row, name in enumerate(FACTORS)}


@dataclass(frozen=True, slots=True, eq=False)
class Chance:
    """What is known of windows of some number of rows.

    Attributes:
        length, blocks: rows of the blocks that it was learned from, and how many there were; no
            blocks where rows count as independent.
        tested: which features can be tested, (F,).
        table: the factors of each feature, (factors, F); 1 where there are none.
        pairs: factors of the pairs of numbers; empty where they are not known.
        waves: mean distance of the waves over its expectation; `waves_spread` the factor of its z.
    """

    length: int
    blocks: int
    tested: NDArray[np.bool_]
    table: Floats
    pairs: Floats
    pairs_df: float
    waves: float
    waves_spread: float
    waves_df: float

    @classmethod
    def of(cls, known: Scale | None) -> "Chance":
        """A calibration as arrays.

        Raises:
            ValueError: there is none.
        """
        if known is None:
            raise ValueError("nothing is known of chance for so many rows")
        factors = [one or _NONE for one in known.factors]
        given = [[getattr(one, name) for one in factors] for name in _GIVEN]
        low, high = (np.array([getattr(f, name) for f in factors]) for name in ("low", "high"))
        location = np.array(given[ROW["location"]], dtype=np.float64)
        return cls(
            length=known.length,
            blocks=known.blocks,
            tested=np.array([one is not None for one in known.factors], dtype=np.bool_),
            table=np.array(
                [
                    *given,
                    [max(one.low, one.high, one.location**2) for one in factors],
                    np.maximum(np.maximum(low, high), np.square(location)),
                    [one.shape**0.5 for one in factors],
                ],
                dtype=np.float64,
            ),
            pairs=np.array(known.pairs, dtype=np.float64),
            pairs_df=known.pairs_df,
            waves=known.waves,
            waves_spread=known.waves_spread,
            waves_df=known.waves_df,
        )
