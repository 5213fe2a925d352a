"""What the tests of all windows of a version need, worked out once for as long as it is known."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.chances import Chance
from shared import cells
from shared.joint import Basis
from shared.lumps import unevenness
from shared.reference import Reference
from shared.sketch import CategoryCells, Layout
from shared.stacks import Stack
from shared.together import Common, Together, correlations

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Truth = NDArray[np.bool_]
POWERS: Final = 4
"""Sums of this many powers of scores tell how uneven numbers are."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """The numbers of a reference, F of them.

    Attributes:
        places: of these features among all; `stack` says where their cells lie.
        present, rows, gone: their rows per cell, (F, C), and together, and missing ones, (F,).
        before: their rows before each cell, see `cells.reached`.
        location, scale: reference scores of cells, (F, C), and what they tell per row, (F,).
    """

    stack: Stack
    places: Whole
    present: Whole
    before: Floats
    rows: Whole
    gone: Whole
    location: Floats
    scale: Floats
    location_told: Floats
    scale_told: Floats

    @classmethod
    def of(cls, layout: Layout, counts: Whole) -> "Numbers":
        """The numbers of a layout, by the counts of its reference."""
        stack = Stack.of(layout, range(len(layout.features)))
        present = stack.present(counts)
        is_known = (np.arange(present.shape[-1]) <= stack.above[:, None]) & (
            present.any(axis=-1, keepdims=True)
        )
        location = np.where(is_known, cells.location_scores(present), 0.0)
        scale = np.where(is_known, cells.scale_scores(present), 0.0)
        shares = present / np.maximum(present.sum(axis=-1, keepdims=True), 1)
        return cls(
            stack=stack,
            places=np.array(stack.features, dtype=np.int64),
            present=present,
            before=cells.reached(present),
            rows=present.sum(axis=-1),
            gone=counts[stack.gone],
            location=location,
            scale=scale,
            location_told=(shares * np.square(location)).sum(axis=-1),
            scale_told=(shares * np.square(scale)).sum(axis=-1),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The categories of a reference, K of them; levels that one lacks are empty at its end.

    Attributes:
        places: of these features among all; `sizes` their levels with the one for others.
        gather: place of each level in a row of counts, (K, L); the row's length where there is
            none. `other`, `gone`: the places of others and of missing ones, (K,).
        present, rows, missing: rows per level, (K, L), and together, and missing ones, (K,).
        once: rows that tell how many come from levels never seen, (K,).
        levels: `present` of each without what it lacks, as bytes.
    """

    places: Whole
    sizes: Whole
    gather: Whole
    other: Whole
    gone: Whole
    present: Whole
    rows: Whole
    missing: Whole
    once: Whole
    levels: tuple[bytes, ...]

    @classmethod
    def of(cls, layout: Layout, counts: Whole) -> "Words":
        """The categories of a layout, by the counts of its reference."""
        chosen = [i for i, c in enumerate(layout.features) if isinstance(c, CategoryCells)]
        starts = np.array([layout.offsets[i] for i in chosen], dtype=np.int64)
        sizes = np.array([layout.features[i].size - 1 for i in chosen], dtype=np.int64)
        level = np.arange(max(sizes.tolist(), default=0))
        gather = np.where(level < sizes[:, None], starts[:, None] + level, layout.size)
        present = levels_of(counts, gather)
        other = starts + sizes - 1
        is_named = level < sizes[:, None] - 1
        return cls(
            places=np.array(chosen, dtype=np.int64),
            sizes=sizes,
            gather=gather,
            other=other,
            gone=other + 1,
            present=present,
            rows=present.sum(axis=-1),
            missing=counts[other + 1],
            # Good (1953), Biometrika 40: levels seen once tell how many come from unseen ones.
            once=((present == 1) & is_named).sum(axis=-1) + counts[other],
            levels=tuple(row[:n].tobytes() for row, n in zip(present, sizes, strict=True)),
        )


def levels_of(counts: Whole, gather: Whole) -> Whole:
    """Rows per level, shape (..., K, L), of rows of counts, shape (..., cells of all)."""
    nothing = np.zeros((*counts.shape[:-1], 1), dtype=np.int64)
    return np.asarray(np.concatenate([counts, nothing], axis=-1)[..., gather])


