"""What an explanation consists of, in figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Matrix = NDArray[Any]
Method = Literal["linear", "tree", "sampled", "rule"]
Scale = Literal["answer", "log_answer", "probability", "log_odds", "score"]
"""In which unit contributions add up.

`log_odds` are those of the explained one of two classes. A `score` of a class is the number that
the model compares between classes, less its mean over them: contributions to the probabilities
themselves do not add up. `log_answer` is the natural logarithm of a regression's answer.
"""

Tick = Callable[[], None]
"""Called between parts of long work; raises when its time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One explained output: `base` plus all contributions is `output`.

    Attributes:
        contributions: shape (columns,), in the order of the manifest.
        errors: standard error of each contribution, of the same shape; None where they are exact.
        base_error: standard error of `base`; None where it is exact.
        samples: pairs of opposite orders that were walked; 0 where nothing was sampled.
    """

    method: Method
    scale: Scale
    base: float
    output: float
    contributions: Floats
    errors: Floats | None = None
    base_error: float | None = None
    samples: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether nothing was sampled."""
        return self.errors is None

    def adds_up(self) -> bool:
        """Whether base and contributions make up the output, as far as floats can."""
        size = abs(self.base) + abs(self.output) + float(np.abs(self.contributions).sum())
        rest = self.base + float(self.contributions.sum()) - self.output
        return abs(rest) <= 1e-9 * max(1.0, size)


class Explainer(Protocol):
    """Explains rows of one fitted estimator."""

    def explain(self, row: Matrix, place: int | None, tick: Tick) -> Explained:
        """What one output is made of.

        Args:
            row: shape (columns,).
            place: of the explained class; None for regression.
            tick: raises when there is no time left.
        """


def weights_of(place: int | None, outputs: int) -> Floats:
    """How the raw outputs of a model make up the one that is explained, shape (outputs,).

    One output is the answer of a regression or the log-odds of the second of two classes.
    """
    if place is None:
        return np.ones(1)
    if outputs == 1:
        return np.array([1.0 if place == 1 else -1.0])
    weights = np.full(outputs, -1 / outputs)
    weights[place] += 1.0
    return weights


def as_matrix(values: Sequence[Any]) -> Matrix:
    """One row as a matrix of shape (1, columns), of floats if it can be."""
    array = np.asarray(values)
    return array.reshape(1, -1)
