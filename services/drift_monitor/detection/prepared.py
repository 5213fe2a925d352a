"""What the tests of all windows of a version need, worked out once."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shared import cells
from shared.calibration import Factors, Scale
from shared.reference import Reference
from shared.sketch import CategoryCells, Layout
from shared.stacks import Stack

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
NONE = Factors()


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A reference as its tests look at it.

    Attributes:
        counts: one row of counts, all features one after the other.
        stack, present, gone: its numbers, their rows per cell and missing rows.
        location, scale: reference scores of cells, shape (F, C), and what they tell per row, (F,).
        categories: places of its categories.
        paired: what a row in each cell adds to the sum of scores of each number that takes part in
            pairs, shape (cells of all, d).
    """

    reference: Reference
    counts: Whole
    stack: Stack
    present: Whole
    gone: Whole
    location: Floats
    scale: Floats
    location_told: Floats
    scale_told: Floats
    categories: tuple[int, ...]
    paired: Whole


@lru_cache(maxsize=256)
def prepared(reference: Reference) -> Prepared:
    """The same for the same reference."""
    layout = reference.layout
    counts = np.concatenate(reference.counts) if reference.counts else np.zeros(0, dtype=np.int64)
    stack = Stack.of(layout, range(len(layout.features)))
    present = stack.present(counts)
    location, scale = np.zeros(present.shape), np.zeros(present.shape)
    for row, feature in enumerate(stack.features):
        known = reference.counts[feature][:-1]
        if known.any():
            location[row, : len(known)] = cells.location_scores(known)
            scale[row, : len(known)] = cells.scale_scores(known)
    shares = present / np.maximum(present.sum(axis=-1, keepdims=True), 1)
    return Prepared(
        reference=reference,
        counts=counts,
        stack=stack,
        present=present,
        gone=counts[stack.gone] if len(stack.features) else np.zeros(0, dtype=np.int64),
        location=location,
        scale=scale,
        location_told=(shares * np.square(location)).sum(axis=-1),
        scale_told=(shares * np.square(scale)).sum(axis=-1),
        categories=tuple(
            i for i, cell in enumerate(layout.features) if isinstance(cell, CategoryCells)
        ),
        paired=_paired(layout),
    )


def _paired(layout: Layout) -> Whole:
    basis = layout.basis
    found = np.zeros((layout.size, basis.size if basis else 0), dtype=np.int64)
    for number, place in enumerate(basis.features if basis else ()):
        start = layout.offsets[place]
        scores = basis.scores[number] if basis else ()
        found[start : start + len(scores), number] = scores
    return found


def factors_of(known: Scale, name: str, features: tuple[int, ...]) -> Floats:
    """One factor of all these features; 1 where there are none."""
    return np.array([getattr(known.factors[i] or NONE, name) for i in features], dtype=np.float64)


def is_tested(known: Scale, features: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which of these features can be tested."""
    return np.array([known.factors[i] is not None for i in features], dtype=np.bool_)
