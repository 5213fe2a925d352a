"""Tail probabilities of whole arrays at once, accurate far out: levels per test are near 1e-6."""

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from shared.probability import LEAST, z_of

Floats = NDArray[np.float64]

_MOST: Final = 1 - 1e-16
_NORMAL_FROM: Final = 1e6
"""Degrees of freedom from which Student's t is taken as normal."""
_HARDLY: Final = 0.02
"""Skewness below which the first term of a correction is as good as the gamma distribution."""
_LEAST_SKEWNESS: Final = 1e-4
_FURTHEST: Final = 38.0


def quantiles(p: ArrayLike) -> Floats:
    """Where the standard normal distribution has reached each `p`; clipped far out."""
    return np.asarray(special.ndtri(np.minimum(np.maximum(p, LEAST), _MOST)))


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


def pearson_tails(z: Floats, skewness: Floats) -> Floats:
    """P(as far out by chance), both sides together, of a sum that is lopsided by chance.

    Sources: Pearson's type III, a shifted gamma distribution, as in Mielke and Berry (2007),
    Permutation Methods, chapter 2; Cornish and Fisher (1938) for what is hardly lopsided, whose
    gamma distribution has too many degrees of freedom to be computed.

    Args:
        z: standard errors from its mean.
        skewness: third standardised moment of the sum, the same shape.
    """
    df = _gamma_df(np.maximum(np.abs(skewness), _HARDLY))
    x = np.maximum(df + np.copysign(z, z * skewness) * np.sqrt(2 * df), 0.0)
    is_hardly, is_above = np.abs(skewness) < _HARDLY, x > df
    # Further out the correction would turn back, and nothing is left of the normal tail.
    near = np.minimum(np.maximum(z, -_FURTHEST), _FURTHEST)
    tail = normal_tails(np.abs(near - skewness * (np.square(near) - 1) / 6))
    special.chdtrc(df, x, out=tail, where=is_above & ~is_hardly)
    special.chdtr(df, x, out=tail, where=~(is_above | is_hardly))
    return np.asarray(np.minimum(2 * tail, 1.0))


def pearson_quantiles(tail: float, skewness: float) -> tuple[float, float]:
    """Where each `tail` of it begins, below and above, nearly.

    Source: Wilson and Hilferty (1931), PNAS 17(12): the cube root of chi square is nearly normal.
    """
    lopsided = max(abs(skewness), _LEAST_SKEWNESS)
    df = 8 / (lopsided * lopsided)
    error = math.sqrt(2 / (9 * df))
    middle, reach, unit = 1 - error * error, _z_of(tail) * error, math.sqrt(2 * df)
    low = (df * max(middle - reach, 0.0) ** 3 - df) / unit
    high = (df * max(middle + reach, 0.0) ** 3 - df) / unit
    return (low, high) if skewness >= 0 else (-high, -low)


_z_of = lru_cache(maxsize=1024)(z_of)


def _gamma_df(skewness: ArrayLike) -> Floats:
    """Degrees of freedom of the chi square that is as lopsided."""
    return np.asarray(8 / np.square(skewness))
