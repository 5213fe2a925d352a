"""Which label counts, and when answers are called worse."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift_monitor.quality import (
    ALPHA,
    LOOKS,
    Delays,
    Judge,
    Label,
    Labelled,
    Measured,
    Scope,
    becomes,
    is_settled,
    measure,
    step_of,
)
from services.drift_monitor.quality.bounds import interval, reach
from services.drift_monitor.quality.delays import EDGES, censored, counted
from services.drift_monitor.quality.units import in_unit, tolerated, tolerated_losses
from shared.losses import row_losses
from shared.probability import share_least
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
    assert found.bound is not None
    assert found.margin == pytest.approx(3.0 - found.bound)


@pytest.mark.parametrize(("factor", "is_worse"), [(1.07, False), (1.09, False), (1.14, True)])
def test_a_tenth_more_of_a_root_is_a_tenth_wherever_it_is_asked(
    factor: float, is_worse: bool
) -> None:
    squares = np.random.default_rng(4).normal(size=60_000) ** 2
    squares /= squares.mean()
    reference = losses_profile("rmse", squares)

    found = measure(reference, every(squares * factor**2), Scope(rows=60_000), tolerance=0.1)

    assert (found.is_worse, found.is_fine) == (is_worse, not is_worse)
    assert found.value == pytest.approx(factor)
    assert tolerated(found.reference, 0.1) == pytest.approx(1.1)
    assert in_unit("rmse", tolerated_losses("rmse", 1.0, 0.1)) == pytest.approx(1.1)


# --- few mistakes -------------------------------------------------------------------------------


def wrong(mistakes: int, rows: int) -> Floats:
    return np.random.default_rng(rows).permutation(np.arange(rows) < mistakes).astype(np.float64)


@pytest.mark.parametrize("metric", ["accuracy", "brier"])
@pytest.mark.parametrize(("mistakes", "rows"), [(10, 2000), (3, 1000), (0, 1000), (0, 100)])
def test_a_good_classifier_that_becomes_a_bad_one_is_called_worse(
    metric: str, mistakes: int, rows: int
) -> None:
    reference = losses_profile(metric, wrong(mistakes, rows))

    found = measure(reference, every(wrong(150, 1000)), Scope(rows=1000), tolerance=0.1)

    assert found.is_worse
    assert found.margin is not None
    assert found.margin > 0.03


def test_mistakes_are_called_an_error_rate() -> None:
    reference = losses_profile("accuracy", wrong(10, 2000))

    found = measure(reference, every(wrong(150, 1000)), Scope(rows=1000), tolerance=0.1)

    assert found.detail.startswith("error rate 0.15 over 1000 labels, worse than 0.005")


def test_sure_mistakes_of_probabilities_are_found_whatever_large_losses_were_capped() -> None:
    likely = np.random.default_rng(5).beta(60, 0.6, 6000)
    losses = -np.log(np.clip(likely, 1e-6, 1))
    losses[::400] = 4.0
    reference, window = losses_profile("log_loss", losses[:5000]), losses[5000:].copy()

    assert not measure(reference, every(window), Scope(rows=1000), tolerance=0.1).is_worse
    window[::5] = 4.0
    assert measure(reference, every(window), Scope(rows=1000), tolerance=0.1).is_worse


def chance_of_worse(held_out: int, rows: int, rate: float) -> float:
    """That a window is called worse though its rows are wrong as often as the held-out ones."""
    k, m = np.arange(held_out + 1), np.arange(rows + 1)
    below = np.array([n / rows - share_least(float(n), float(rows), ALPHA / LOOKS) for n in m])
    above = 1 - k / held_out
    above -= [share_least(float(held_out - n), float(held_out), ALPHA / LOOKS) for n in k]
    apart = (m / rows)[:, None] - (k / held_out)[None, :]
    worse = apart > np.hypot(below[:, None], above[None, :])
    return float(throws(rows, rate) @ worse @ throws(held_out, rate))


def throws(rows: int, rate: float) -> Floats:
    ways = [
        math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1)
        for k in range(rows + 1)
    ]
    k = np.arange(rows + 1)
    likely = np.array(ways) + k * math.log(rate) + (rows - k) * math.log1p(-rate)
    return np.asarray(np.exp(likely))


@pytest.mark.parametrize(("held_out", "rows"), [(30, 500), (100, 500), (500, 100), (300, 300)])
def test_mistakes_that_are_as_frequent_as_before_keep_to_the_level_exactly(
    held_out: int, rows: int
) -> None:
    for rate in (0.002, 0.01, 0.05, 0.3):
        assert chance_of_worse(held_out, rows, rate) <= ALPHA / LOOKS


def test_the_test_is_the_one_whose_level_is_known() -> None:
    for mistakes in range(0, 60, 5):
        reference = losses_profile("accuracy", np.repeat([1.0, 0.0], [2, 198]))
        reference = replace(reference, inflation=1.0)
        found = measure(reference, every(wrong(mistakes, 300)), Scope(rows=300), tolerance=0.0)

        share = mistakes / 300
        below = share - share_least(float(mistakes), 300.0, ALPHA / LOOKS)
        above = 0.99 - share_least(198.0, 200.0, ALPHA / LOOKS)
        assert found.margin == pytest.approx(share - 0.01 - math.hypot(below, above))


@pytest.mark.parametrize(
    ("losses", "low", "high"),
    [
        ([0.0] * 2, 0.0, 0.842),
        ([0.0] * 30, 0.0, 0.116),
        ([1.0, 0.0], 0.0126, 0.987),
        ([1.0] * 3, 0.292, 1.0),
    ],
)
def test_the_interval_of_a_few_mistakes_is_exact(
    losses: list[float], low: float, high: float
) -> None:
    reference = replace(losses_profile("accuracy", wrong(100, 1000)), inflation=1.0)

    found = measure(reference, Labelled.of(losses), Scope(rows=100), tolerance=0.1)

    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-3)


def test_an_interval_is_never_narrower_than_a_few_like_losses_can_know() -> None:
    reference = losses_profile("brier", np.linspace(0, 0.2, 500))

    found = measure(reference, every(np.full(5, 0.1)), Scope(rows=100), tolerance=0.1)

    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.05
    assert 0.15 < found.high <= 1.0


@pytest.mark.parametrize(("rows", "rule"), [(2, "unclear"), (5, "unclear"), (40, "worse")])
def test_a_rule_that_was_right_a_few_times_is_not_surely_better(rows: int, rule: str) -> None:
    reference = losses_profile("accuracy", wrong(100, 1000))
    labelled = Labelled.of([1.0] * rows, [0.0] * rows)

    assert measure(reference, labelled, Scope(rows=rows), tolerance=0.1).rule == rule


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_windows_with_nothing_but_mistakes_or_none_are_measured_whatever_labels_weigh(
    loss: float,
) -> None:
    reference = replace(losses_profile("accuracy", wrong(100, 1000)), inflation=8.0)
    for bands in itertools.product((1, 2, 3), (1, 2, 3), range(5, 60, 6), range(5, 60, 6)):
        few, many, rows_few, rows_many = bands
        weights = np.array([rows_few / few] * few + [rows_many / many] * many)
        weights /= weights.sum()
        losses = np.full(few + many, loss)

        low, high = interval(reference, losses, weights)
        off_by = reach(reference, losses, weights, 0.11, ALPHA)

        assert low is not None
        assert high is not None
        assert (high if loss else low) == loss
        assert math.isfinite(off_by)


@pytest.mark.parametrize("metric", ["mae", "rmse", "log_loss"])
def test_held_out_rows_without_any_loss_do_not_hide_windows_with_some(metric: str) -> None:
    reference = losses_profile(metric, np.zeros(1000))

    fine = measure(reference, every(np.zeros(500)), Scope(rows=500), tolerance=0.1)
    worse = measure(reference, every(wrong(50, 500)), Scope(rows=500), tolerance=0.1)

    assert reference.cap > 0
    assert not fine.is_worse
    assert worse.is_worse


# --- no more labels -----------------------------------------------------------------------------


def some_delays(level: float) -> Delays:
    came = counted([600.0] * round(1000 * level))
    left = censored([int(np.searchsorted(EDGES, 5 * 86400.0))], [round(1000 * (1 - level))])
    found = Delays.of(came, left)
    assert found is not None
    return found


def test_a_window_is_final_although_chance_has_left_it_a_few_labels_short() -> None:
    scope = Scope(rows=1000, youngest=1200.0, oldest=1800.0, delays=some_delays(0.8))

    assert not is_settled(scope, 750)
    assert is_settled(scope, 770)
    assert is_settled(scope, 800)
    assert not is_settled(replace(scope, youngest=300.0, oldest=600.0), 800)


def test_labels_that_are_long_overdue_are_not_waited_for() -> None:
    scope = Scope(rows=1000, youngest=7200.0, oldest=7800.0, delays=some_delays(0.8))

    assert is_settled(scope, 100)
    assert not is_settled(replace(scope, youngest=3000.0, oldest=3600.0), 100)
