"""How the numbers of the reference move together, and tests of windows against it.

Pairs by the difference of their correlations of normal scores, all numbers at once by the distance
of mean random waves. Sources: Fisher (1921), Metron 1, for the transformed correlation; Steiger and
Hakstian (1982), Br. J. Math. Stat. Psychol. 35, for its variance without normality; Gretton et al.
(2012), JMLR 13, for the distance; Pearson (1959), Biometrika 46, for the law by three moments.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.cells import location_scores
from shared.joint import HEIGHT, MOST_PAIRED, UNIT, WAVES, Basis, Joint, heights, scale_of
from shared.lumps import (
    Lumps,
    held_back,
    lumpiness,
    lumps_of,
    overlap,
    share_of_lumps,
    unevenness,
)
from shared.sketch import Layout, NumberCells
from shared.tails import chi_square_tails

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

MOST_ROWS: Final = 200_000
"""The newest ones; more tell hardly more about how numbers move together."""
_NEAR: Final = 400
"""Rows whose distances say how wide the waves are."""
_CHUNK: Final = 8192
_CLOSE: Final = 0.999
"""Correlations count as no closer than this: two columns that are copies of each other."""
_WAVE: Final = np.sqrt(2 / WAVES) / HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Together:
    """What is known of the reference.

    Attributes:
        rows: so many were looked at.
        joint: their sums.
        firsts: sums of the scores, shape (d,).
        spread: standard error of each transformed correlation over that of normal numbers.
        eigenvalues: of the covariance of the waves.
    """

    rows: int
    joint: Joint
    firsts: Whole
    spread: tuple[float, ...]
    eigenvalues: tuple[float, ...]


def basis_of(layout: Layout, counts: Whole, places: list[Whole], columns: int) -> Basis | None:
    """What the cells of the first numbers among the columns are worth; None with fewer than two.

    Args:
        counts: of the reference, all features one after the other.
        places: the cell of every row, per feature.
        columns: how many features are columns; the others are outputs.
    """
    numbers = [
        place
        for place, cell in enumerate(layout.features[:columns])
        if isinstance(cell, NumberCells)
    ][:MOST_PAIRED]
    if len(numbers) < 2:
        return None
    parts = layout.split(counts)
    scores = []
    for place in numbers:
        exact = np.round(location_scores(parts[place][:-1]) * UNIT) if parts[place].any() else 0
        scores.append((*np.broadcast_to(exact, len(parts[place]) - 1).astype(int).tolist(), 0))
    basis = Basis(features=tuple(numbers), scores=tuple(scores), width=1.0)
    among = np.stack([places[place] for place in numbers], axis=1)
    return Basis(features=tuple(numbers), scores=tuple(scores), width=_width(basis.scored(among)))


def _width(scores: NDArray[np.int16]) -> float:
    """The median distance of two rows."""
    step = max(1, len(scores) // _NEAR)
    some = scores[::step][:_NEAR].astype(np.float64) / UNIT
    squares = np.sum(np.square(some), axis=1)
    apart = squares[:, None] + squares[None, :] - 2 * some @ some.T
    found = np.sqrt(np.maximum(apart[np.triu_indices(len(some), 1)], 0.0))
    return round(float(np.median(found)), 6) if len(found) else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """The newest rows of a reference by their scores and waves."""

    basis: Basis
    scores: NDArray[np.int16]
    present: NDArray[np.bool_]
    waves: NDArray[np.int16]

    @classmethod
    def of(cls, basis: Basis, places: Whole) -> "Moved":
        """Rows by the cells of their numbers, shape (n, d), in the order of time."""
        kept = places[-MOST_ROWS:]
        scores = basis.scored(kept)
        scale = scale_of(basis.width)
        parts = [
            heights(scores[start : start + _CHUNK], scale, basis.seed)
            for start in range(0, len(scores), _CHUNK)
        ]
        return cls(basis, scores, kept != basis.last, np.concatenate(parts))

    def together(self) -> Together:
        """The reference as a whole."""
        joint, powers = self.blocks(len(self.scores))
        whole = Joint(joint.moments[0], joint.pairs[0], joint.waves[0])
        firsts = powers[0, 0].astype(np.int64)
        r = correlations(whole.moments, whole.pairs, firsts)
        return Together(
            rows=len(self.scores),
            joint=whole,
            firsts=firsts,
            spread=tuple(np.round(self._spread(r), 6).tolist()),
            eigenvalues=tuple(self._eigenvalues()),
        )

    def blocks(self, length: int, most: int = 1) -> tuple[Joint, Floats]:
        """Sums over the newest blocks, each with a leading axis, and of powers of the scores.

        Returns:
            The sums, and those of the scores, their squares, cubes and fourth powers,
            shape (4, blocks, d).
        """
        number, numbers = min(len(self.scores) // length, most), self.basis.size
        start = len(self.scores) - number * length
        scores = self.scores[start:].reshape(number, length, numbers)
        exact = scores.astype(np.float64)
        there = self.present[start:].reshape(number, length, numbers).astype(np.float64)
        waves = self.waves[start:].reshape(number, length, WAVES)
        square = np.square(exact)
        powers = [exact.sum(axis=1), square.sum(axis=1)]
        powers += [np.einsum("bld,bld->bd", square, other) for other in (exact, square)]
        return Joint(
            (exact.transpose(0, 2, 1) @ exact).astype(np.int64),
            (there.transpose(0, 2, 1) @ there).astype(np.int64),
            waves.sum(axis=1, dtype=np.int64),
        ), np.stack(powers)

    def _spread(self, r: Floats) -> Floats:
        there = self.present.astype(np.float64)
        rows = np.maximum(there.sum(axis=0), 1.0)
        x = self.scores / UNIT
        x = np.where(self.present, x - x.sum(axis=0) / rows, 0.0)
        x = x / np.maximum(np.sqrt(np.square(x).sum(axis=0) / rows), 1e-9)
        square, pairs = np.square(x), np.maximum(there.T @ there, 1.0)
        both, odd = square.T @ square / pairs, (square * x).T @ x / pairs
        fourth = np.sum(np.square(square), axis=0) / rows
        upper = _upper(x.shape[1])
        first, second = upper
        # The part of the rows of either that have the other one as well tells of both at once.
        mine, other = pairs[upper] / rows[first], pairs[upper] / rows[second]
        a, b = both[upper], (odd[upper] - r) * mine + (odd.T[upper] - r) * other
        ends = (fourth[first] - 1) * mine + (fourth[second] - 1) * other
        ends += 2 * (a - 1) * mine * other
        variance = a - r * r - r * b + r * r / 4 * ends
        found: Floats = np.maximum(1.0, np.sqrt(np.maximum(variance, 0.0)) / (1 - r * r))
        return found

    def _eigenvalues(self) -> list[float]:
        total = np.zeros((WAVES, WAVES))
        for start in range(0, len(self.waves), _CHUNK):
            part = self.waves[start : start + _CHUNK].astype(np.float64)
            total += part.T @ part
        mean = self.waves.mean(axis=0, dtype=np.float64)
        covariance = (total / len(self.waves) - np.outer(mean, mean)) * _WAVE**2
        found = np.linalg.eigvalsh(covariance)[::-1]
        return [float(f"{value:.9g}") for value in np.maximum(found, 0.0)]


def correlations(moments: Whole, pairs: Whole, firsts: Whole | Floats) -> Floats:
    """Of all pairs a < b, shape (..., d(d-1)/2); 0 where a number does not vary."""
    there = np.maximum(np.diagonal(pairs, axis1=-2, axis2=-1), 1)
    mean = firsts / there
    variance = np.diagonal(moments, axis1=-2, axis2=-1) / there - np.square(mean)
    (a, b), rows = _upper(pairs.shape[-1]), np.maximum(_of_pairs(pairs), 1)
    shared = _of_pairs(moments) / rows - mean[..., a] * mean[..., b]
    scale = np.sqrt(np.maximum(variance[..., a] * variance[..., b], 0.0))
    r = np.divide(shared, scale, out=np.zeros_like(shared), where=scale > 0)
    return np.asarray(np.minimum(np.maximum(r, -_CLOSE), _CLOSE))


def pair_z(
    here: Floats, pairs: Whole, there: Floats, others: Whole, spread: Floats
) -> tuple[Floats, Floats]:
    """Differences of transformed correlations over their standard errors, and these errors.

    Args:
        here, pairs: correlations of windows, and their rows with both numbers, shape (..., d, d).
        there, others: of what they are compared with.
        spread: by how much the standard error of each pair is larger than for normal numbers.
    """
    window = np.maximum(_of_pairs(pairs) - 3.0, 1.0)
    rest = np.maximum(_of_pairs(others) - 3.0, 1.0)
    error = spread * np.sqrt(1 / window + 1 / rest)
    return (np.arctanh(here) - np.arctanh(there)) / error, error


def linear_z(here: Floats, there: Floats, error: Floats) -> Floats:
    """The same of the correlations themselves, near to the second ones, by these errors."""
    return np.asarray((here - there) / ((1 - np.square(there)) * error))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Common:
    """What the rows of two numbers say of both, of as many pairs as there are.

    Attributes:
        lumps: of one row's product.
        rows: with both numbers; `overlap` see `lumps.overlap`.
    """

    lumps: Lumps
    rows: Floats
    overlap: Floats

    @classmethod
    def of(cls, uneven: Floats, pairs: Whole, usual: Floats) -> "Common":
        """Of all pairs a < b, shape (..., d(d-1)/2).

        Args:
            uneven: see `lumps.unevenness`, shape (2, ..., d).
            pairs: rows with both, shape (..., d, d).
            usual: correlation of each pair, where nothing changes.
        """
        first, second = _upper(pairs.shape[-1])
        return cls.among(uneven, pairs, (..., first), (..., second), usual)

    @classmethod
    def among(
        cls, uneven: Floats, pairs: Whole, first: Any, second: Any, usual: Floats
    ) -> "Common":
        """Of pairs of numbers at these places before the last axis of `pairs`."""
        rows, (third, fourth) = np.diagonal(pairs, axis1=-2, axis2=-1), uneven
        one, other, both = rows[first], rows[second], pairs[*first, second[-1]]
        return cls(
            lumps=lumps_of(
                (third[first], fourth[first]),
                (third[second], fourth[second]),
                one,
                other,
                both,
                usual,
            ),
            rows=np.maximum(both, 1).astype(np.float64),
            overlap=overlap(one, other, both),
        )

    def at(self, places: Whole) -> "Common":
        """Of some of the pairs."""
        lumps = Lumps(size=self.lumps.size[places], skewness=self.lumps.skewness[places])
        return Common(lumps=lumps, rows=self.rows[places], overlap=self.overlap[places])


def lumpy_pairs(mine: Common, others: Common, there: Floats, spread: Floats) -> Lumps:
    """How lumpy differences of correlations are, see `lumps.lumpiness`.

    Args:
        mine, others: of both sides.
        there, spread: see `pair_z`; where both often come together it takes more of such rows to
            lie as many standard errors out, and, with gaps, they point all one way.
    """
    found = lumpiness(mine.lumps, mine.rows, others.lumps, others.rows)
    wide = np.maximum(spread * (1 - np.square(there)), 1.0)
    one_way = there * (6 + 2 * np.square(there)) * (1 - mine.overlap) / wide**3
    return Lumps(
        size=found.size / np.square(wide),
        skewness=found.skewness / wide + one_way * np.sqrt(1 / mine.rows + 1 / others.rows),
    )


def block_z(blocks: tuple[Joint, Floats], rest: tuple[Joint, Floats], spread: Floats) -> Floats:
    """Differences of the correlations of blocks to those of all others, in standard errors.

    Args:
        blocks, rest: sums, and those of powers of the scores, shape (4, blocks, d).
    """
    (mine, powers), (others, other_powers) = blocks, rest
    here = correlations(mine.moments, mine.pairs, powers[0])
    there = correlations(others.moments, others.pairs, other_powers[0])
    z, error = pair_z(here, mine.pairs, there, others.pairs, spread)
    own, rest_of = (
        Common.of(unevenness(sums, np.diagonal(one.pairs, axis1=-2, axis2=-1)), one.pairs, there)
        for one, sums in ((mine, powers), (others, other_powers))
    )
    lumpy = lumpy_pairs(own, rest_of, there, spread)
    share = share_of_lumps(z, lumpy.size, own.overlap)
    return held_back(z, linear_z(here, there, error), share)


def _of_pairs(square: Any) -> Any:
    """What is above the diagonal, shape (..., d(d-1)/2)."""
    size = square.shape[-1]
    first, second = _upper(size)
    return square.reshape(*square.shape[:-2], size * size).take(first * size + second, axis=-1)


@lru_cache(maxsize=64)
def _upper(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(size, 1)


def waves_apart(waves: Whole, rows: Floats, rest: Whole, rest_rows: Floats) -> Floats:
    """Squared distance of mean waves over what one row of each would make it, shape (...)."""
    apart = waves / rows[..., None] - rest / rest_rows[..., None]
    return np.asarray(
        np.sum(np.square(apart * _WAVE), axis=-1) / (1 / rows + 1 / rest_rows), dtype=np.float64
    )


def waves_tail(apart: Floats, eigenvalues: Floats) -> Floats:
    """P(as far apart by chance), by the chi square law with the same first three moments."""
    first, second, third = (float(np.sum(eigenvalues**k)) for k in (1, 2, 3))
    if third <= 0:
        return np.ones(np.shape(apart))
    unit, df = third / second, second**3 / third**2
    return chi_square_tails(df + (apart - first) / unit, df)
