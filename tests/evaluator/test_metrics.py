"""Metrics of weighted rows against the library that everybody knows, and exact sums."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as known

from services.evaluator.evidence import Evidence
from services.evaluator.metrics import (
    known_scale,
    losses_of,
    measure_of,
    quantised,
    said,
    surrogate_of,
)
from shared.errors import Unprocessable
from tests.evaluator.evident import a_generator, some_evidence

ROWS = 60


def three_classes(seed: int) -> Evidence:
    draw = a_generator(seed)
    labels = ("a", "b", "c")
    answers = draw.dirichlet([1, 1, 1], size=ROWS)
    y = np.array([labels[draw.choice(3, p=row)] for row in answers], dtype=object)
    return Evidence(
        task="classification",
        ordered=False,
        y=y,
        row_hashes=np.arange(ROWS, dtype=np.uint64),
        answers={"candidate": answers},
        classes={"candidate": labels},
    )


def weighted(evidence: Evidence, metric: str, weights: np.ndarray) -> float:
    measure = measure_of(evidence, "candidate", metric)
    return float(measure.of_weights(weights[np.newaxis].astype(np.float64))[0])


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "roc_auc", "average_precision"])
def test_scores_of_two_classes_agree_with_a_known_library(seed: int, metric: str) -> None:
    evidence = some_evidence("classification", ROWS, seed)
    weights = a_generator(seed, 2).integers(0, 3, size=ROWS)
    y = (evidence.y == "wet").astype(int)
    scores = evidence.answers["candidate"][:, 1]
    answered = (said(evidence, "candidate").values == "wet").astype(int)
    expected = {
        "f1": lambda: known.f1_score(y, answered, sample_weight=weights),
        "balanced_accuracy": lambda: known.balanced_accuracy_score(
            y, answered, sample_weight=weights
        ),
        "roc_auc": lambda: known.roc_auc_score(y, scores, sample_weight=weights),
        "average_precision": lambda: known.average_precision_score(
            y, scores, sample_weight=weights
        ),
    }[metric]()

    assert weighted(evidence, metric, weights) == pytest.approx(1 - expected)


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "roc_auc"])
def test_scores_of_more_classes_are_means_over_classes(seed: int, metric: str) -> None:
    evidence = three_classes(seed)
    answered = said(evidence, "candidate").values.astype(str)
    y, shares = evidence.y.astype(str), evidence.answers["candidate"]
    expected = {
        "f1": lambda: known.f1_score(y, answered, average="macro"),
        "balanced_accuracy": lambda: known.balanced_accuracy_score(y, answered),
        "roc_auc": lambda: known.roc_auc_score(y, shares, multi_class="ovr"),
    }[metric]()

    assert weighted(evidence, metric, np.ones(ROWS)) == pytest.approx(1 - expected)


def test_equal_scores_count_half_for_areas_and_together_for_precision(seed: int) -> None:
    evidence = some_evidence("classification", ROWS, seed)
    wet = np.round(evidence.answers["candidate"][:, 1], 1)
    tied = Evidence(
        task="classification",
        ordered=False,
        y=evidence.y,
        row_hashes=evidence.row_hashes,
        answers={"candidate": np.column_stack([1 - wet, wet])},
        classes=evidence.classes,
    )
    y = evidence.y == "wet"

    area = known.roc_auc_score(y, wet)
    precision = known.average_precision_score(y, wet)

    assert weighted(tied, "roc_auc", np.ones(ROWS)) == pytest.approx(1 - area)
    assert weighted(tied, "average_precision", np.ones(ROWS)) == pytest.approx(1 - precision)


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_metrics_of_numbers_agree_with_a_known_library(seed: int, metric: str) -> None:
    evidence = some_evidence(rows=ROWS, seed=seed)
    weights = a_generator(seed, 2).integers(0, 3, size=ROWS)
    answers = evidence.answers["candidate"]
    rmse = known.root_mean_squared_error(evidence.y, answers, sample_weight=weights)
    r2 = known.r2_score(evidence.y, answers, sample_weight=weights)

    found = weighted(evidence, metric, weights)

    assert found == pytest.approx(rmse if metric == "rmse" else 1 - r2)


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("rmse", "regression"),
        ("r2", "regression"),
        ("f1", "classification"),
        ("roc_auc", "classification"),
        ("average_precision", "classification"),
    ],
)
def test_leaving_groups_out_is_a_weight_of_nothing(seed: int, metric: str, task: str) -> None:
    evidence = some_evidence("regression" if task == "regression" else "classification", ROWS, seed)
    measure = measure_of(evidence, "candidate", metric)
    groups = np.arange(ROWS) % 7

    without = measure.without(groups, 7)

    weights = (groups != np.arange(7)[:, np.newaxis]).astype(np.float64)
    assert without == pytest.approx(measure.of_weights(weights))


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "roc_auc", "average_precision"])
def test_a_resample_without_both_classes_has_no_value(seed: int, metric: str) -> None:
    evidence = some_evidence("classification", ROWS, seed)

    for label in ("wet", "dry"):
        weights = (evidence.y == label).astype(np.float64)

        assert np.isnan(weighted(evidence, metric, weights))


def test_no_share_of_a_spread_of_nothing_is_explained() -> None:
    evidence = some_evidence(rows=ROWS, y=np.full(ROWS, 3.3))

    assert np.isnan(weighted(evidence, "r2", np.ones(ROWS)))


@settings(deadline=None)
@example([5e-324])
@example([-2.2e-311, 1e-320])
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50))
def test_whole_numbers_add_up_exactly(values: list[float]) -> None:
    column = np.array(values)[:, np.newaxis]

    whole, steps = quantised(column, len(values))

    exact = sum((Fraction(float(number)) for number in whole[:, 0]), Fraction(0))
    assert Fraction(float(whole.sum())) == exact
    assert abs(exact) < 2**53
    assert whole * steps == pytest.approx(column, abs=float(np.abs(column).max()) * 2.0**-40)


def test_a_metric_of_ones_own_is_the_mean_of_its_recorded_losses() -> None:
    key = ("candidate", "ours.metrics:cost")
    evidence = some_evidence(rows=4, own_losses={key: np.array([1.0, 2.0, 3.0, 6.0])})

    assert weighted(evidence, key[1], np.ones(4)) == pytest.approx(3)
    with pytest.raises(Unprocessable, match="no losses"):
        losses_of(evidence, "champion", key[1])


def test_what_is_no_mean_over_rows_is_looked_for_by_one_that_is() -> None:
    assert surrogate_of("roc_auc", "classification") == "brier"
    assert surrogate_of("r2", "regression") == "mse"
    assert surrogate_of("accuracy", "classification") == "accuracy"


def test_only_bounded_losses_have_a_known_scale() -> None:
    assert known_scale("brier", 2) == 1
    assert known_scale("brier", 5) == 2
    assert known_scale("mae", 0) is None
