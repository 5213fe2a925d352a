"""Tail probabilities, far out too, without a numerical library in the process.

Per-test levels near 1e-6 make the far tail what matters; every function is accurate to about ten
digits there. Sources: Abramowitz and Stegun (1964), chapters 6 and 26; the continued fractions by
Lentz's method as in Thompson and Barnett (1986), J. Comput. Phys. 64.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import Final

LEAST: Final = 1e-300
"""Probabilities below are this: the normal quantile of nothing does not exist."""

_NORMAL: Final = NormalDist()
_TINY: Final = 1e-300
_CLOSE: Final = 1e-15
_HARDLY: Final = 1e-9


def normal_quantile(p: float) -> float:
    """Where the standard normal distribution has reached `p`; clipped far out."""
    return _NORMAL.inv_cdf(min(max(p, LEAST), 1 - 1e-16))


def normal_density(z: float) -> float:
    """Density of the standard normal distribution; 0 at both infinities."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) if math.isfinite(z) else 0.0


def normal_sf(z: float) -> float:
    """P(Z > z)."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def z_of(p: float) -> float:
    """The z whose upper tail is `p`."""
    return -normal_quantile(p)


def chi_square_sf(x: float, df: float) -> float:
    """P(X > x) for chi square with `df` degrees of freedom; 1 without any."""
    return _gamma_sf(df / 2, x / 2) if df > 0 and x > 0 else 1.0


def t_sf(t: float, df: float) -> float:
    """P(T > t) for Student's t; beyond a million degrees of freedom it is normal."""
    if df > 1e6:
        return normal_sf(t)
    half = 0.5 * _beta(df / 2, 0.5, df / (df + t * t))
    return half if t >= 0 else 1 - half


@lru_cache(maxsize=1024)
def t_quantile(level: float, df: float) -> float:
    """The t with P(T > t) = level, for levels below one half."""
    high = max(1.0, z_of(level))
    while t_sf(high, df) > level:
        high *= 2
    return _bisect(lambda t: t_sf(t, df) > level, 0.0, high)


def binomial_sf(x: int, n: int) -> float:
    """P(X >= x) for n throws of a fair coin, from whole numbers."""
    if x <= 0:
        return 1.0
    if x > n:
        return 0.0
    ways = term = math.comb(n, x)
    for k in range(x, n):
        term = term * (n - k) // (k + 1)
        ways += term
    return ways / (1 << n)


def binomial_tail(x: int, n: int, share: float) -> float:
    """P(X >= x) for n throws that succeed with this share."""
    if x <= 0 or share >= 1:
        return float(x <= n)
    return _beta(float(x), n - x + 1.0, share) if x <= n else 0.0


def share_interval(x: int, n: int, level: float) -> tuple[float, float]:
    """The exact interval of a share, `x` of `n`, wrong on either side with half of `level`.

    Source: Clopper and Pearson (1934), Biometrika 26(4).
    """
    if n <= 0:
        return 0.0, 1.0
    half = level / 2
    low = 0.0 if x <= 0 else _bisect(lambda p: binomial_tail(x, n, p) < half, 0.0, x / n)
    high = 1.0
    if x < n:
        high = _bisect(lambda p: 1 - binomial_tail(x + 1, n, p) > half, x / n, 1.0)
    return low, high


@lru_cache(maxsize=8192)
def share_least(x: float, n: float, level: float) -> float:
    """Below this share `x` or more of `n` have a probability of less than `level`.

    Both may be broken, as sizes are that stand for rows which are alike. The upper end of a share
    is `1 - share_least(n - x, n, level)`. Source: Clopper and Pearson (1934), Biometrika 26(4).
    """
    # What is left of nothing after rounding would be too far out to be told from nothing.
    if x <= _HARDLY or n <= 0:
        return 0.0
    if x >= n:
        return float(level ** (1 / n))

    def off(share: float) -> float:
        return math.log(max(_beta(x, n - x + 1, share), LEAST)) - math.log(level)

    high, low = x / n, share_bound(x, n, z_of(level))
    least, most = off(low), off(high)
    if most <= 0:
        return high
    while least > 0:
        high, most, low = low, least, low / 2
        least = off(low)
    return _falsi(off, low, high, least, most)


