"""Bounds under simulation: they hold as often as they promise, and say so when they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.evaluator.comparison import Asked, Compared, Interval, compare, dependence_of
from services.evaluator.comparison.drawing import counted, first_of, picks, with_spare
from services.evaluator.comparison.intervals import (
    Allowance,
    Studentised,
    mid_p,
    quantile_above,
    tango_score,
)
from services.evaluator.comparison.single import (
    allowed_mistakes,
    areas,
    block_means,
    doubled_midranks,
    entity_sums,
    mistakes,
)
from services.evaluator.evidence import Evidence, Floats
from services.evaluator.metrics import Insufficient
from tests.evaluator.evident import Task, a_generator, some_evidence

RUNS = 400
FEW_DRAWS = 399


def too_high(covered: int, runs: int, promised: float = 0.95) -> bool:
    """Whether bounds were wrong more often than promised, three standard errors beyond chance."""
    slack = 3 * math.sqrt(promised * (1 - promised) / runs)
    return covered / runs < promised - slack


def autoregressive(draw: np.random.Generator, rows: int, weight: float) -> Floats:
    noise = draw.normal(size=rows)
    values = np.empty(rows)
    values[0] = noise[0] / math.sqrt(1 - weight**2)
    for row in range(1, rows):
        values[row] = weight * values[row - 1] + noise[row]
    return values


def by_rows(d: Floats, **changes: object) -> Evidence:
    """Evidence whose mean absolute errors differ by d."""
    rows = len(d)
    lowest = float(d.min(initial=0.0))
    answers = {"candidate": np.full(rows, -lowest), "champion": d - lowest}
    fields: dict[str, object] = {
        "task": "regression",
        "ordered": False,
        "y": np.zeros(rows),
        "row_hashes": np.arange(rows, dtype=np.uint64),
        "answers": answers,
    }
    return Evidence(**fields | changes)  # type: ignore[arg-type] # by name


def one(
    evidence: Evidence,
    metric: str = "mae",
    other: str | float = "champion",
    *,
    seed: int = 1,
    draws: int = FEW_DRAWS,
) -> Compared:
    return compare(evidence, {"d": Asked(metric=metric, other=other)}, draws=draws, seed=seed)["d"]


def interval(found: Compared) -> Interval:
    assert not isinstance(found.interval, Insufficient), str(found.interval)
    return found.interval


# --- block means ------------------------------------------------------------------------------


def test_block_bounds_hold_for_independent_rows(seed: int) -> None:
    covered = sum(
        block_means(a_generator(seed, run).normal(size=200)).lower(0.95) <= 0 for run in range(RUNS)
    )

    assert not too_high(covered, RUNS)


def test_block_bounds_hold_where_rows_resemble_their_neighbours(seed: int) -> None:
    """One row after the other would be far too sure: about a quarter of its bounds are wrong."""
    covered = naive = 0
    for run in range(RUNS):
        d = autoregressive(a_generator(seed, run), 2000, 0.7)
        covered += block_means(d).lower(0.95) <= 0
        naive += d.mean() - 1.645 * d.std(ddof=1) / math.sqrt(len(d)) <= 0

    assert covered / RUNS > 0.9
    assert naive / RUNS < 0.88


def test_a_short_hold_out_begins_with_fewer_blocks() -> None:
    d = np.tile([1.0, -1.0, 0.5], 10)

    assert block_means(d).detail == "15 contiguous blocks"


def test_blocks_that_resemble_each_other_are_joined_until_too_few_are_left() -> None:
    slow = np.linspace(-1, 1, 400)

    with pytest.raises(Insufficient, match="400 rows"):
        block_means(slow)


# --- bootstrap-t ------------------------------------------------------------------------------


def test_bootstrap_bounds_hold_for_skewed_losses(seed: int) -> None:
    runs, covered = 150, 0
    for run in range(runs):
        d = a_generator(seed, run).exponential(size=60) - 1
        covered += interval(one(by_rows(d), seed=run)).lower(0.95) <= 0

    assert not too_high(covered, runs)


def test_the_same_seed_gives_the_same_bounds_and_another_one_nearly(seed: int) -> None:
    evidence = by_rows(a_generator(seed).normal(size=100))

    first, again, other = (interval(one(evidence, seed=number)) for number in (1, 1, 2))

    assert first.lower(0.95) == again.lower(0.95)
    assert first.lower(0.95) != other.lower(0.95)
    assert first.lower(0.95) == pytest.approx(other.lower(0.95), abs=0.3 * first.se)


def test_comparisons_of_one_verdict_share_their_draws(seed: int) -> None:
    evidence = by_rows(a_generator(seed).normal(size=50))
    asked = {name: Asked(metric="mae", other=5.0) for name in ("a", "b")} | {
        "shifted": Asked(metric="mae", other=6.0)
    }

    found = compare(evidence, asked, draws=FEW_DRAWS, seed=3)

    lowers = {name: interval(part).lower(0.95) for name, part in found.items()}
    assert lowers["a"] == lowers["b"] == pytest.approx(lowers["shifted"] - 1)


def test_entities_are_drawn_whole(seed: int) -> None:
    """Forty rows of one entity are one fact, not forty: rows would be six times too sure."""
    runs, covered, naive = 100, 0, 0
    for run in range(runs):
        d = np.repeat(a_generator(seed, run).normal(size=30), 40)
        entities = np.repeat(np.arange(30), 40)
        found = interval(one(by_rows(d, entities=entities), seed=run))
        covered += found.lower(0.95) <= 0
        naive += interval(one(by_rows(d), seed=run)).lower(0.95) <= 0
        assert found.units == 30

    assert not too_high(covered, runs)
    assert naive / runs < 0.75


def test_a_single_wild_row_cannot_be_resampled_into_certainty() -> None:
    d = np.zeros(12)
    d[3] = 5.0

    assert "distinct" in str(one(by_rows(d)).interval)


def test_losses_that_are_all_alike_have_bounds_without_width() -> None:
    zeros = np.zeros(40)

    for found in (block_means(zeros), interval(one(by_rows(zeros)))):
        assert found.lower(0.95) == found.estimate == found.upper(0.95) == 0


def test_few_rows_that_make_up_the_difference_are_named() -> None:
    d = np.full(200, 0.001)
    d[:2] = 50.0
    d[2:60] = -0.5

    found = one(by_rows(a_generator(1).permutation(d)))

    assert "the top 2 of 200 rows carry 77% of all differences" in interval(found).detail


# --- mistakes ---------------------------------------------------------------------------------


def test_mistakes_agree_with_a_published_example() -> None:
    """Tango (1998): 44 pairs, 1 and 3 discordant; 95 % interval of the difference."""
    d = np.zeros(44)
    d[:1], d[1:4] = -1, 1

    found = mistakes(d)

    assert found.lower(0.975) == pytest.approx(-0.0605, abs=0.003)
    assert found.upper(0.975) == pytest.approx(0.1615, abs=0.003)


def test_at_no_difference_the_score_is_mcnemars() -> None:
    assert tango_score(15, 5, 200, 0.0) == pytest.approx((15 - 5) / math.sqrt(20))


def test_better_must_also_be_shown_by_the_exact_mid_p() -> None:
    """Of 6 discordant rows 5 favour the candidate: mid-p 0.0625, while the score says 0.051."""
    d = np.zeros(100)
    d[:5], d[5:6] = 1, -1

    found = mistakes(d)

    assert mid_p(5, 1) == pytest.approx(0.0625)
    assert found.lower(0.945) == 0
    assert found.lower(0.93) > 0
    assert found.doubt(0.0) == mid_p(5, 1)


def test_score_bounds_hold_for_mistakes(seed: int) -> None:
    covered = 0
    for run in range(RUNS):
        d = a_generator(seed, run).choice([-1.0, 0.0, 1.0], size=100, p=[0.1, 0.8, 0.1])
        covered += mistakes(d).lower(0.95) <= 0

    assert not too_high(covered, RUNS, promised=0.94)


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=10, max_size=80),
    st.floats(0.6, 0.99),
)
def test_score_bounds_enclose_the_estimate(rows: list[float], confidence: float) -> None:
    found = mistakes(np.array(rows))

    assert -1 <= found.lower(confidence) <= found.estimate + 1e-12
    assert found.estimate - 1e-12 <= found.upper(confidence) <= 1


def test_a_share_of_mistakes_is_held_against_a_limit_by_its_score() -> None:
    """Wilson's interval of 10 of 100 at 95 % two-sided is .0552 to .1744."""
    losses = np.array([1.0] * 10 + [0.0] * 90)

    found = allowed_mistakes(losses, 0.2)

    assert isinstance(found, Allowance)
    assert found.lower(0.975) == pytest.approx(0.2 - 0.1744, abs=1e-4)
    assert found.upper(0.975) == pytest.approx(0.2 - 0.0552, abs=1e-4)
    assert found.doubt(0.0) == pytest.approx(0.0062, abs=1e-4)


