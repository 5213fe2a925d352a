"""Which metrics there are, and what every one of them can be asked."""

from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Floats

Kind = Literal["mean", "mistakes", "sums", "area", "precision"]
"""How a metric is compared: by row means, by counts of mistakes, by sums over rows, by DeLong's
placements, by sorted sums."""

_KINDS: Final[dict[str, Kind]] = {
    "accuracy": "mistakes",
    "rmse": "sums",
    "r2": "sums",
    "f1": "sums",
    "balanced_accuracy": "sums",
    "roc_auc": "area",
    "average_precision": "precision",
}
ON_LABELS: Final = frozenset({"f1", "balanced_accuracy", "roc_auc", "average_precision"})
"""Metrics that need more than one class among the outcomes."""
_KNOWN_SCALE: Final = {"accuracy": 1.0, "brier": 1.0}


class Insufficient(Exception):
    """The rows cannot carry an interval; the gate stays shut."""


class Measure(Protocol):
    """A metric of one predictor on fixed rows, under any weights."""

    def of_weights(self, weights: Floats) -> Floats:
        """Values, shape (draws,), for weights (whole numbers) of shape (draws, rows)."""
        ...

    def without(self, groups: NDArray[np.intp], count: int) -> Floats:
        """Values without the rows of each group, shape (count,); groups by row, from 0."""
        ...


def kind_of(metric: str) -> Kind:
    """How it is compared; what is unknown here is a mean of the user's own row losses."""
    return _KINDS.get(metric, "mean")


def surrogate_of(metric: str, task: str) -> str:
    """A mean over rows that orders parts of the hold-out where the metric itself is none."""
    if kind_of(metric) in ("mean", "mistakes"):
        return metric
    return "mse" if task == "regression" else "brier"


def known_scale(metric: str, classes: int) -> float | None:
    """The largest difference of two losses of one row; None when there is no such number."""
    scale = _KNOWN_SCALE.get(metric)
    return 2.0 if metric == "brier" and classes > 2 else scale
