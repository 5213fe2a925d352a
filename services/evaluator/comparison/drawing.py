"""Resampled hold-outs: the same draws for every comparison of a verdict.

The stream of bits is taken from the generator as it is, because only that is promised to stay the
same in later versions of numpy.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Floats
from services.evaluator.metrics import Finish, Insufficient, Measure, Sums, quantised

_CELLS_AT_ONCE: Final = 250_000
"""Few enough to stay in the processor's cache, and enough for the product to be worth it."""
_SPARE: Final = 100
"""One draw in so many may be replaced because a value does not exist in it."""

Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What is drawn with replacement: rows, or entities with all their rows.

    Attributes:
        of_row: the unit of each row, shape (rows,); None when each row is one.
    """

    count: int
    of_row: NDArray[np.int64] | None = None

    def sums(self, columns: Floats) -> Floats:
        """Sums of rows per unit, shape (units, columns), exact whatever the order of the rows."""
        if self.of_row is None:
            return columns
        whole, steps = quantised(columns, len(columns))
        found = [np.bincount(self.of_row, part, self.count) for part in whole.T]
        return np.column_stack(found) * steps

    def weights(self, counts: Floats) -> Floats:
        """How often each row is drawn, shape (draws, rows)."""
        return counts if self.of_row is None else counts[:, self.of_row]


def with_spare(draws: int) -> int:
    """How many are drawn so that one in a hundred may be replaced."""
    return draws + draws // _SPARE + 1


def first_of(values: Floats, draws: int) -> tuple[Floats, int]:
    """The first draws whose value exists, and how many were drawn again.

    Raises:
        Insufficient: more than one in a hundred had to be.
    """
    usable = np.isfinite(values)
    if int(usable.sum()) < draws:
        raise Insufficient("more than 1 % of the resamples have no value: too few distinct rows")
    places = np.flatnonzero(usable)[:draws]
    return values[places], int(places[-1]) + 1 - draws


def picks(generator: np.random.PCG64, draws: int, units: int, of: int) -> Whole:
    """Numbers below `of`, shape (draws, units), each from 32 bits; uneven by of / 2**32 at most."""
    words = (units + 1) // 2
    raw = generator.random_raw(draws * words).astype("<u8", copy=False)
    found = raw.view("<u4").reshape(draws, 2 * words)[:, :units].astype(np.uint64)
    found *= np.uint64(of)
    found >>= np.uint64(32)
    return found.view(np.int64)


def counted(seed: int, draws: int, units: int) -> Iterator[Floats]:
    """How often each unit is drawn, in batches of shape (some draws, units).

    A batch is written over by the next one.
    """
    generator = np.random.PCG64(seed)
    at_once = max(1, min(draws, _CELLS_AT_ONCE // units))
    counts = np.empty((at_once, units))
    for start in range(0, draws, at_once):
        drawn = picks(generator, min(at_once, draws - start), units, units)
        for place, row in enumerate(drawn):
            counts[place] = np.bincount(row, minlength=units)
        yield counts[: len(drawn)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Added:
    """Columns of a function of sums: whole numbers per unit."""

    whole: Floats
    steps: Floats
    finish: Finish


@dataclass(slots=True, kw_only=True)
class Pool:
    """Everything that is to be known of each draw, worked out in one pass over the draws."""

    units: Units
    rows: int
    _added: dict[Hashable, _Added] = field(default_factory=dict)
    _weighed: dict[Hashable, Callable[[Floats], Floats]] = field(default_factory=dict)

    def add_columns(self, key: Hashable, columns: Floats, finish: Finish) -> None:
        """A function of sums over units; columns of shape (units, columns)."""
        whole, steps = quantised(columns, self.units.count)
        self._added[key] = _Added(whole=whole, steps=steps, finish=finish)

    def add_measure(self, key: Hashable, measure: Measure, rows: NDArray[np.intp]) -> None:
        """A metric on some of the rows; one key is worked out once."""
        if key in self._added or key in self._weighed:
            return
        if isinstance(measure, Sums):
            spread = np.zeros((self.rows, measure.columns.shape[1]))
            spread[rows] = measure.columns
            self.add_columns(key, self.units.sums(spread), measure.finish)
        else:
            self._weighed[key] = lambda weights: measure.of_weights(weights[:, rows])

    def run(self, seed: int, draws: int) -> Mapping[Hashable, Floats]:
        """Values by key, shape (draws,)."""
        if not self._added and not self._weighed:
            return {}
        parts: dict[Hashable, list[Floats]] = {key: [] for key in (*self._added, *self._weighed)}
        columns = [part.whole for part in self._added.values()]
        table = np.hstack(columns) if columns else np.zeros((self.units.count, 0))
        for counts in counted(seed, draws, self.units.count):
            self._finish_sums(counts @ table, parts)
            if self._weighed:
                weights = self.units.weights(counts)
                for key, weigh in self._weighed.items():
                    parts[key].append(weigh(weights))
        return {key: np.concatenate(found) for key, found in parts.items()}

    def _finish_sums(self, sums: Floats, parts: Mapping[Hashable, list[Floats]]) -> None:
        start = 0
        for key, part in self._added.items():
            stop = start + len(part.steps)
            with np.errstate(divide="ignore", invalid="ignore"):
                parts[key].append(part.finish(sums[:, start:stop] * part.steps))
            start = stop


def circular(measure: Measure, rows: int, blocks: int, seed: int, draws: int) -> Floats:
    """Values over draws of contiguous blocks, the end joined to the beginning, shape (draws,).

    Source: Politis and Romano (1992), A circular block-resampling procedure for stationary data.
    """
    length = -(-rows // blocks)
    generator = np.random.PCG64(seed)
    at_once = max(1, _CELLS_AT_ONCE // rows)
    parts: list[Floats] = []
    for start in range(0, draws, at_once):
        starts = picks(generator, min(at_once, draws - start), blocks, rows)
        if isinstance(measure, Sums):
            parts.append(_of_windows(measure, starts, length, blocks))
        else:
            parts.append(measure.of_weights(_window_weights(starts, length, rows)))
    return np.concatenate(parts)


def _of_windows(measure: Sums, starts: Whole, length: int, blocks: int) -> Floats:
    whole, steps = quantised(measure.columns, length * blocks)
    around = np.concatenate([np.zeros((1, whole.shape[1])), whole, whole[:length]])
    running = np.cumsum(around, axis=0)
    windows = running[length : length + len(whole)] - running[: len(whole)]
    return measure.finish(windows[starts].sum(axis=1) * steps)


def _window_weights(starts: Whole, length: int, rows: int) -> Floats:
    weights = np.zeros((len(starts), rows))
    for place, row in enumerate(starts):
        begun = np.bincount(row, minlength=rows + length)
        ended = np.concatenate([np.zeros(length, dtype=np.int64), begun[:rows]])
        running = np.cumsum(begun - ended)
        weights[place] = running[:rows]
        weights[place, :length] += running[rows:]
    return weights
