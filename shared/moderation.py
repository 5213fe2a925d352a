"""By how much statistics vary more than for independent rows, by few blocks of many features.

Source: Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3(1), for the moderated variances.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared import probability

Floats = NDArray[np.float64]

FREE: Final = 1e9
"""Degrees of freedom that stand for as many as one likes; JSON knows no infinity."""


def moderated(z: Sequence[Floats | None]) -> list[tuple[float, float]]:
    """Factor of the standard error and its degrees of freedom, per feature.

    Variances lean towards the one that all features suggest; features that move together do not
    count as several witnesses.

    Args:
        z: statistics of the blocks, per feature; None where there are too few blocks.
    """
    answer = [(1.0, FREE)] * len(z)
    groups: dict[int, list[tuple[int, Floats]]] = {}
    for place, found in enumerate(z):
        if found is not None and np.any(found):
            groups.setdefault(len(found), []).append((place, found))
    for blocks, members in groups.items():
        variances, df = _leaning(np.stack([found for _, found in members]), blocks - 1.0)
        for (place, _), variance in zip(members, variances, strict=True):
            answer[place] = (float(np.sqrt(max(1.0, variance))), min(df, FREE))
    return answer


def without_each(z: Floats) -> tuple[Floats, Floats]:
    """Factors and degrees of freedom, shape (F, B) each, that leave the block itself out.

    Args:
        z: shape (F, B); features whose statistics are all 0 must be left out.
    """
    factors, free = np.ones(z.shape), np.full(z.shape, FREE)
    for block in range(z.shape[1]):
        rest = np.delete(z, block, axis=1)
        found = moderated(list(rest))
        factors[:, block] = [factor for factor, _ in found]
        free[:, block] = [df for _, df in found]
    return factors, free


def witnesses(z: Floats) -> float:
    """How many independent features tell as much about a variance as these do, shape (F, B)."""
    norms = np.sqrt(np.sum(np.square(z), axis=1))
    alike = np.square((z @ z.T) / np.outer(norms, norms))
    return float(len(z) ** 2 / np.sum(alike))


def _leaning(z: Floats, d: float) -> tuple[Floats, float]:
    own = np.mean(np.square(z), axis=1)
    heard = witnesses(z)
    if heard < 1.5:
        return own, d
    e = np.log(own) - probability.digamma(d / 2) + np.log(d / 2)
    excess = float(np.var(e, ddof=1)) - probability.trigamma(d / 2)
    prior = 2 * probability.trigamma_inverse(excess) if excess > 0 else np.inf
    offset = probability.digamma(prior / 2) - np.log(prior / 2) if np.isfinite(prior) else 0.0
    common = float(np.exp(np.mean(e) + offset))
    d0 = min(prior, (heard - 1) * d)
    return (d0 * common + d * own) / (d0 + d), d0 + d
