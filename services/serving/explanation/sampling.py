"""Shapley values of any model by walking random orders of its columns.

A walk begins at a training row and takes the explained row's values one column after the other;
what the output changes by at a column is one sample of its contribution. Each order is walked
forwards and backwards from the same training row (antithetic: one errs high where the other errs
low), and the spread of the pairs gives the standard errors. Every walk ends at the explained row,
so base value and contributions add up to the output exactly, whatever their errors are.

Source: Strumbelj and Kononenko (2014), "Explaining prediction models and individual predictions
with feature contributions", Knowledge and Information Systems 41; the antithetic pairs follow
Mitchell et al. (2022), "Sampling permutations for Shapley value estimation", JMLR 23.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np

from services.serving.explanation.values import Explained, Floats, Matrix, Scale, Tick

LEAST_PAIRS: Final = 8
MOST_PAIRS: Final = 128
_MOST_CELLS: Final = 2**17
"""Values that a model is asked about in one question."""
_MOST_ROWS: Final = 2**11


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledExplainer:
    """Any model that answers.

    Attributes:
        raw: its outputs, shape (rows, outputs): the answer, or the probabilities of classes.
        background: training rows as the model takes them, shape (rows, columns).
        has_time: whether there is time for another pair.
    """

    raw: Callable[[Matrix], Floats]
    scale: Scale
    background: Matrix
    has_time: Callable[[], bool]

    def explain(self, row: Matrix, place: int | None, tick: Tick) -> Explained:
        """What one output is made of; fewer samples and larger errors where time is short."""
        chance = np.random.default_rng(seed_of(row))
        starts = chance.permutation(len(self.background))
        pairs: list[Floats] = []
        bases: list[float] = []
        output = float(self.raw(row[None, :])[0, place or 0])
        while len(pairs) < MOST_PAIRS and (len(pairs) < LEAST_PAIRS or self.has_time()):
            start = self.background[starts[len(pairs) % len(starts)]]
            order = chance.permutation(len(row))
            first = self._walked(start, row, order, place, tick)
            second = self._walked(start, row, order[::-1], place, tick)
            pairs.append((first[0] + second[0]) / 2)
            bases.append((first[1] + second[1]) / 2)
        found = np.array(pairs)
        base = float(np.mean(bases))
        contributions = found.mean(axis=0)
        rest = output - base - contributions.sum()  # what the order of float additions left
        return Explained(
            method="sampled",
            scale=self.scale,
            base=base + float(rest),
            output=output,
            contributions=contributions,
            errors=found.std(axis=0, ddof=1) / np.sqrt(len(found)),
            base_error=float(np.std(bases, ddof=1) / np.sqrt(len(bases))),
            samples=len(pairs),
        )

    def _walked(
        self, start: Matrix, row: Matrix, order: Matrix, place: int | None, tick: Tick
    ) -> tuple[Floats, float]:
        """What each column changed on one walk, and where the walk began."""
        columns = len(row)
        rank = np.empty(columns, dtype=np.int64)
        rank[order] = np.arange(columns)
        step = max(1, min(_MOST_ROWS, _MOST_CELLS // columns))
        outputs = []
        for first in range(0, columns + 1, step):
            tick()
            taken = np.arange(first, min(first + step, columns + 1))
            rows = np.where(rank[None, :] < taken[:, None], row[None, :], start[None, :])
            outputs.append(self.raw(rows)[:, place or 0])
        walked = np.concatenate(outputs)
        changes = np.empty(columns)
        changes[order] = np.diff(walked)
        return changes, float(walked[0])


def seed_of(row: Matrix) -> int:
    """The same row is explained by the same samples."""
    told = repr(row.tolist()).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(told, digest_size=8).digest())
