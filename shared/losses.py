"""How wrong each answer was: one loss per row, lower is better, for every metric of a spec.

Trainer, evaluator and monitor use the same losses, so that their figures can be compared.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import Unprocessable

Metric = Literal["mae", "mse", "rmse", "log_loss", "brier", "accuracy"]
Label = str | float | bool

LEAST_PROBABILITY: Final = 1e-15
"""Probabilities are clipped here before their logarithm, so that one sure mistake stays finite."""
ON_PROBABILITIES: Final = frozenset({"log_loss", "brier"})
ON_NUMBERS: Final = frozenset({"mae", "mse", "rmse"})


class Answered(Protocol):
    """What a model answered, as `shared.models.Answers` has it."""

    @property
    def values(self) -> NDArray[Any]:
        """The answer to each row, shape (n,): numbers, or labels for classification."""
        ...

    @property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Shape (n, classes), or None for regression."""
        ...


def row_losses(
    metric: str, y: NDArray[Any], answers: Answered, classes: Sequence[Label] = ()
) -> NDArray[np.float64]:
    """The loss of every row. A non-finite answer has a non-finite loss; callers must look.

    Args:
        metric: one of `Metric`; `rmse` has the squared losses of `mse`.
        y: what was observed, shape (n,).
        answers: what was answered to the same rows.
        classes: labels in the order of the probabilities; empty for regression.

    Returns:
        Shape (n,). Accuracy is 0/1 loss; Brier is 0 to 1 for two classes, 0 to 2 for more.

    Raises:
        Unprocessable: lengths differ, probabilities are missing, or a label is no class.
    """
    if len(y) != len(answers.values):
        raise Unprocessable(f"{len(y)} outcomes and {len(answers.values)} answers cannot be paired")
    match metric:
        case "mae":
            return np.abs(_numbers(y) - _numbers(answers.values))
        case "mse" | "rmse":
            return np.square(_numbers(y) - _numbers(answers.values))
        case "accuracy":
            return _mistakes(y, answers.values)
        case "log_loss":
            return _log_losses(_places(y, classes), _checked(answers, y, classes))
        case "brier":
            return _brier_losses(_places(y, classes), _checked(answers, y, classes))
        case unknown:
            raise Unprocessable(f"metric {unknown!r} is not known here")


def metric_value(metric: str, losses: NDArray[np.float64]) -> float:
    """The metric over these rows, in its own unit; accuracy as 1 - accuracy.

    Raises:
        Unprocessable: there are no rows.
    """
    if not len(losses):
        raise Unprocessable(f"{metric} of no rows does not exist")
    mean = float(np.mean(losses))
    return float(np.sqrt(mean)) if metric == "rmse" else mean


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Unprocessable("this metric needs numbers, and these are labels") from error


def _mistakes(y: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    # Compared as Python values: 1, 1.0 and True are one label, however the arrays hold them.
    pairs = zip(y.tolist(), values.tolist(), strict=True)
    return np.array([observed != answered for observed, answered in pairs], dtype=np.float64)


def _places(y: NDArray[Any], classes: Sequence[Label]) -> NDArray[np.int64]:
    place = {label: index for index, label in enumerate(classes)}
    try:
        return np.array([place[label] for label in y.tolist()], dtype=np.int64)
    except KeyError as error:
        raise Unprocessable(f"the outcome {error.args[0]!r} is no class of this model") from error


def _checked(answers: Answered, y: NDArray[Any], classes: Sequence[Label]) -> NDArray[np.float64]:
    if answers.probabilities is None:
        raise Unprocessable("this metric needs probabilities, and the model gives none")
    probabilities = np.asarray(answers.probabilities, dtype=np.float64)
    if probabilities.shape != (len(y), len(classes)):
        raise Unprocessable(
            f"probabilities of shape {probabilities.shape} do not fit "
            f"{len(y)} rows and {len(classes)} classes"
        )
    return probabilities


def _log_losses(
    places: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    likely = probabilities[np.arange(len(places)), places]
    losses: NDArray[np.float64] = -np.log(np.clip(likely, LEAST_PROBABILITY, 1.0))
    return losses


def _brier_losses(
    places: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    observed = np.zeros_like(probabilities)
    observed[np.arange(len(places)), places] = 1.0
    losses: NDArray[np.float64] = np.square(probabilities - observed).sum(axis=1)
    return losses / 2 if probabilities.shape[1] == 2 else losses
