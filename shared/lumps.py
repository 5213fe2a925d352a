"""Correlations that a few rows decide: how far out they lie when chance comes in lumps.

Numbers that are nearly always one value, or missing, say how they move together in the few rows
where both say something. A sum of such products is no normal one: where one row in ten is expected,
a single one lies three standard errors out. Here the law of a sum that jumps takes the place of the
normal one, with the third and fourth moments that the rows of both numbers themselves make, if
nothing but chance pairs them. Sources: Pitman (1937), J. R. Stat. Soc. Suppl. 4, for the moments
over all pairings; Bennett (1962), JASA 57, for the tail; Skellam (1946), J. R. Stat. Soc. 109, for
jumps in both directions; Daniels (1954), Ann. Math. Stat. 25, for the normal deviate of such a
tail.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_CONSTANT: Final = 1e-7
"""Variances of whole scores below this are what rounding leaves of none."""
_NORMAL: Final = 3.0
"""Fourth standardised moment of a normal number."""
_SMALL: Final = 1e-4
_STEPS: Final = 60
_EXACT: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lumps:
    """How uneven chance is, of products of two scores or of a difference of their means.

    Attributes:
        size: at least the square of the third, and the excess of the fourth standardised moment,
            never below 0; infinite where a number does not vary. Its root is the jump of one row.
        skewness: the third one; its sign is the direction in which chance jumps further.
    """

    size: Floats
    skewness: Floats

    def lean(self) -> Floats:
        """Which way the jumps point, from -1, all of them down, to 1; 0 where there are none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.nan_to_num(self.skewness / np.sqrt(self.size), posinf=0.0, neginf=0.0)
        return np.asarray(np.minimum(np.maximum(found, -1.0), 1.0))


def unevenness(sums: Floats, rows: Whole) -> Floats:
    """Third and fourth standardised moment of numbers, shape (2, ..., d); infinite for constants.

    Args:
        sums: of the scores of each number, of their squares, cubes and fourth powers,
            shape (4, ..., d).
        rows: that have the number, shape (..., d).
    """
    mean, square, cube, fourth = sums / np.maximum(rows, 1)
    variance = square - mean**2
    third = cube - 3 * mean * square + 2 * mean**3
    last = fourth - 4 * mean * cube + 6 * mean**2 * square - 3 * mean**4
    varies = variance > _CONSTANT
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.stack([third / (variance * np.sqrt(variance)), last / variance**2])
    return np.asarray(np.where(varies, found, np.inf))


def lumps_of(
    first: tuple[Floats, Floats],
    second: tuple[Floats, Floats],
    rows: Whole,
    other_rows: Whole,
    both: Whole,
    usual: Floats,
) -> Lumps:
    """By how much one row's product of two scores is more uneven than that of normal numbers.

    Args:
        first, second: `unevenness` of both numbers of each pair.
        rows, other_rows: that have the first and the second one; `both`: that have both.
        usual: their correlation, where nothing changes.
    """
    # As far as rows with both also tell how wide each is, they take of the product's tail away.
    mine, other = (both / np.maximum(some, 1) for some in (rows, other_rows))
    varies = np.isfinite(first[1]) & np.isfinite(second[1])
    with np.errstate(invalid="ignore"):
        # Without gaps (a - 3)(b - 3) - 6, all of it the pairing's. With gaps, numbers that move
        # together make the tail up to twice as long: of normal ones 6 + 36 r^2 + 6 r^4 is above 6.
        longer = 1 + (1 - overlap(rows, other_rows, both)) * np.minimum(3 * np.square(usual), 1.0)
        excess = first[1] * second[1] * longer - _NORMAL
        for one, share in ((first[1], mine), (second[1], other)):
            excess = excess - _NORMAL * (one - 1) * share
        skewness = first[0] * second[0]
        size = np.maximum(np.maximum(excess, np.square(skewness)), 0.0)
    return Lumps(size=np.where(varies, size, np.inf), skewness=np.where(varies, skewness, 0.0))


