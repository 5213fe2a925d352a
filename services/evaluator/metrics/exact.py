"""Sums that are the same in every order, and shares that may not exist."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Floats

Counts = NDArray[np.int64]

EXACT_BITS: Final = 52
"""Bits of a float64 that sums of integers may fill and stay exact in any order."""
LEAST_EXPONENT: Final = -1074
"""Of the smallest float64 that is not zero; every number is a multiple of it."""


def quantised(columns: Floats, weight: int) -> tuple[Floats, Floats]:
    """Columns as whole numbers times a power of two each.

    Sums of them, weighted by counts that add up to `weight`, are below 2**53: they are exact, and
    the same in every order, on every processor, whatever library adds them.

    Returns:
        The whole numbers, shape of `columns`, and the powers of two, shape (columns,).
    """
    largest = np.abs(columns).max(axis=0, initial=0.0)
    exponents = np.frexp(largest)[1] - (EXACT_BITS - int(weight).bit_length())
    exponents = np.where(largest > 0, np.maximum(exponents, LEAST_EXPONENT), 0)
    steps = np.ldexp(np.ones_like(largest), exponents)
    whole: Floats = np.rint(columns / steps)
    return whole, steps


def ratio(above: Floats | Counts, below: Floats | Counts) -> Floats:
    """One over the other; NaN where there is nothing to divide by."""
    found = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found
