"""Rows that a graph is most likely to get wrong, made from what training saw of the columns."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.tree._tree import Tree

from shared.manifest import Column
from shared.models import parts

MOST_COLUMNS: Final = 24
"""Of wider models so many columns are probed one by one; the rows of chance move all of them."""
MOST_THRESHOLDS: Final = 64
MOST_CATEGORIES: Final = 6
_OF_CHANCE: Final = 48
_UNSEEN: Final = "tidewheel: a category that nobody has seen"
_EDGES: Final = (0.0, -0.0, 5e-324, 1e-300, 3.4e38, 3.5e38, -3.5e38, 1e300, -1e300)
"""Signs of zero, the smallest numbers, both sides of what single precision holds, huge ones."""


def probes(
    estimator: Any, columns: Sequence[Column], rows: NDArray[Any], seed: int
) -> NDArray[Any]:
    """Adversarial rows, shape (probes, columns), of the kind of `rows`.

    Missing, smallest, largest and far-off values of each column; values whose neighbour in single
    precision lies beyond a split; zeros of both signs; unseen and empty categories; all missing.

    Args:
        rows: held-out rows; the probes change a few of them in one place each.
        seed: of the rows of chance.
    """
    chance = np.random.default_rng(seed)
    bases = rows[chance.integers(0, len(rows), 3)] if len(rows) else _middles(columns, rows)
    made = [
        _changed(bases[i % len(bases)], c, v) for i, (c, v) in enumerate(_places(columns, chance))
    ]
    made += [_changed(bases[0], c, v) for c, v in _near_splits(estimator, rows, chance)]
    made += [_all(columns, bases[0], pick) for pick in (_missing, _least, _most)]
    made += [_of_chance(columns, bases[0], chance) for _ in range(_OF_CHANCE)]
    return np.stack(made)


def _middles(columns: Sequence[Column], rows: NDArray[Any]) -> NDArray[Any]:
    found = np.empty((1, len(columns)), dtype=rows.dtype)
    found[0] = [_least(column) for column in columns]
    return found


def _changed(row: NDArray[Any], column: int, value: Any) -> NDArray[Any]:
    copy = row.copy()
    copy[column] = value
    return copy


def _places(columns: Sequence[Column], chance: np.random.Generator) -> Iterator[tuple[int, Any]]:
    """A column and a value for it."""
    chosen = list(range(len(columns)))
    if len(columns) > MOST_COLUMNS:
        chosen = sorted(chance.choice(len(columns), MOST_COLUMNS, replace=False).tolist())
    for index in chosen:
        values = (
            _texts(columns[index]) if columns[index].kind == "text" else _numbers(columns[index])
        )
        yield from ((index, value) for value in values)


def _texts(column: Column) -> list[str | None]:
    return [None, "", _UNSEEN, " ", *column.categories[:MOST_CATEGORIES]]


def _numbers(column: Column) -> list[float]:
    if column.kind == "boolean":
        return [np.nan, 0.0, 1.0]
    low, high = column.minimum or 0.0, column.maximum or 0.0
    span = max(high - low, abs(high), abs(low), 1.0)
    far = [low, high, (low + high) / 2, low - 10 * span, high + 10 * span, 1e6 * span, -1e6 * span]
    near = [f for v in (low, high) for f in _single_neighbours(v)]
    return [np.nan, *far, *near, *_EDGES]


def _single_neighbours(value: float) -> list[float]:
    """Numbers next to it whose rounding to single precision falls to one side or the other."""
    single = np.float32(value)
    around = [np.nextafter(single, np.float32(side)) for side in (-np.inf, np.inf)]
    halves = [(float(single) + float(one)) / 2 for one in around]
    moved = [np.nextafter(half, side) for half in halves for side in (-np.inf, np.inf)]
    return [value, *map(float, (single, *around)), *map(float, moved)]


def _near_splits(
    estimator: Any, rows: NDArray[Any], chance: np.random.Generator
) -> Iterator[tuple[int, float]]:
    """Values on and beside thresholds of its trees.

    Where steps before the trees move the columns, these are numbers like any others.
    """
    found = [pair for part in parts(estimator) for pair in _splits(part)]
    if len(found) > MOST_THRESHOLDS:
        picked = sorted(chance.choice(len(found), MOST_THRESHOLDS, replace=False).tolist())
        found = [found[i] for i in picked]
    for feature, threshold in found:
        if feature < rows.shape[1] and rows.dtype != object and np.isfinite(threshold):
            both = (np.nextafter(threshold, side) for side in (-np.inf, np.inf))
            for value in (*_single_neighbours(threshold), *both):
                yield feature, float(value)


def _splits(part: Any) -> list[tuple[int, float]]:
    if isinstance(part, Tree):
        inner = np.flatnonzero(part.children_left != -1)[:MOST_THRESHOLDS]
        return list(zip(part.feature[inner].tolist(), part.threshold[inner].tolist(), strict=True))
    nodes = getattr(part, "nodes", None)
    if isinstance(nodes, np.ndarray) and nodes.dtype.names and "num_threshold" in nodes.dtype.names:
        inner = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)][:MOST_THRESHOLDS]
        features, thresholds = inner["feature_idx"].tolist(), inner["num_threshold"].tolist()
        return list(zip(features, thresholds, strict=True))
    return []


def _all(columns: Sequence[Column], like: NDArray[Any], pick: Any) -> NDArray[Any]:
    row = like.copy()
    row[:] = [pick(column) for column in columns]
    return row


def _missing(column: Column) -> float | None:
    return None if column.kind == "text" else np.nan


def _least(column: Column) -> Any:
    return (column.categories or ("",))[0] if column.kind == "text" else column.minimum or 0.0


def _most(column: Column) -> Any:
    return (column.categories or ("",))[-1] if column.kind == "text" else column.maximum or 0.0


def _of_chance(
    columns: Sequence[Column], like: NDArray[Any], chance: np.random.Generator
) -> NDArray[Any]:
    row = like.copy()
    row[:] = [_by_chance(column, chance) for column in columns]
    return row


def _by_chance(column: Column, chance: np.random.Generator) -> Any:
    if chance.random() < 0.1:
        return _missing(column)
    if column.kind == "text":
        known = (*column.categories[:MOST_CATEGORIES], _UNSEEN)
        return known[int(chance.integers(0, len(known)))]
    if column.kind == "boolean":
        return float(chance.integers(0, 2))
    low, high = column.minimum or 0.0, column.maximum or 0.0
    return low + (high - low) * float(chance.uniform(-0.25, 1.25))