# --- areas under the curve --------------------------------------------------------------------


def an_area(scores: list[float], positive: list[int]) -> list[tuple[Floats, NDArray[np.bool_]]]:
    return [(np.array(scores, dtype=float), np.array(positive, dtype=bool))]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_midranks_are_what_counting_gives(values: list[int]) -> None:
    array = np.array(values, dtype=float)

    doubled = doubled_midranks(array)

    expected = [2 * np.sum(array < value) + np.sum(array == value) + 1 for value in array]
    assert doubled.tolist() == expected


def test_areas_agree_with_a_variance_worked_out_pair_by_pair(seed: int) -> None:
    draw = a_generator(seed)
    positive = np.arange(60) % 2 == 0
    sides = [np.round(draw.normal(size=60) + positive, 1) for _ in range(2)]

    found = areas([(sides[0], positive)], [(sides[1], positive)])

    kernels = []
    for scores in sides:
        gap = scores[positive][:, np.newaxis] - scores[~positive]
        kernels.append((gap > 0) + 0.5 * (gap == 0))
    estimate = kernels[0].mean() - kernels[1].mean()
    variance = sum(
        np.var(kernels[0].mean(axis=axis) - kernels[1].mean(axis=axis), ddof=1) / 30
        for axis in (0, 1)
    )
    assert found.estimate == pytest.approx(estimate)
    assert found.se == pytest.approx(math.sqrt(variance))


