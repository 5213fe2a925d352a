"""Exact Shapley values of models that are a sum over their columns.

Such a model is f(x) = a + g_1(x_1) + … + g_d(x_d) on the scale where it adds up, and with columns
taken as independent its Shapley values are g_j(x_j) - E[g_j]. No weight is read: each g_j is
measured by asking the whole pipeline, so that what scalers, imputers and encoders make of a column
is already back at the column.

The expectation is over the training rows: the mean where a column only goes through straight
lines, else every level or twentieth of its values, and missing values by their share.

Source: Lundberg and Lee (2017), "A unified approach to interpreting model predictions", §4.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.serving.explanation.preparing import Prepared
from services.serving.explanation.values import (
    Explained,
    Floats,
    Matrix,
    Scale,
    Tick,
    weights_of,
)
from shared.background import Background, Level, Profile

Raw = Callable[[Matrix], Floats]
"""Raw outputs of a model for a matrix, shape (rows, outputs)."""
Weighted = tuple[Level | None, float]
_MOST_CELLS = 2**20


@dataclass(slots=True, kw_only=True)
class LinearExplainer:
    """A model that is a sum over its columns.

    Attributes:
        raw: its outputs on the scale where it is one.
        middle: a row from the middle of the training rows, shape (columns,).
        expected: E of the outputs over each column while the others stay at the middle, shape
            (columns, outputs), less the output at the middle.
    """

    raw: Raw
    scale: Scale
    middle: Matrix
    expected: Floats
    at_middle: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.at_middle = self.raw(self.middle[None, :])[0]

    def explain(self, row: Matrix, place: int | None, tick: Tick) -> Explained:
        """What one output is made of."""
        tick()
        columns = len(row)
        outputs = np.concatenate([self._one_by_one(row, tick), self.raw(row[None, :])])
        weights = weights_of(place, outputs.shape[1])
        parts = (outputs[:columns] - self.at_middle - self.expected) @ weights
        return Explained(
            method="linear",
            scale=self.scale,
            base=float((self.at_middle + self.expected.sum(axis=0)) @ weights),
            output=float(outputs[-1] @ weights),
            contributions=parts,
        )

    def _one_by_one(self, row: Matrix, tick: Tick) -> Floats:
        """Outputs of the middle row with one column at a time taken from this row."""
        columns = len(row)
        step = max(1, _MOST_CELLS // columns)
        found = []
        for start in range(0, columns, step):
            tick()
            chosen = np.arange(start, min(start + step, columns))
            rows = np.repeat(self.middle[None, :], len(chosen), axis=0)
            rows[np.arange(len(chosen)), chosen] = row[chosen]
            found.append(self.raw(rows))
        return np.concatenate(found)


def linear_explainer(
    raw: Raw, scale: Scale, prepared: Prepared, background: Background, like: Matrix
) -> LinearExplainer:
    """The explainer of a model, after its expectations were measured.

    Args:
        like: any matrix as the model takes it; it gives the type of the values.
    """
    spread = [
        _weighted(profile, is_bent=index in prepared.bent)
        for index, profile in enumerate(background.profiles)
    ]
    middle = np.empty(len(spread), dtype=like.dtype)
    middle[:] = [values[0][0] for values in spread]
    means = [_mean_output(raw, middle, index, values) for index, values in enumerate(spread)]
    expected = np.array(means) - raw(middle[None, :])[0]
    return LinearExplainer(raw=raw, scale=scale, middle=middle, expected=expected)


def _mean_output(raw: Raw, middle: Matrix, column: int, values: Sequence[Weighted]) -> Floats:
    rows = np.repeat(middle[None, :], len(values), axis=0)
    rows[:, column] = [value for value, _ in values]
    mean: Floats = np.array([weight for _, weight in values]) @ raw(rows)
    return mean


def _weighted(profile: Profile, *, is_bent: bool) -> list[Weighted]:
    """Values that stand for a column, with weights that sum to one; the most usual one first."""
    found: list[Weighted] = []
    if profile.mean is not None and not is_bent:
        found = [(profile.mean, 1 - profile.missing)]
    elif profile.levels:
        found = list(profile.levels)
    elif profile.quantiles:
        middles = np.convolve(profile.quantiles, [0.5, 0.5], mode="valid").tolist()
        found = [(value, (1 - profile.missing) / len(middles)) for value in middles]
    if profile.missing > 0 or not found:
        empty = None if profile.is_text else np.nan
        found.append((empty, max(profile.missing, 0.0) or 1.0))
    total = sum(weight for _, weight in found)
    return [(value, weight / total) for value, weight in found]
