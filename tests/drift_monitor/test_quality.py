"""Which label counts, and when answers are called worse."""

from __future__ import annotations

import math
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift_monitor.quality import (
    ALPHA,
    Judge,
    Label,
    Labelled,
    Measured,
    Scope,
    becomes,
    measure,
    step_of,
)
from shared.losses import row_losses
from shared.reference import Losses, losses_profile
from shared.usable import can_come_true
from tests.drift_monitor.building import NOON, Answered, Floats, autoregressive

LABELS = st.builds(
    Label,
    value=st.floats(0, 3).map(round),
    revision=st.integers(1, 3),
    observed_at=st.integers(0, 3).map(lambda n: NOON + timedelta(hours=n)),
    event=st.integers(1, 10**6).map(lambda n: UUID(int=n)),
)


def folded(labels: list[Label]) -> Label | None:
    counting: Label | None = None
    for label in labels:
        if becomes(counting, label) in ("joined", "revised"):
            counting = label
    return counting


@given(st.lists(LABELS, max_size=6, unique_by=lambda label: label.event), st.randoms())
def test_the_order_in_which_labels_come_makes_no_difference(labels: list[Label], chance) -> None:  # type: ignore[no-untyped-def] # hypothesis gives it no public type
    shuffled = list(labels)
    chance.shuffle(shuffled)

    one, other = folded(labels), folded(shuffled)

    assert (one and (one.value, one.revision)) == (other and (other.value, other.revision))


@given(st.lists(LABELS, max_size=6, unique_by=lambda label: label.event))
def test_a_label_heard_again_changes_nothing(labels: list[Label]) -> None:
    assert folded(labels) == folded(labels + labels)


def a_label(value: float, revision: int = 1, event: int = 1, hours: int = 0) -> Label:
    at = NOON + timedelta(hours=hours)
    return Label(value=value, revision=revision, observed_at=at, event=UUID(int=event))


def test_each_label_is_called_what_it_is() -> None:
    first = a_label(1.0)

    assert becomes(None, first) == "joined"
    assert becomes(first, a_label(2.0, revision=2, event=2)) == "revised"
    assert becomes(a_label(2.0, revision=2), first) == "duplicate"
    assert becomes(first, a_label(1.0, event=2)) == "duplicate"
    assert becomes(first, a_label(2.0, event=2, hours=1)) == "conflict"


@pytest.mark.parametrize(
    ("value", "classes", "usable"),
    [
        (1.5, (), True),
        (math.nan, (), False),
        (math.inf, (), False),
        pytest.param(10**400, (), False, id="whole and endless"),
        pytest.param(-(10**400), (0.0, 1.0), False, id="whole and endless downwards"),
        ("1.5", (), False),
        (True, (), False),
        ("yes", ("no", "yes"), True),
        ("never seen", ("no", "yes"), True),
        (1.0, ("no", "yes"), False),
        (True, ("no", "yes"), False),
        (math.nan, ("no", "yes"), False),
        (math.nan, (0.0, 1.0), False),
        (7.0, (0.0, 1.0), True),
        (True, (0.0, 1.0), True),
        ("1", (0.0, 1.0), False),
        (True, (False, True), True),
        (1.0, (False, True), True),
        (0, (False, True), True),
        (0.5, (False, True), False),
        ("true", (False, True), False),
        (2.0, ("other", 1.0, True), True),
        ("new", ("other", 1.0, True), True),
    ],
)
def test_only_what_can_be_an_outcome_is_used(
    value: float | str, classes: tuple[str | float, ...], usable: bool
) -> None:
    assert can_come_true(value, classes) is usable


def test_every_metric_of_single_answers_has_its_own_loss() -> None:
    def loss(metric: str, answer: float, value: float) -> float | None:
        return Judge(metric=metric, classes=(), rule={}).loss(answer, None, value)

    metrics = ["mae", "mse", "rmse", "mape", "pinball@0.9"]
    found = {metric: [loss(metric, 3.0, 4.0), loss(metric, 6.0, 4.0)] for metric in metrics}
    shared = {
        metric: row_losses(metric, np.array([4.0, 4.0]), Answered(np.array([3.0, 6.0]))).tolist()
        for metric in metrics
    }

    assert found == {metric: pytest.approx(values) for metric, values in shared.items()}
    assert loss("mape", 3.0, 0.0) is None