def test_the_same_ranking_leaves_no_doubt(seed: int) -> None:
    scores, positive = a_generator(seed).normal(size=40), np.arange(40) % 2 == 0

    found = areas([(scores, positive)], [(scores * 3 + 1, positive)])

    assert found.lower(0.95) == found.estimate == found.upper(0.95) == 0


def test_areas_need_ten_rows_of_each_class() -> None:
    side = an_area([0.1] * 30, [1] * 9 + [0] * 21)

    with pytest.raises(Insufficient, match="9 positive"):
        areas(side, side)


def test_area_bounds_hold(seed: int) -> None:
    covered = 0
    for run in range(RUNS):
        draw = a_generator(seed, run)
        positive = np.arange(80) % 2 == 0
        sides = [[(draw.normal(size=80) + positive, positive)] for _ in range(2)]
        covered += areas(sides[0], sides[1]).lower(0.95) <= 0

    assert not too_high(covered, RUNS)


def test_areas_of_many_classes_are_compared_class_by_class(seed: int) -> None:
    covered, runs = 0, 200
    for run in range(runs):
        draw = a_generator(seed, run)
        y = np.arange(90) % 3
        sides = [
            [(draw.normal(size=90) + (y == label), y == label) for label in range(3)]
            for _ in range(2)
        ]
        covered += areas(sides[0], sides[1]).lower(0.95) <= 0

    assert not too_high(covered, runs)


# --- resampled metrics ------------------------------------------------------------------------

RESAMPLED = [
    ("rmse", "regression"),
    ("r2", "regression"),
    ("f1", "classification"),
    ("balanced_accuracy", "classification"),
    ("average_precision", "classification"),
]


@pytest.mark.parametrize(("metric", "task"), RESAMPLED)
def test_bounds_of_resampled_metrics_hold_for_equal_models(
    seed: int, metric: str, task: Task
) -> None:
    runs, covered, wide = 60, 0, 0
    for run in range(runs):
        found = interval(one(some_evidence(task, 120, seed + 997 * run), metric, draws=199))
        covered += found.lower(0.9) <= 0
        wide += found.lower(0.9) < found.estimate < found.upper(0.9)

    assert not too_high(covered, runs, 0.86)
    assert wide == runs


