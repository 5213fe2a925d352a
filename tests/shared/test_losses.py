from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import Unprocessable
from shared.losses import exact_log, metric_value, row_losses


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


def test_shares_of_the_outcome_have_no_unit() -> None:
    y, answers = numbers(2, -4, 0), SomeAnswers(values=numbers(1, -5, 0))

    assert row_losses("mape", y, answers).tolist() == [0.5, 0.25, np.inf]


def test_a_quantile_pays_more_on_the_side_where_it_should_seldom_be() -> None:
    y, answers = numbers(10, 10), SomeAnswers(values=numbers(8, 12))

    assert row_losses("pinball@0.9", y, answers).tolist() == pytest.approx([1.8, 0.2])
    assert row_losses("pinball@0.5", y, answers).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("metric", ["pinball@", "pinball@x", "pinball@1.5"])
def test_what_is_no_quantile_is_refused(metric: str) -> None:
    with pytest.raises(Unprocessable, match="no quantile"):
        row_losses(metric, numbers(1), SomeAnswers(values=numbers(1)))


def test_a_logarithm_of_single_steps_is_as_good_as_that_of_the_library() -> None:
    x = np.concatenate([np.logspace(-300, 300, 5001), 1 + np.linspace(-1e-3, 1e-3, 1000)])

    error = np.abs(exact_log(x) - np.log(x)) / np.maximum(1, np.abs(np.log(x)))

    assert error.max() < 1e-15
    assert exact_log(numbers(1.0))[0] == 0
    assert np.isnan(exact_log(numbers(np.nan)))[0]
