"""Sums over the rows of each version, in the order and the portions in which they cost least."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]

_SWEEP: Final = 4_000
"""Rows of one sweep: enough to make its fixed costs small, few enough to stay in the cache."""
_FEW: Final = 3
"""Rows per version from which products are left to the matrix routines."""


def as_they_lie(rows: Sequence[Any]) -> Whole:
    """Rows in the order of their addresses.

    Rows of one version are far apart in memory, rows that came together are neighbours; what is
    read in order comes from the cache. It changes how long reading takes, never what is counted.
    """
    return np.argsort(np.fromiter(map(id, rows), dtype=np.int64, count=len(rows)))


def sweeps(sizes: Whole) -> Iterator[tuple[slice, Whole, slice]]:
    """Parts of the rows: which versions have some there, how many each, and which rows."""
    ends = np.cumsum(sizes)
    starts = ends - sizes
    for start in range(0, int(ends[-1]), _SWEEP):
        end = min(start + _SWEEP, int(ends[-1]))
        own = slice(
            int(np.searchsorted(ends, start, "right")), int(np.searchsorted(starts, end, "left"))
        )
        lengths = np.minimum(ends[own], end) - np.maximum(starts[own], start)
        yield own, lengths, slice(start, end)


@lru_cache(maxsize=256)
def _upper(size: int) -> NDArray[np.intp]:
    """Where the upper triangle lies in a square."""
    rows, columns = np.triu_indices(size)
    return np.asarray(rows * size + columns)


def products(values: NDArray[np.int16], starts: Whole, sizes: Whole) -> Whole:
    """Sums of products of two columns for each run of rows, shape (runs, pairs)."""
    size = values.shape[1]
    pick = _upper(size)
    if len(values) >= _FEW * len(starts):
        exact = values.astype(np.float64)
        found = np.empty((len(starts), len(pick)))
        for run, (start, rows) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
            part = exact[start : start + rows]
            (part.T @ part).take(pick, out=found[run])
        return found.astype(np.int64)
    wide = values.astype(np.int32)
    each = wide[:, pick // size] * wide[:, pick % size]
    return np.asarray(np.add.reduceat(each, starts, axis=0, dtype=np.int64))


def summed(high: NDArray[np.int16], starts: Whole, sizes: Whole) -> Whole:
    """Sums of runs of rows, shape (runs, 128)."""
    if len(set(sizes.tolist())) == 1:
        runs = high.reshape(len(sizes), -1, high.shape[1])
        return np.asarray(runs.sum(axis=1, dtype=np.int32).astype(np.int64))
    return np.asarray(np.add.reduceat(high, starts, axis=0, dtype=np.int32).astype(np.int64))