@pytest.mark.parametrize("metric", ["roc_auc", "f1"])
def test_rows_of_one_entity_are_one_fact_for_every_metric(seed: int, metric: str) -> None:
    evidence = some_evidence("classification", 60, seed, noise={"champion": 1.5})
    copied = evidence.taken(np.repeat(np.arange(60), 10))
    grouped = Evidence(
        task="classification",
        ordered=False,
        y=copied.y,
        row_hashes=np.arange(600, dtype=np.uint64),
        entities=np.repeat(np.arange(60), 10),
        answers=copied.answers,
        classes=copied.classes,
    )

    single, whole = interval(one(evidence, metric)), interval(one(grouped, metric))

    assert whole.estimate == pytest.approx(single.estimate)
    assert whole.se == pytest.approx(single.se, rel=0.25)
    assert whole.units == 60


@pytest.mark.parametrize(
    ("metric", "task"), [("rmse", "regression"), ("roc_auc", "classification")]
)
def test_rows_in_time_are_drawn_in_blocks(seed: int, metric: str, task: Task) -> None:
    """Each row comes ten times in a row; drawn one by one they would look surer than they are."""
    evidence = some_evidence(task, 100, seed, noise={"champion": 1.5})
    slow = evidence.taken(np.repeat(np.arange(100), 10))
    hashes = np.arange(1000, dtype=np.uint64)
    ordered, shuffled = (
        Evidence(
            task=task,
            ordered=is_ordered,
            y=slow.y,
            row_hashes=hashes,
            answers=slow.answers,
            classes=slow.classes,
        )
        for is_ordered in (True, False)
    )

    blocks, rows = interval(one(ordered, metric)), interval(one(shuffled, metric))

    assert blocks.units <= 40
    assert blocks.estimate == pytest.approx(rows.estimate)
    assert blocks.se > 2 * rows.se


def test_harm_and_doubt_are_the_levels_at_which_bounds_touch(seed: int) -> None:
    evidence = some_evidence("regression", 200, seed, noise={"champion": 0.55})
    for metric in ("mae", "rmse"):
        found = interval(one(evidence, metric, draws=1999))

        for at in (found.lower(0.9), found.upper(0.9)):
            assert min(found.harm(at), found.doubt(at)) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize(
    ("metric", "task"), [*RESAMPLED, ("mae", "regression"), ("accuracy", "classification")]
)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_bounds_are_further_out_the_surer_they_must_be(
    metric: str, task: Task, data: st.DataObject
) -> None:
    evidence = some_evidence(task, 60, data.draw(st.integers(0, 10_000)))
    found = interval(one(evidence, metric, draws=99))
    levels = sorted(data.draw(st.lists(st.floats(0.55, 0.9999), min_size=2, max_size=6)))

    lowers = [found.lower(level) for level in levels]
    uppers = [found.upper(level) for level in levels]

    assert lowers == sorted(lowers, reverse=True)
    assert uppers == sorted(uppers)


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        *RESAMPLED,
        ("mae", "regression"),
        ("accuracy", "classification"),
        ("roc_auc", "classification"),
    ],
)
def test_the_other_way_round_is_the_opposite(seed: int, metric: str, task: Task) -> None:
    evidence = some_evidence(task, 150, seed, noise={"champion": 1.5})

    better = interval(one(evidence, metric))
    swapped = compare(
        evidence,
        {"d": Asked(metric=metric, other="candidate", candidate="champion")},
        draws=FEW_DRAWS,
        seed=1,
    )["d"]

    worse = interval(swapped)
    assert better.estimate > 0
    assert worse.estimate == pytest.approx(-better.estimate)
    assert worse.upper(0.95) == pytest.approx(-better.lower(0.95), abs=better.se)


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "task"), [*RESAMPLED, ("mae", "regression"), ("roc_auc", "classification")]
)
def test_a_limit_is_compared_as_a_predictor_that_loses_just_that(
    seed: int, metric: str, task: Task
) -> None:
    found = one(some_evidence(task, 150, seed), metric, 0.9)

    assert found.other_value == 0.9
    assert found.candidate_value is not None
    assert interval(found).estimate == pytest.approx(0.9 - found.candidate_value)


