"""Metrics that are functions of sums over rows: rmse, r2, f1, balanced accuracy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Evidence, Floats
from services.evaluator.metrics.exact import quantised, ratio
from services.evaluator.metrics.rows import equal_to, losses_of, said
from shared.errors import Unprocessable

Finish = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """A metric that is a function of sums over rows.

    Attributes:
        columns: shape (rows, columns).
        finish: from sums of shape (..., columns) to values of shape (...).
    """

    columns: Floats
    finish: Finish

    def of_weights(self, weights: Floats) -> Floats:
        """See `Measure`."""
        most = int(weights.sum(axis=1).max(initial=1.0))
        whole, steps = quantised(self.columns, most)
        return self.finish((weights @ whole) * steps)

    def without(self, groups: NDArray[np.intp], count: int) -> Floats:
        """See `Measure`."""
        whole, steps = quantised(self.columns, len(self.columns))
        inside = np.column_stack([np.bincount(groups, part, count) for part in whole.T])
        return self.finish((whole.sum(axis=0) - inside) * steps)


def sums_of(evidence: Evidence, predictor: str, metric: str) -> Sums:
    """The sums behind rmse, r2, f1 or balanced accuracy."""
    match metric:
        case "rmse":
            return _root(losses_of(evidence, predictor, "mse"))
        case "r2":
            return _unexplained(losses_of(evidence, predictor, "mse"), evidence.y)
        case "f1" | "balanced_accuracy":
            return _confusions(evidence, predictor, metric)
        case unknown:
            raise Unprocessable(f"metric {unknown!r} is no function of sums")


def _root(squares: Floats) -> Sums:
    columns = np.column_stack([squares, np.ones_like(squares)])
    return Sums(columns=columns, finish=lambda sums: np.sqrt(ratio(sums[..., 0], sums[..., 1])))


def _unexplained(squares: Floats, y: NDArray[Any]) -> Sums:
    """1 - R2: squared losses over the spread of the outcomes."""
    centred = np.asarray(y, dtype=np.float64) - float(np.median(y))
    columns = np.column_stack([squares, centred, np.square(centred), np.ones_like(squares)])

    def finish(sums: Floats) -> Floats:
        spread = sums[..., 2] - ratio(np.square(sums[..., 1]), sums[..., 3])
        # What rounding leaves of a spread of nothing is no spread.
        return ratio(sums[..., 0], np.where(spread > sums[..., 2] * 1e-9, spread, 0.0))

    return Sums(columns=columns, finish=finish)


def _confusions(evidence: Evidence, predictor: str, metric: str) -> Sums:
    """Per class that counts: rows answered rightly, rows answered so, rows that are so."""
    answered = said(evidence, predictor).values
    counted = counted_classes(evidence, metric)
    columns: list[Floats] = []
    for label in counted:
        is_so, is_said = (equal_to(values, label) for values in (evidence.y, answered))
        columns += [is_so * is_said, is_said, is_so]
    finish = _f1_loss if metric == "f1" else _recall_loss
    others = ~np.logical_or.reduce([equal_to(evidence.y, label) > 0 for label in counted])
    return Sums(columns=np.column_stack([*columns, others.astype(np.float64)]), finish=finish)


def counted_classes(evidence: Evidence, metric: str) -> list[Any]:
    """The classes that a score is averaged over: for f1 of two classes the second one alone."""
    classes = list(evidence.classes["candidate"])
    if metric == "f1" and len(classes) == 2:
        return classes[1:]
    return [label for label in classes if np.any(equal_to(evidence.y, label))]


def _f1_loss(sums: Floats) -> Floats:
    right, answered, observed = (sums[..., place:-1:3] for place in range(3))
    loss = 1 - (2 * right / np.maximum(answered + observed, 1)).mean(axis=-1)
    missing = (observed <= 0).any(axis=-1)
    if observed.shape[-1] == 1:
        missing |= sums[..., -1] <= 0
    return np.where(missing, np.nan, loss)


def _recall_loss(sums: Floats) -> Floats:
    right, observed = sums[..., 0:-1:3], sums[..., 2:-1:3]
    loss = 1 - (right / np.maximum(observed, 1)).mean(axis=-1)
    return np.where((observed <= 0).any(axis=-1), np.nan, loss)