def overlap(rows: Whole, other_rows: Whole, both: Whole) -> Floats:
    """Rows with both over the mean of the rows with either; 1 without gaps."""
    own = np.sqrt(np.asarray(rows, dtype=np.float64) * other_rows)
    return np.divide(both, own, out=np.zeros(np.shape(own)), where=own > 0)


def lumpiness(lumps: Lumps, rows: Floats, others: Lumps, other_rows: Floats) -> Lumps:
    """The same of the difference of two means of products, in its own standard deviations.

    Args:
        lumps, rows: of one row of a window, and how many have both; `others` of the rest.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = 1 / rows + 1 / other_rows
        size = (lumps.size / rows**3 + others.size / other_rows**3) / total**2
        lean = (lumps.skewness / rows**2 - others.skewness / other_rows**2) / total**1.5
    return Lumps(size=np.where(np.isnan(size), np.inf, size), skewness=np.nan_to_num(lean))


def share_of_lumps(z: Floats, size: Floats, overlap: Floats) -> Floats:
    """How much a deviation is one of plain correlations, from 0 to 1.

    The transformation takes the noise of variances away that the same rows tell, where there are
    no gaps; and it stretches what lies near to one, as a single row with both does.
    """
    with np.errstate(invalid="ignore"):
        single = np.nan_to_num(np.minimum(np.sqrt(size) * np.abs(z), 1.0))
    return np.asarray(1 - overlap * (1 - single))


def held_back(z: Floats, linear: Floats, share: Floats) -> Floats:
    """Standard errors of transformed correlations, or of plain ones, never further out.

    Args:
        linear: the same of the correlations themselves; `share` see `share_of_lumps`.
    """
    far, near = np.abs(z), np.minimum(np.abs(linear), np.abs(z))
    return np.asarray(np.copysign(far + share * (near - far), z))


def normal_deviates(z: Floats, size: Floats, lean: Floats) -> Floats:
    """The normal deviates that are as unlikely as these are where chance is lumpy.

    Args:
        size, lean: of `Lumps`. Against the lean the tail is taken as that of jumps both ways.
    """
    with np.errstate(invalid="ignore"):
        x = np.sqrt(size) * np.abs(z)
        rate, _ = _rates(x, (1 + np.maximum(lean * np.sign(z), 0.0)) / 2)
        raw = np.sqrt(2 * np.maximum(rate, 0.0)) / x
    found = np.where(x < _SMALL, 1.0, raw)
    return np.asarray(z * np.where(np.isfinite(size), np.nan_to_num(found), 0.0))


def deviates_for(normal: Floats, size: Floats, lean: Floats) -> Floats:
    """The deviations whose normal deviates are these, see `normal_deviates`; all above 0."""
    jump = np.sqrt(size)
    found = np.array(np.broadcast_to(normal, np.broadcast_shapes(*map(np.shape, (normal, size)))))
    lumpy = np.nonzero(jump * normal >= _SMALL)
    if not len(lumpy[0]):
        return found
    wanted, jump = found[lumpy], jump[lumpy]
    rate, up = np.square(jump * wanted) / 2, (1 + np.maximum(lean[lumpy], 0.0)) / 2
    # From above, where the tail of jumps in one direction lies, steps only go down.
    x = np.sqrt(2 * rate) + rate
    for _ in range(_STEPS):
        reached, slope = _rates(x, up)
        step = (reached - rate) / slope
        x -= step
        if (step <= _EXACT * x).all():
            break
    found[lumpy] = x / jump
    return found


def deviate_for(normal: float, size: float, lean: float) -> float:
    """The same of one."""
    one, other, last = (np.array([value]) for value in (normal, size, lean))
    return float(deviates_for(one, other, last)[0]) if size else normal


def _rates(x: Floats, up: Floats) -> tuple[Floats, Floats]:
    """What a deviation of so many jumps costs, by the law of large deviations, and its slope.

    Args:
        up: the part of the variance that is of jumps in the direction of the deviation.
    """
    middle = x + 2 * up - 1
    y = (middle + np.sqrt(np.square(middle) + 4 * up * (1 - up))) / (2 * up)
    slope = np.log(y)
    return x * slope - up * (y - 1 - slope) - (1 - up) * (1 / y - 1 + slope), slope