# --- what cannot be compared ------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_too_few_rows_carry_no_bounds(rows: int) -> None:
    d = np.linspace(-1, 1, rows)

    assert "fewer than 10" in str(one(by_rows(d)).interval)
    with pytest.raises(Insufficient):
        block_means(d)
    with pytest.raises(Insufficient):
        mistakes(d)
    with pytest.raises(Insufficient):
        entity_sums(d, np.ones(rows))


def test_a_share_of_an_outcome_of_nothing_does_not_exist() -> None:
    evidence = some_evidence(rows=50, y=np.concatenate([[0.0], np.full(49, 3.0)]))

    found = one(evidence, "mape")

    assert "1 rows have an outcome of 0" in str(found.interval)
    assert found.candidate_value is None


def test_resamples_without_both_classes_are_drawn_again_and_counted(seed: int) -> None:
    """Six wet rows of 60 are missing from about one resample in 500; two from one in seven."""
    evidence = some_evidence("classification", 60, seed)
    rare = {}
    for count in (6, 2):
        y = np.array(["wet"] * count + ["dry"] * (60 - count), dtype=object)
        fields = {name: getattr(evidence, name) for name in ("row_hashes", "answers", "classes")}
        rare[count] = one(
            Evidence(task="classification", ordered=False, y=y, **fields),
            "average_precision",
            draws=1999,
        )

    assert "drawn again" in interval(rare[6]).detail
    assert "more than 1 % of the resamples" in str(rare[2].interval)


def test_draws_that_do_not_exist_are_replaced_in_order() -> None:
    values = np.array([1.0, np.nan, 3.0, 4.0])

    usable, again = first_of(values, 3)

    assert usable.tolist() == [1.0, 3.0, 4.0]
    assert again == 1
    with pytest.raises(Insufficient):
        first_of(values, 4)
    assert with_spare(1000) == 1011


# --- draws ------------------------------------------------------------------------------------


def test_every_unit_is_drawn_as_often_as_any_other() -> None:
    counts = np.zeros(7)
    for batch in counted(5, 4000, 7):
        assert (batch.sum(axis=1) == 7).all()
        counts += batch.sum(axis=0)

    assert counts.sum() == 28_000
    assert np.abs(counts - 4000).max() < 5 * math.sqrt(4000)


def test_picks_are_those_of_every_later_version() -> None:
    assert picks(np.random.PCG64(1), 2, 3, 10).tolist() == [[4, 5, 7], [0, 1, 8]]


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=60, unique=True),
    st.floats(0.51, 0.999999),
)
def test_quantiles_never_lie_inside_what_they_must_exceed(
    values: list[float], level: float
) -> None:
    ordered = np.sort(np.array(values))

    found = quantile_above(ordered, level)

    if level * (len(values) + 1) <= len(values):
        assert np.sum(ordered <= found) >= level * (len(values) + 1) - 1e-6
    elif ordered[-1] > 0:
        assert found >= ordered[-1]


def test_beyond_the_last_draw_a_bound_reaches_as_far_as_a_normal_tail() -> None:
    from_normal = Studentised(
        estimate=0.0,
        se=1.0,
        rows=100,
        units=100,
        test="bootstrap_t",
        pivots=np.sort(a_generator(3).normal(size=999)),
    )

    assert from_normal.lower(1 - 1e-6) == pytest.approx(-4.75, abs=0.7)
    assert from_normal.upper(1 - 1e-6) == pytest.approx(4.75, abs=0.7)


# --- which rows depend on each other ----------------------------------------------------------


@pytest.mark.parametrize(
    ("ordered", "entities", "expected"),
    [
        (False, None, "rows"),
        (True, None, "blocks"),
        (False, np.arange(40), "rows"),
        (False, np.arange(40) // 2, "entities"),
        (True, np.arange(40) // 2, "entities"),
        (True, np.arange(40) // 20, "blocks"),
        (False, np.arange(40) // 20, "entities"),
    ],
)
def test_dependence_follows_from_entities_and_time(
    ordered: bool, entities: NDArray[np.int64] | None, expected: str
) -> None:
    evidence = some_evidence(rows=40, ordered=ordered, entities=entities)

    assert dependence_of(evidence) == expected
