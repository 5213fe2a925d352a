"""How wrong each answer was: one loss per row, lower is better, for every metric of a spec.

Trainer, evaluator and monitor use the same losses, so that their figures can be compared.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import Unprocessable

Metric = Literal["mae", "mse", "rmse", "mape", "log_loss", "brier", "accuracy"]
"""Besides there is `pinball@q`, the loss of the quantile q."""
Label = str | float | bool

LEAST_PROBABILITY: Final = 1e-15
"""Probabilities are clipped here before their logarithm, so that one sure mistake stays finite."""
ON_PROBABILITIES: Final = frozenset({"log_loss", "brier"})
ON_NUMBERS: Final = frozenset({"mae", "mse", "rmse", "mape"})
_PINBALL: Final = "pinball@"
_LN_2: Final = 0.6931471805599453
_ROOT_HALF: Final = 0.7071067811865476


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
        metric: one of `Metric` or `pinball@q`; `rmse` has the squared losses of `mse`. The `mape`
            of an outcome of 0 does not exist and is infinite here.
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
        case "mape":
            return _shares(_numbers(y), _numbers(answers.values))
        case "accuracy":
            return _mistakes(y, answers.values)
        case "log_loss":
            return _log_losses(_places(y, classes), _checked(answers, y, classes))
        case "brier":
            return _brier_losses(_places(y, classes), _checked(answers, y, classes))
        case quantile if quantile.startswith(_PINBALL):
            missed = _numbers(y) - _numbers(answers.values)
            q = _quantile(quantile)
            return np.maximum(q * missed, (q - 1) * missed)
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


def _shares(y: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.full(len(y), np.inf)
    np.divide(np.abs(y - values), np.abs(y), out=shares, where=y != 0)
    return shares


def _quantile(metric: str) -> float:
    try:
        q = float(metric.removeprefix(_PINBALL))
    except ValueError:
        q = 0.0
    if not 0 < q < 1:
        raise Unprocessable(f"metric {metric!r} names no quantile between 0 and 1")
    return q


def exact_log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of positive numbers, the same bit for bit on every processor.

    Libraries differ in the last digit between processors, and verdicts are recomputed elsewhere;
    this uses nothing but single additions, products and quotients. The error is below 1e-15 of
    max(1, |ln x|).

    Source: ln m = 2 artanh((m - 1) / (m + 1)), Abramowitz and Stegun (1964), 4.1.27.
    """
    mantissa, exponent = np.frexp(x)
    low = mantissa < _ROOT_HALF
    mantissa = np.where(low, 2 * mantissa, mantissa)
    whole = exponent - low
    ratio = (mantissa - 1) / (mantissa + 1)
    square = ratio * ratio
    series = np.zeros_like(ratio)
    for odd in range(25, 0, -2):
        series = series * square + 1 / odd
    result: NDArray[np.float64] = whole * _LN_2 + 2 * ratio * series
    return result


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
    losses: NDArray[np.float64] = -exact_log(np.clip(likely, LEAST_PROBABILITY, 1.0))
    return losses


def _brier_losses(
    places: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    observed = np.zeros_like(probabilities)
    observed[np.arange(len(places)), places] = 1.0
    losses: NDArray[np.float64] = np.square(probabilities - observed).sum(axis=1)
    return losses / 2 if probabilities.shape[1] == 2 else losses
