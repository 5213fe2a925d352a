"""Tail probabilities of whole arrays at once, as accurate far out as `shared.probability`.

Sources: Wichura (1988), Algorithm AS 241, Applied Statistics 37(3), for the normal quantile;
continued fractions by Lentz's method as in Thompson and Barnett (1986), J. Comput. Phys. 64.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.probability import LEAST

Floats = NDArray[np.float64]

_CENTRAL: Final = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_MIDDLE: Final = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR: Final = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)
_TINY: Final = 1e-300
_CLOSE: Final = 1e-13
_FEW: Final = 12
NORMAL_FROM: Final = 1e6
"""Degrees of freedom from which Student's t is taken as normal."""


def quantiles(p: ArrayLike) -> Floats:
    """Where the standard normal distribution has reached each `p`; clipped far out."""
    share = np.clip(np.asarray(p, dtype=np.float64), LEAST, 1 - 1e-16)
    q = share - 0.5
    found = np.asarray(q * _ratio(_CENTRAL, 0.180625 - q * q))
    outer = np.abs(q) > 0.425
    if outer.any():
        tail = np.where(q < 0, share, 1 - share)[outer]
        r = np.sqrt(-np.log(tail))
        far = _ratio(_MIDDLE, r - 1.6)
        if (r > 5).any():
            far = np.where(r <= 5, far, _ratio(_FAR, r - 5))
        found[outer] = np.copysign(far, q[outer])
    return found


def normal_tails(z: ArrayLike) -> Floats:
    """P(Z > z) of each z."""
    given = np.asarray(z, dtype=np.float64)
    flat = list(map(math.erfc, (given / math.sqrt(2)).ravel().tolist()))
    return 0.5 * np.array(flat, dtype=np.float64).reshape(given.shape)


def t_tails(t: ArrayLike, df: ArrayLike) -> Floats:
    """P(T > t) for Student's t, elementwise."""
    given, free = np.broadcast_arrays(np.asarray(t, np.float64), np.asarray(df, np.float64))
    found = normal_tails(given)
    few = free <= NORMAL_FROM
    if few.any():
        x, v = given[few], free[few]
        half = 0.5 * _beta(v / 2, 0.5, v / (v + x * x), x * x / (v + x * x))
        found[few] = np.where(x >= 0, half, 1 - half)
    return found


def chi_square_tails(x: ArrayLike, df: ArrayLike) -> Floats:
    """P(X > x) for chi square, elementwise; 1 without any degrees of freedom."""
    given, free = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(df, np.float64))
    found = np.ones(given.shape)
    real = (free > 0) & (given > 0)
    a, half = free[real] / 2, given[real] / 2
    tail = np.ones(a.shape)
    near = half < a + 1
    tail[near] = 1 - _gamma_series(a[near], half[near])
    tail[~near] = _gamma_fraction(a[~near], half[~near])
    found[real] = np.clip(tail, 0.0, 1.0)
    return found


def _ratio(pair: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    above, below = pair
    return np.asarray(_polynomial(above, x) / _polynomial(below, x))


def _polynomial(terms: tuple[float, ...], x: Floats) -> Floats:
    value = np.full(np.shape(x), terms[-1])
    for term in reversed(terms[:-1]):
        value *= x
        value += term
    return value


def _scale(a: Floats, x: Floats) -> Floats:
    logs = np.array([math.lgamma(v) for v in a.tolist()])
    return np.asarray(np.exp(np.clip(a * np.log(x) - x - logs, -745, 700)))


def _gamma_series(a: Floats, x: Floats) -> Floats:
    term = 1 / a
    added, k = term.copy(), a.copy()
    while term.size and bool(np.any(term > added * _CLOSE)):
        k = k + 1
        term = term * x / k
        added = added + term
    return added * _scale(a, x)


def _gamma_fraction(a: Floats, x: Floats) -> Floats:
    if a.size <= _FEW:
        return np.asarray(_scale(a, x) * np.array(_gamma_fractions(a.tolist(), x.tolist())))
    b = x + 1 - a
    c, d = np.full(a.shape, 1 / _TINY), 1 / b
    value = d.copy()
    for i in range(1, 500):
        step_up = -i * (i - a)
        b = b + 2
        d = 1 / _away(step_up * d + b)
        c = _away(b + step_up / c)
        step = c * d
        value = value * step
        if not step.size or float(np.abs(step - 1).max()) < _CLOSE:
            break
    return np.asarray(_scale(a, x) * value)


def _gamma_fractions(a: list[float], x: list[float]) -> list[float]:
    """The same one by one, to the last digit: for few of them arrays cost more than they save."""
    b = [above + 1 - below for above, below in zip(x, a, strict=True)]
    c, d = [1 / _TINY] * len(a), [1 / one for one in b]
    value = list(d)
    for i in range(1, 500):
        furthest = 0.0
        for k, degrees in enumerate(a):
            step_up = -i * (i - degrees)
            b[k] += 2
            below, above = step_up * d[k] + b[k], b[k] + step_up / c[k]
            d[k] = 1 / (_TINY if abs(below) < _TINY else below)
            c[k] = _TINY if abs(above) < _TINY else above
            step = c[k] * d[k]
            value[k] *= step
            furthest = max(furthest, abs(step - 1))
        if furthest < _CLOSE:
            break
    return value


def _beta(a: Floats, b: float, x: Floats, y: Floats) -> Floats:
    """Regularised incomplete beta function at x = 1 - y; both are given for accuracy."""
    logs = [math.lgamma(v + b) - math.lgamma(v) - math.lgamma(b) for v in a.tolist()]
    with np.errstate(divide="ignore"):
        scale = np.exp(np.clip(np.array(logs) + a * np.log(x) + b * np.log(y), -745, 0))
    low = x < (a + 1) / (a + b + 2)
    other = np.full(a.shape, b)
    first, second = np.where(low, a, other), np.where(low, other, a)
    part = scale * _beta_fraction(first, second, np.where(low, x, y)) / first
    return np.clip(np.where(low, part, 1 - part), 0.0, 1.0)


def _beta_fraction(a: Floats, b: Floats, x: Floats) -> Floats:
    c = np.ones(a.shape)
    both = a + b
    d = 1 / _away(1 - both * x / (a + 1))
    value = d.copy()
    for m in range(1, 500):
        even = a + 2 * m
        for up in (
            m * (b - m) * x / ((even - 1) * even),
            -(a + m) * (both + m) * x / (even * (even + 1)),
        ):
            d = 1 / _away(1 + up * d)
            c = _away(1 + up / c)
            step = c * d
            value = value * c * d
        if not value.size or float(np.abs(step - 1).max()) < _CLOSE:
            break
    return value


def _away(value: Floats) -> Floats:
    """Never quite zero; what is added to one cannot come nearer to zero than its last digit."""
    return value if value.all() else np.where(value == 0, _TINY, value)