@lru_cache(maxsize=8192)
def hypergeometric_sf(x: float, total: float, marked: float, drawn: float) -> float:
    """P(X >= x), the marked among `drawn` of `total` things, `marked` of which are marked."""
    total, marked, drawn, x = round(total), round(marked), round(drawn), math.ceil(x)
    least, most = max(0, drawn + marked - total), min(marked, drawn)
    if x <= least:
        return 1.0
    if x > most:
        return 0.0
    # Towards the end that is further from the mean terms fall from the first one on: whatever is
    # too small to be told from nothing is nothing.
    if x * total <= drawn * marked:
        rest = total - marked
        return 1 - _drawn_at_least(drawn - x + 1, total, rest, drawn)
    return min(_drawn_at_least(x, total, marked, drawn), 1.0)


def _drawn_at_least(x: int, total: int, marked: int, drawn: int) -> float:
    """The sum of all terms from `x` on, which lies at the mean or above."""
    term = math.exp(
        _log_choose(marked, x) + _log_choose(total - marked, drawn - x) - _log_choose(total, drawn)
    )
    added = term
    for k in range(x, min(marked, drawn)):
        term *= (marked - k) * (drawn - k) / ((k + 1) * (total - marked - drawn + k + 1))
        added += term
        if term < added * _CLOSE:
            break
    return added


def share_bound(x: float, n: float, z: float) -> float:
    """Wilson's lower bound of a share: `x` of `n`, `z` standard errors away."""
    if n <= 0:
        return 0.0
    share, spread = x / n, z * z / n
    root = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (share + spread / 2 - root) / (1 + spread))


def digamma(x: float) -> float:
    """Derivative of the logarithm of the gamma function, x > 0."""
    below = 0.0
    while x < 10:
        below -= 1 / x
        x += 1
    y = 1 / (x * x)
    return below + math.log(x) - 0.5 / x - y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y / 240)))


def trigamma(x: float) -> float:
    """Derivative of `digamma`, x > 0."""
    below = 0.0
    while x < 10:
        below += 1 / (x * x)
        x += 1
    y = 1 / (x * x)
    series = y * (1 / 6 - y * (1 / 30 - y * (1 / 42 - y / 30)))
    return below + 1 / x + y / 2 + series / x


def trigamma_inverse(value: float) -> float:
    """The x with trigamma(x) = value, value > 0."""
    high = 1.0
    while trigamma(high) > value:
        high *= 2
    return _bisect(lambda x: trigamma(x) > value, 1e-8, high)


def _bisect(is_left: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(80):
        middle = (low + high) / 2
        if high - low <= 1e-10 * high:
            break
        if is_left(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _falsi(
    off: Callable[[float], float], low: float, high: float, least: float, most: float
) -> float:
    """Where a rising function is 0, by false position as of Illinois: Dowell and Jarratt (1971)."""
    middle, side = low, 0
    for _ in range(60):
        before, middle = middle, (low * most - high * least) / (most - least)
        if abs(middle - before) <= 1e-10 * middle:
            break
        here = off(middle)
        if here > 0:
            high, most = middle, here
            least = least / 2 if side > 0 else least
            side = 1
        else:
            low, least = middle, here
            most = most / 2 if side < 0 else most
            side = -1
    return middle


def _log_choose(n: float, k: float) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _gamma_sf(a: float, x: float) -> float:
    scale = math.exp(min(a * math.log(x) - x - math.lgamma(a), 700))
    if x < a + 1:
        term = added = 1 / a
        k = a
        while abs(term) > abs(added) * _CLOSE:
            k += 1
            term *= x / k
            added += term
        return max(0.0, 1 - added * scale)
    b = x + 1 - a
    return scale * _lentz(1 / b, b, 1 / _TINY, lambda i: -i * (i - a), lambda i: b + 2 * i)


def _beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    scale = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return scale * _beta_fraction(a, b, x) / a
    return 1 - scale * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    def numerator(i: int) -> float:
        m = i // 2
        if i % 2:
            return -(a + m) * (a + b + m) * x / ((a + i - 1) * (a + i))
        return m * (b - m) * x / ((a + i - 1) * (a + i))

    first = 1 + numerator(1)
    first = first if abs(first) > _TINY else _TINY
    return _lentz(1 / first, first, 1.0, lambda i: numerator(i + 1), lambda _: 1.0)


def _lentz(
    value: float,
    denominator: float,
    c: float,
    numerator: Callable[[int], float],
    constant: Callable[[int], float],
) -> float:
    """A continued fraction from its second level on; `denominator` is that of the first."""
    d = 1 / denominator
    for i in range(1, 10_000):
        d = constant(i) + numerator(i) * d
        c = constant(i) + numerator(i) / c
        d = 1 / (d if abs(d) > _TINY else _TINY)
        c = c if abs(c) > _TINY else _TINY
        step = d * c
        value *= step
        if abs(step - 1) < _CLOSE:
            break
    return value
