"""What each predictor answered, and how wrong it was row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.evaluator.evidence import Evidence, Floats
from shared.errors import Unprocessable
from shared.losses import row_losses
from shared.spec_gate import is_row_metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One predictor's answers; for classification the likeliest label, the first of equals."""

    values: NDArray[Any]
    probabilities: Floats | None


def said(evidence: Evidence, predictor: str) -> Said:
    """What a predictor answered to every row."""
    answers = evidence.answers[predictor]
    if evidence.task == "regression":
        return Said(values=answers, probabilities=None)
    labels = _labels(evidence.classes[predictor])
    return Said(values=labels[answers.argmax(axis=1)], probabilities=answers)


def _labels(classes: Sequence[Any]) -> NDArray[Any]:
    labels = np.empty(len(classes), dtype=object)
    labels[:] = classes
    return labels


def losses_of(evidence: Evidence, predictor: str, metric: str) -> Floats:
    """One loss per row, for metrics that are means of such.

    Raises:
        Unprocessable: there are none, or the metric does not fit the answers.
    """
    own = evidence.own_losses.get((predictor, metric))
    if own is not None:
        return own
    if not is_row_metric(metric):
        raise Unprocessable(f"there are no losses of {metric!r}")
    classes = evidence.classes.get(predictor, ())
    return row_losses(metric, evidence.y, said(evidence, predictor), classes)


def equal_to(values: NDArray[Any], label: Any) -> Floats:
    """1 where a value is the label, else 0."""
    return np.array([value == label for value in values.tolist()], dtype=np.float64)