def test_losses_are_those_of_the_metric() -> None:
    constant = {"rule": "constant", "value": 10.0}

    mae = Judge(metric="mae", classes=(), rule=constant)
    mse = Judge(metric="rmse", classes=(), rule=constant)

    assert mae.loss(3.0, None, 5.0) == 2.0
    assert mae.baseline_loss({"a": 1.0}, 5.0) == 5.0
    assert mse.loss(3.0, None, 5.0) == 4.0
    assert math.isfinite(mse.loss(-1e308, None, 1e308) or math.nan)


def test_two_classes_are_judged_by_their_score() -> None:
    rule = {"rule": "majority", "shares": [["no", 0.75], ["yes", 0.25]]}
    judge = Judge(metric="log_loss", classes=("no", "yes"), rule=rule)

    assert judge.loss("yes", 0.8, "yes") == pytest.approx(-math.log(0.8))
    assert judge.loss("yes", 0.8, "no") == pytest.approx(-math.log(0.2))
    assert judge.loss("yes", 0.8, "maybe") == pytest.approx(-math.log(1e-15))
    assert judge.loss("yes", None, "yes") is None
    assert judge.baseline_loss({}, "yes") == pytest.approx(-math.log(0.25))
    assert Judge(metric="brier", classes=("no", "yes"), rule=rule).loss(
        "yes", 0.8, "yes"
    ) == pytest.approx(0.04)


def test_many_classes_are_judged_by_mistakes() -> None:
    judge = Judge(
        metric="accuracy", classes=("a", "b", "c"), rule={"rule": "constant", "value": "a"}
    )

    assert [judge.loss("a", None, value) for value in ("a", "b", "z")] == [0.0, 1.0, 1.0]


def test_a_window_is_looked_at_at_half_four_fifths_and_all_of_its_labels() -> None:
    assert [step_of(labels, 10) for labels in (0, 4, 5, 7, 8, 9, 10)] == [0, 0, 1, 1, 2, 2, 3]


def every(losses: Floats) -> Labelled:
    return Labelled.of(losses.tolist())


def skewed(phi: float, rows: int, seed: int) -> Floats:
    return np.exp(autoregressive(phi, rows, 1, seed=seed)[:, 0]) / 10


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_answers_as_good_as_before_are_hardly_ever_called_worse(phi: float) -> None:
    worse = 0
    for seed in range(200):
        losses = skewed(phi, 1400, seed)
        reference = losses_profile("mae", losses[:400])
        windows = losses[400:].reshape(10, 100)
        worse += sum(
            measure(reference, every(w), Scope(rows=100), tolerance=0.0, alpha=ALPHA).is_worse
            for w in windows
        )

    # 2,000 looks at 5e-4: one is expected; six or more have a probability below 6e-4.
    assert worse <= 5


def measured(factor: float, rows: int = 100) -> tuple[Losses, Measured]:
    reference = losses_profile("mae", skewed(0.3, 500, 1))
    return reference, measure(
        reference, every(skewed(0.3, rows, 2) * factor), Scope(rows=rows), tolerance=0.1
    )


def test_answers_twice_as_bad_are_called_worse() -> None:
    reference, found = measured(2.5)

    assert found.is_worse
    assert found.bound is not None
    assert found.value > found.bound > reference.mean * 1.1
    assert "worse than" in found.detail


def test_answers_within_the_tolerance_are_fine() -> None:
    _, found = measured(0.9)

    assert (found.is_worse, found.is_fine) == (False, True)


def test_one_disaster_in_a_good_window_decides_nothing() -> None:
    losses = skewed(0.0, 100, 4) * 0.8
    losses[3] = 1e6

    found = measure(
        losses_profile("mae", skewed(0.0, 500, 1)), every(losses), Scope(rows=100), tolerance=0.1
    )

    assert not found.is_worse
    assert found.value > 1e4


def test_too_few_held_out_rows_judge_nothing() -> None:
    found = measure(
        losses_profile("mae", np.ones(10)),
        every(np.full(100, 9.0)),
        Scope(rows=100),
        tolerance=0.1,
    )

    assert (found.is_worse, found.bound) == (False, None)
    assert "not judged" in found.detail


def test_the_root_of_squares_is_told_in_its_own_unit() -> None:
    reference = losses_profile("rmse", np.full(200, 4.0))

    found = measure(reference, every(np.full(50, 9.0)), Scope(rows=50), tolerance=0.1)

    assert (found.value, found.reference, found.is_worse) == (3.0, 2.0, True)
