"""Tail probabilities of whole arrays at once, accurate far out: levels per test are near 1e-6."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from shared.probability import LEAST

Floats = NDArray[np.float64]

_MOST: Final = 1 - 1e-16
_NORMAL_FROM: Final = 1e6
"""Degrees of freedom from which Student's t is taken as normal."""


def quantiles(p: ArrayLike) -> Floats:
    """Where the standard normal distribution has reached each `p`; clipped far out."""
    return np.asarray(special.ndtri(np.clip(p, LEAST, _MOST)))


def normal_tails(z: ArrayLike) -> Floats:
    """P(Z > z) of each z."""
    return np.asarray(special.ndtr(-np.asarray(z, dtype=np.float64)))


def t_tails(t: ArrayLike, df: ArrayLike) -> Floats:
    """P(T > t) for Student's t, elementwise; the degrees of freedom fit the shape of `t`."""
    free = np.asarray(df, dtype=np.float64)
    if (free > _NORMAL_FROM).all():
        return normal_tails(t)
    return np.asarray(special.stdtr(free, -np.asarray(t, dtype=np.float64)))


def chi_square_tails(x: ArrayLike, df: ArrayLike) -> Floats:
    """P(X > x) for chi square, elementwise; 1 without any degrees of freedom."""
    free = np.asarray(df, dtype=np.float64)
    return np.where(free > 0, special.chdtrc(free, np.maximum(x, 0.0)), 1.0)
