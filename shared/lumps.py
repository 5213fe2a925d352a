"""Correlations that a few rows decide: how far out they lie when chance comes in lumps.

Numbers that are nearly always one value, or missing, say how they move together in the few rows
where both say something. A sum of such products is no normal one: where one row in ten is expected,
a single one lies three standard errors out. Here the law of a sum that jumps takes the place of the
normal one, with the third and fourth moments that the rows of both numbers themselves make, if
nothing but chance pairs them. Sources: Pitman (1937), J. R. Stat. Soc. Suppl. 4, for the moments
over all pairings; Bennett (1962), JASA 57, for the tail; Daniels (1954), Ann. Math. Stat. 25, for
the normal deviate of such a tail.
"""

from math import log1p, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

POWERS: Final = 4
"""Sums of this many powers of scores tell how uneven numbers are."""
_CONSTANT: Final = 1e-7
"""Variances of whole scores below this are what rounding leaves of none."""
_NORMAL: Final = 3.0
"""Fourth standardised moment of a normal number."""
_SMALL: Final = 1e-4
_STEPS: Final = 60


def lumps_of(sums: Floats, rows: Whole, pairs: Whole) -> Floats:
    """By how much one row's product of two scores is more uneven than that of normal numbers.

    Args:
        sums: of the scores of each number, of their squares, cubes and fourth powers,
            shape (4, ..., d).
        rows: that have the number, shape (..., d).
        pairs: rows in which both are present, shape (..., d, d).

    Returns:
        Of all pairs a < b, shape (..., d(d-1)/2): at least the square of the third and the excess
        of the fourth standardised moment; infinite where a number does not vary.
    """
    mean, square, cube, fourth = sums / np.maximum(rows, 1)
    variance = square - mean**2
    third = cube - 3 * mean * square + 2 * mean**3
    last = fourth - 4 * mean * cube + 6 * mean**2 * square - 3 * mean**4
    varies = variance > _CONSTANT
    with np.errstate(divide="ignore", invalid="ignore"):
        lopsided, long = third**2 / variance**3, last / variance**2
    upper = np.triu_indices(pairs.shape[-1], 1)
    overlap = _overlap(pairs)[..., *upper]
    # Where all rows have both, they also tell how wide both are, which takes most of the tail of
    # the product away; where they do not, numbers that move together make it up to twice as long.
    excess = _products(long, upper) * (2 - overlap) - _NORMAL - (_NORMAL**2 - _NORMAL) * overlap
    found = np.maximum(np.maximum(excess, _products(lopsided, upper)), 0.0)
    both = varies[..., upper[0]] & varies[..., upper[1]]
    return np.asarray(np.where(both, found, np.inf))


def _products(values: Floats, upper: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Floats:
    first, second = upper
    return np.asarray(values[..., first] * values[..., second])


def _overlap(pairs: Whole) -> Floats:
    """Rows with both over the mean of the rows with either, shape (..., d, d)."""
    own = np.sqrt(np.diagonal(pairs, axis1=-2, axis2=-1))
    both = own[..., :, None] * own[..., None, :]
    return np.asarray(np.divide(pairs, both, out=np.zeros(pairs.shape), where=both > 0))


def lumpiness(lumps: Floats, rows: Floats, others: Floats, other_rows: Floats) -> Floats:
    """The same of the difference of two means of products, in its own standard deviations.

    Its root is the jump that one row makes.

    Args:
        lumps, rows: of one row of a window, and how many have both; `others` of the rest.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (lumps / rows**3 + others / other_rows**3) / (1 / rows + 1 / other_rows) ** 2
    return np.asarray(np.where(np.isnan(found), np.inf, found))


def held_back(z: Floats, linear: Floats, lumpy: Floats) -> Floats:
    """Standard errors of transformed correlations, or of plain ones where these are lumpy.

    The transformation stretches what lies near to one, as a single row with both does.

    Args:
        linear: the same of the correlations themselves; `lumpy` see `lumpiness`.
    """
    far, near = np.abs(z), np.minimum(np.abs(linear), np.abs(z))
    return np.asarray(np.copysign(far + share_of_lumps(z, lumpy) * (near - far), z))


def share_of_lumps(z: Floats, lumpy: Floats) -> Floats:
    """How much a deviation has to do with single rows, from 0 to 1, which one row could make."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nan_to_num(np.minimum(np.sqrt(lumpy) * np.abs(z), 1.0)))


def normal_deviates(z: Floats, lumpy: Floats) -> Floats:
    """The normal deviates that are as unlikely as these are where chance is lumpy."""
    with np.errstate(invalid="ignore"):
        x = np.sqrt(lumpy) * np.abs(z)
        raw = np.sqrt(2 * ((1 + x) * np.log1p(x) - x)) / x
    found = np.where(x < _SMALL, 1 - x / 6, raw)
    return np.asarray(z * np.where(np.isfinite(lumpy), np.nan_to_num(found), 0.0))


def deviate_for(normal: float, lumpy: float) -> float:
    """The deviation whose normal deviate is this one, see `normal_deviates`."""
    jump, rate = sqrt(lumpy), lumpy * normal * normal / 2
    if jump * normal < _SMALL:
        return normal
    x = sqrt(2 * rate) + rate
    for _ in range(_STEPS):
        step = ((1 + x) * log1p(x) - x - rate) / log1p(x)
        x -= step
        if abs(step) <= 1e-12 * x:
            break
    return x / jump
