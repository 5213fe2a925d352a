from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import Unprocessable
from shared.losses import metric_value, row_losses


@dataclass(frozen=True, slots=True, kw_only=True)
class SomeAnswers:
    values: NDArray[Any]
    probabilities: NDArray[np.float64] | None = None


def numbers(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def test_absolute_and_squared_losses_are_in_the_unit_of_the_target() -> None:
    y, answers = numbers(1, 2, 3), SomeAnswers(values=numbers(1, 4, 0))

    assert row_losses("mae", y, answers).tolist() == [0, 2, 3]
    assert row_losses("mse", y, answers).tolist() == [0, 4, 9]
    assert metric_value("rmse", row_losses("rmse", y, answers)) == pytest.approx(np.sqrt(13 / 3))


def test_log_loss_of_a_sure_mistake_stays_finite() -> None:
    answers = SomeAnswers(
        values=np.array(["a", "a"]), probabilities=np.array([[1.0, 0.0], [0.5, 0.5]])
    )

    losses = row_losses("log_loss", np.array(["b", "b"]), answers, ("a", "b"))

    assert losses[0] == pytest.approx(-np.log(1e-15))
    assert losses[1] == pytest.approx(np.log(2))


def test_brier_of_two_classes_lies_between_0_and_1() -> None:
    answers = SomeAnswers(
        values=np.array([True, False]), probabilities=np.array([[0.0, 1.0], [0.7, 0.3]])
    )

    losses = row_losses("brier", np.array([False, False]), answers, (False, True))

    assert losses.tolist() == pytest.approx([1.0, 0.09])


def test_labels_are_compared_as_values_whatever_their_type_in_the_file() -> None:
    answers = SomeAnswers(values=numbers(1, 0, 1))

    assert row_losses("accuracy", np.array([True, False, False]), answers).tolist() == [0, 0, 1]


def test_a_non_finite_answer_has_a_non_finite_loss() -> None:
    answers = SomeAnswers(values=numbers(np.nan))

    assert np.isnan(row_losses("mae", numbers(1), answers)[0])


@pytest.mark.parametrize(
    ("metric", "y", "answers", "says"),
    [
        ("mae", numbers(1, 2), SomeAnswers(values=numbers(1)), "cannot be paired"),
        ("mae", np.array(["a"]), SomeAnswers(values=numbers(1)), "needs numbers"),
        ("log_loss", np.array(["a"]), SomeAnswers(values=np.array(["a"])), "needs probabilities"),
        (
            "brier",
            np.array(["c"]),
            SomeAnswers(values=np.array(["a"]), probabilities=np.array([[0.5, 0.5]])),
            "no class",
        ),
        (
            "log_loss",
            np.array(["a"]),
            SomeAnswers(values=np.array(["a"]), probabilities=np.array([[1.0]])),
            "do not fit",
        ),
        ("f1", numbers(1), SomeAnswers(values=numbers(1)), "not known"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_reason(
    metric: str, y: NDArray[Any], answers: SomeAnswers, says: str
) -> None:
    with pytest.raises(Unprocessable, match=says):
        row_losses(metric, y, answers, ("a", "b"))


def test_no_rows_have_no_metric() -> None:
    with pytest.raises(Unprocessable, match="no rows"):
        metric_value("mae", numbers())
