"""How wrong an answer was, once its outcome is known; the losses are those of the gate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from typing import Any, Final

from services.drift_monitor.quality.joining import Value
from shared import baselines
from shared.losses import LEAST_PROBABILITY

LARGEST: Final = 1e140
"""An error beyond is this: its square and the sum of many such stay finite."""
PINBALL: Final = "pinball@"
_NEEDS_FEATURES: Final = frozenset({"column", "expression"})

Loss = Callable[[Any, float | None, Value], float | None]
"""Of an answer with its score, by what came true; None when it cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What is needed to say how wrong an answer was.

    Attributes:
        metric: of the watched losses; `rmse` has squared losses.
        classes: in the order of the probabilities; the second one is what scores are of.
        rule: the baseline rule, asked about the same rows.
    """

    metric: str
    classes: tuple[Value, ...]
    rule: Mapping[str, Any]

    @property
    def needs_features(self) -> bool:
        """Whether the rule answers from the features of a row."""
        return self.rule["rule"] in _NEEDS_FEATURES

    def loss(self, answer: Value, score: float | None, value: Value) -> float | None:
        """The loss of one answer; None when it cannot be had."""
        return self.losses()(answer, score, value)

    def losses(self) -> Loss:
        """The loss of any answer; worked out once for many of them."""
        match self.metric:
            case "mae":
                return lambda answer, _, value: _error(answer, value)
            case "mse" | "rmse":
                return lambda answer, _, value: _error(answer, value) ** 2
            case "mape":
                return lambda answer, _, value: _share(float(answer), float(value))
            case quantile if quantile.startswith(PINBALL):
                q = float(quantile.removeprefix(PINBALL))
                return lambda answer, _, value: _pinball(q, answer, value)
            case "log_loss":
                return lambda _, score, value: _log_loss(score, self._is_second(value))
            case "brier":
                return lambda _, score, value: _brier(score, self._is_second(value))
            case _:
                return lambda answer, _, value: float(answer != value)

    def baseline_loss(self, row: Mapping[str, Any], value: Value) -> float | None:
        """The loss of the baseline rule on the same row."""
        return self.baseline_losses()(row, value)

    def baseline_losses(self) -> Callable[[Mapping[str, Any], Value], float | None]:
        """The loss of the baseline rule on any row; worked out once for many of them."""
        loss, rule = self.losses(), dict(self.rule)
        if self.needs_features:
            return lambda row, value: self._of_rule(loss, baselines.answer(rule, row), value)
        answer = baselines.answer(rule, {})
        score = self._score_of_rule(answer)
        return lambda _, value: _or_none(loss, answer, score, value)

    def _of_rule(self, loss: Loss, answer: Value, value: Value) -> float | None:
        return _or_none(loss, answer, self._score_of_rule(answer), value)

    def _score_of_rule(self, answer: Value) -> float | None:
        if self.metric not in ("log_loss", "brier"):
            return None
        if self.rule["rule"] == "majority":
            return baselines.probabilities(dict(self.rule), self.classes)[1]
        return baselines.one_hot(str(answer), self.classes)[1]

    def _is_second(self, value: Value) -> bool | None:
        """None for a class that the model cannot name: it gave it no probability at all."""
        if value not in self.classes:
            return None
        return value == self.classes[1]


def _or_none(loss: Loss, answer: Value, score: float | None, value: Value) -> float | None:
    try:
        return loss(answer, score, value)
    except (TypeError, ValueError):
        return None


def _error(answer: Value, value: Value) -> float:
    return min(abs(float(answer) - float(value)), LARGEST)


def _pinball(q: float, answer: Value, value: Value) -> float:
    missed = max(-LARGEST, min(float(value) - float(answer), LARGEST))
    return max(q * missed, (q - 1) * missed)


def _share(answer: float, value: float) -> float | None:
    """None for an outcome of zero, of which nothing is a share; the reference leaves these out."""
    return min(abs(answer - value) / abs(value), LARGEST) if value else None


def _log_loss(score: float | None, is_second: bool | None) -> float | None:
    if score is None:
        return None
    likely = 0.0 if is_second is None else score if is_second else 1 - score
    return -log(max(likely, LEAST_PROBABILITY))


def _brier(score: float | None, is_second: bool | None) -> float | None:
    if score is None:
        return None
    return 1.0 if is_second is None else (score - float(is_second)) ** 2
