"""How wrong the answers were once their outcomes are known: which label counts, and the verdict.

Labels come late, early, twice, revised, or never. Which one counts is a function of the set of
labels, not of their order, so whatever order they come in, the same losses result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite, log
from typing import Any, Final, Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from shared import baselines, probability
from shared.losses import LEAST_PROBABILITY
from shared.reference import LEAST_LOSSES, Losses

Value = float | str | bool
Labelled = Literal["joined", "revised", "duplicate", "conflict", "invalid"]

ALPHA: Final = 5e-4
"""Probability of calling a window worse that is not, all its looks together."""
LARGEST: Final = 1e140
"""An error beyond is this: its square and the sum of many such stay finite."""
PINBALL: Final = "pinball@"
STEPS: Final = (0.5, 0.8, 1.0)
"""A window is looked at when so much of it has labels; each look has its part of `ALPHA`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One outcome as somebody observed it."""

    value: Value
    revision: int
    observed_at: datetime
    event: UUID


def becomes(old: Label | None, new: Label) -> Labelled:
    """What a further label of a prediction means; `joined` and `revised` ones count from now on.

    The higher revision counts. Of two of one revision the one that was observed first counts, and
    of two observed at once the one with the smaller id, so that order plays no part; where they
    differ, that is a conflict.
    """
    if old is None:
        return "joined"
    if _rank(new) > _rank(old):
        return "revised"
    return "conflict" if new.revision == old.revision and new.value != old.value else "duplicate"


def _rank(label: Label) -> tuple[int, float, int]:
    return label.revision, -label.observed_at.timestamp(), -label.event.int


def is_usable(value: Value, classes: Sequence[Value]) -> bool:
    """Whether a label can be an outcome of the model: a finite number, or a label for classes."""
    if classes:
        return not isinstance(value, float) or isfinite(value)
    return isinstance(value, float | int) and not isinstance(value, bool) and isfinite(value)


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


def step_of(labels: int, rows: int) -> int:
    """How many of `STEPS` a window has reached."""
    return sum(labels >= step * rows for step in STEPS) if rows else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The quality of a window as known now.

    Attributes:
        value: the metric over the labelled rows.
        reference: the same over the held-out rows.
        bound: what the value, single losses capped, must exceed to be called worse; None when
            nothing can be said.
        is_fine: whether the value lies within the tolerance.
    """

    value: float
    reference: float
    labels: int
    bound: float | None
    is_worse: bool
    is_fine: bool
    detail: str


def measure(
    reference: Losses,
    losses: NDArray[np.float64],
    *,
    tolerance: float,
    alpha: float = ALPHA / len(STEPS),
) -> Measured:
    """Compare the losses of a window with those of the held-out rows.

    The test is Student's on capped losses: a capped mean is never larger than the mean, so a
    bound that exceeds the limit holds for the mean too. Standard errors are widened by how alike
    neighbouring losses are in the reference.

    Args:
        reference: of the version's held-out rows.
        losses: of the labelled rows of the window in order, shape (n,), n >= 1.
        tolerance: relative worsening that is not worth a word.
        alpha: probability of calling a window worse that is not.
    """
    mean = float(losses.mean())
    limit = reference.mean * (1 + tolerance)
    bound: float | None = None
    is_worse = False
    detail = f"not judged: {reference.rows} held-out and {len(losses)} labelled rows"
    if reference.rows >= LEAST_LOSSES and len(losses) > 1:
        capped = np.minimum(losses, reference.cap)
        bound = limit + _reach(reference, capped, tolerance, alpha)
        is_worse = float(capped.mean()) > bound
        words = "worse than" if is_worse else "not shown worse than"
        detail = (
            f"{reference.metric} {_in_unit(reference.metric, mean):.4g} over {len(losses)} labels, "
            f"{words} {_in_unit(reference.metric, reference.mean):.4g} by more than "
            f"{tolerance:.0%}; alpha {alpha:.2g}"
        )
    return Measured(
        value=_in_unit(reference.metric, mean),
        reference=_in_unit(reference.metric, reference.mean),
        labels=len(losses),
        bound=None if bound is None else _in_unit(reference.metric, bound),
        is_worse=is_worse,
        is_fine=mean <= limit,
        detail=detail,
    )


def _reach(reference: Losses, capped: NDArray[np.float64], tolerance: float, alpha: float) -> float:
    """How far a capped mean lies above its limit by chance, at most, but for `alpha`."""
    # In a run of bad answers neighbours are alike because the world changed, which is what is
    # looked for; so how alike they are by chance is taken from the reference alone.
    deviation = max(float(capped.std(ddof=1)), reference.capped_deviation)
    own = deviation**2 * reference.inflation / len(capped)
    known = (reference.capped_deviation * (1 + tolerance)) ** 2 * reference.inflation
    df = max(2.0, min(len(capped), reference.rows) / reference.inflation - 1)
    return probability.t_quantile(alpha, df) * float((own + known / reference.rows) ** 0.5)


def _in_unit(metric: str, mean: float) -> float:
    return float(mean**0.5) if metric == "rmse" else mean
