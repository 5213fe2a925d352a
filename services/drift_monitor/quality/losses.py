"""How wrong an answer was, once its outcome is known; the losses are those of the gate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
    def kind(self) -> tuple[str, tuple[Value, ...]]:
        """What losses depend on: judges of one kind find the same."""
        return self.metric, self.classes

    @property
    def needs_features(self) -> bool:
        """Whether the rule answers from the features of a row."""
        return self.rule["rule"] in _NEEDS_FEATURES

    def loss(self, answer: Value, score: float | None, value: Value) -> float | None:
        """The loss of one answer with its score, by what came true; None when it has none."""
        return self.losses([answer], [score], [value])[0]

    def losses(
        self,
        answers: Sequence[Value],
        scores: Sequence[float | None],
        values: Sequence[Value],
    ) -> Sequence[float | None]:
        """The loss of each of many answers."""
        match self.metric:
            case "mae":
                return list(_errors(answers, values).tolist())
            case "mse" | "rmse":
                return list(np.square(_errors(answers, values)).tolist())
            case "mape":
                return [_share(float(a), float(v)) for a, v in zip(answers, values, strict=True)]
            case quantile if quantile.startswith(PINBALL):
                q = float(quantile.removeprefix(PINBALL))
                return [_pinball(q, a, v) for a, v in zip(answers, values, strict=True)]
            case "log_loss":
                seconds = map(self._is_second, values)
                return [_log_loss(s, second) for s, second in zip(scores, seconds, strict=True)]
            case "brier":
                seconds = map(self._is_second, values)
                return [_brier(s, second) for s, second in zip(scores, seconds, strict=True)]
            case _:
                return [float(a != v) for a, v in zip(answers, values, strict=True)]

    def baseline_loss(self, row: Mapping[str, Any], value: Value) -> float | None:
        """The loss of the baseline rule on the same row."""
        return self.baseline_losses([value], [row])[0]

    def baseline_losses(
        self, values: Sequence[Value], rows: Sequence[Mapping[str, Any]] = ()
    ) -> Sequence[float | None]:
        """The loss of the baseline rule on each of many rows.

        Args:
            rows: as many as values, where the rule needs features.
        """
        answers, scores = self.rule_answers(len(values), rows)
        return self.losses_or_none(answers, scores, values)

    def rule_answers(
        self, count: int, rows: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[Value], list[float | None]]:
        """What the baseline rule says of so many rows, and its scores."""
        rule = dict(self.rule)
        if self.needs_features:
            answers = [baselines.answer(rule, row) for row in rows]
            return answers, [self._score_of_rule(answer) for answer in answers]
        answer = baselines.answer(rule, {})
        return [answer] * count, [self._score_of_rule(answer)] * count

    def losses_or_none(
        self,
        answers: Sequence[Value],
        scores: Sequence[float | None],
        values: Sequence[Value],
    ) -> Sequence[float | None]:
        """As `losses`; None for each answer that is of no use."""
        try:
            return self.losses(answers, scores, values)
        except (TypeError, ValueError):
            rest = zip(answers, scores, values, strict=True)
            return [self._or_none(*one) for one in rest]

    def _or_none(self, answer: Value, score: float | None, value: Value) -> float | None:
        try:
            return self.loss(answer, score, value)
        except (TypeError, ValueError):
            return None

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


def _errors(answers: Sequence[Value], values: Sequence[Value]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        off = np.array(answers, np.float64) - np.array(values, np.float64)
    return np.minimum(np.abs(off), LARGEST)


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