@dataclass(frozen=True, slots=True, eq=False)
class Moving:
    """How the numbers of a reference move together.

    Attributes:
        known: as it was stored.
        usual, spread: correlation of each pair, and the factor of its standard error.
        common: what its rows say of both numbers of each pair.
        worth, starts: powers of what a row in each cell adds, (4, cells of all), and where
            the cells of each number begin that takes part in pairs, (d,).
        scores: what a row in each cell adds to the sum of scores of each number that takes part
            in pairs, shape (cells of all, d); whole numbers.
        eigenvalues: of the covariance of the waves; nobody asks how likely it is that they are no
            further apart than `near`.
        pairs: names of both numbers of each pair.
    """

    known: Together
    usual: Floats
    spread: Floats
    common: Common
    worth: Floats
    starts: Whole
    scores: Floats
    eigenvalues: Floats
    near: float
    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, layout: Layout, counts: Whole, known: Together | None) -> "Moving | None":
        """None where nobody kept it; `counts` of the reference."""
        basis = layout.basis
        if known is None or basis is None:
            return None
        eigenvalues = np.array(known.eigenvalues)
        pairs = known.joint.pairs
        swing = 2 * float(np.sqrt(2 * np.sum(np.square(eigenvalues))))
        names = [layout.features[place].name for place in basis.features]
        scores = _scores(layout, basis)
        worth = scores.sum(axis=1) ** np.arange(1, POWERS + 1)[:, None]
        starts = np.array([layout.offsets[place] for place in basis.features], dtype=np.int64)
        sums = powers(counts, worth, starts)
        uneven = unevenness(sums, _present(layout, basis, counts))
        usual = correlations(known.joint.moments, pairs, known.firsts)
        return cls(
            known=known,
            usual=usual,
            spread=np.array(known.spread),
            common=Common.of(uneven, pairs, usual),
            worth=worth,
            starts=starts,
            scores=scores,
            eigenvalues=eigenvalues,
            near=float(eigenvalues.sum()) + swing,
            pairs=tuple((a, b) for i, a in enumerate(names) for b in names[i + 1 :]),
        )


_SCORES: Final[WeakKeyDictionary[Layout, Floats]] = WeakKeyDictionary()


def _scores(layout: Layout, basis: Basis) -> Floats:
    """Worked out once for all references of a layout: its seasons, each with its own, are many."""
    found = _SCORES.get(layout)
    if found is None:
        found = _SCORES[layout] = np.zeros((layout.size, basis.size))
        for number, place in enumerate(basis.features):
            start, own = layout.offsets[place], basis.scores[number]
            found[start : start + len(own), number] = own
        found.flags.writeable = False
    return found


def powers(counts: Whole, worth: Floats, starts: Whole) -> Floats:
    """Sums of the scores, their squares, cubes and fourth powers, shape (4, ..., d)."""
    own = counts * worth.reshape(POWERS, *[1] * (counts.ndim - 1), -1)
    return np.asarray(np.add.reduceat(own, starts, axis=-1))


def _present(layout: Layout, basis: Basis, counts: Whole) -> Whole:
    parts = layout.split(counts)
    return np.array([parts[place][:-1].sum() for place in basis.features], dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A reference as its tests look at it; it does not keep the reference itself.

    Attributes:
        names: of all features; `rows` how many the features have, in ascending order.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    numbers: Numbers
    words: Words
    moving: Moving | None
    _chances: dict[int, Chance] = field(default_factory=dict)
    _tables: dict[tuple[int, ...], tuple[Truth, Floats]] = field(default_factory=dict)

    def chance(self, reference: Reference, rows: int) -> Chance | None:
        """What is known of how windows of so many rows vary by chance; None when too little is.

        Args:
            reference: the one that this was worked out from.
        """
        is_free = reference.mode == "independent"
        known = None if is_free else reference.scale_for(rows)
        if rows > reference.rows or not (is_free or known):
            return None
        # Of independent rows it depends on the window only which features have enough of them.
        key = known.length if known else bisect_left(self.rows, rows) - len(self.rows)
        found = self._chances.get(key)
        if found is None:
            found = Chance.of(known or reference.scale_for(rows))
            self._chances[key] = found
        return found

    def tables(self, chances: tuple[Chance, ...]) -> tuple[Truth, Floats]:
        """Which features can be tested and their factors, of several scales of this reference.

        Returns:
            Shapes (S, F) and (factors, S, F).
        """
        key = tuple(map(id, chances))  # they live as long as this
        found = self._tables.get(key)
        if found is None:
            tested = np.stack([chance.tested for chance in chances])
            found = tested, np.stack([chance.table for chance in chances], axis=1)
            self._tables[key] = found
        return found


_PREPARED: Final[WeakKeyDictionary[Reference, Prepared]] = WeakKeyDictionary()


def prepared(reference: Reference) -> Prepared:
    """The same for the same reference, and gone with it."""
    found = _PREPARED.get(reference)
    if found is None:
        found = _PREPARED[reference] = _prepared(reference)
    return found


def _prepared(reference: Reference) -> Prepared:
    layout = reference.layout
    counts = np.concatenate([np.zeros(0, dtype=np.int64), *reference.counts])
    return Prepared(
        names=tuple(cell.name for cell in layout.features),
        rows=tuple(sorted(int(part.sum()) for part in reference.counts)),
        numbers=Numbers.of(layout, counts),
        words=Words.of(layout, counts),
        moving=Moving.of(layout, counts, reference.together),
    )
