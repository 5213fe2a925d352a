"""How wrong an answer was, once its outcome is known; the losses are those of the gate."""

from collections.abc import Mapping
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
        match self.metric:
            case "mae":
                return min(abs(float(answer) - float(value)), LARGEST)
            case "mse" | "rmse":
                return min(abs(float(answer) - float(value)), LARGEST) ** 2
            case "mape":
                return _share(float(answer), float(value))
            case quantile if quantile.startswith(PINBALL):
                missed = max(-LARGEST, min(float(value) - float(answer), LARGEST))
                q = float(quantile.removeprefix(PINBALL))
                return max(q * missed, (q - 1) * missed)
            case "log_loss":
                return _log_loss(score, self._is_second(value))
            case "brier":
                return _brier(score, self._is_second(value))
            case _:
                return float(answer != value)

    def baseline_loss(self, row: Mapping[str, Any], value: Value) -> float | None:
        """The loss of the baseline rule on the same row."""
        answer = baselines.answer(dict(self.rule), row)
        score: float | None = None
        if self.metric in ("log_loss", "brier"):
            if self.rule["rule"] == "majority":
                score = baselines.probabilities(dict(self.rule), self.classes)[1]
            else:
                score = baselines.one_hot(str(answer), self.classes)[1]
        try:
            return self.loss(answer, score, value)
        except (TypeError, ValueError):
            return None

    def _is_second(self, value: Value) -> bool | None:
        """None for a class that the model cannot name: it gave it no probability at all."""
        if value not in self.classes:
            return None
        return value == self.classes[1]


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
