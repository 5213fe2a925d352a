"""Bounds under simulation: they hold as often as they promise, and say so when they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.evaluator.comparison import (
    TooFewRows,
    block_means,
    bootstrap_t,
    linearised_roots,
    paired_mistakes,
    tango_score,
)

RUNS = 400


def a_generator(seed: int, *parts: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, *parts]))


def too_high(covered: int, runs: int, promised: float = 0.95) -> bool:
    """Whether bounds were wrong more often than promised, three standard errors beyond chance."""
    slack = 3 * math.sqrt(promised * (1 - promised) / runs)
    return covered / runs < promised - slack


def autoregressive(draw: np.random.Generator, rows: int, weight: float) -> NDArray[np.float64]:
    noise = draw.normal(size=rows)
    values = np.empty(rows)
    values[0] = noise[0] / math.sqrt(1 - weight**2)
    for row in range(1, rows):
        values[row] = weight * values[row - 1] + noise[row]
    return values


def test_block_bounds_hold_for_independent_rows(seed: int) -> None:
    covered = sum(
        block_means(a_generator(seed, run).normal(size=200), 0.95).lower <= 0 for run in range(RUNS)
    )

    assert not too_high(covered, RUNS)


def test_block_bounds_hold_where_rows_resemble_their_neighbours(seed: int) -> None:
    """One row after the other would be far too sure: about a quarter of its bounds are wrong."""
    covered = naive = 0
    for run in range(RUNS):
        d = autoregressive(a_generator(seed, run), 2000, 0.7)
        covered += block_means(d, 0.95).lower <= 0
        naive += d.mean() - 1.645 * d.std(ddof=1) / math.sqrt(len(d)) <= 0

    assert covered / RUNS > 0.9
    assert naive / RUNS < 0.88


def test_bootstrap_bounds_hold_for_skewed_losses(seed: int) -> None:
    runs, covered = 150, 0
    for run in range(runs):
        d = a_generator(seed, run).exponential(size=60) - 1
        covered += bootstrap_t({"d": d}, {"d": 0.95}, seed=run)["d"].lower <= 0

    assert not too_high(covered, runs)


def test_the_same_seed_gives_the_same_bounds_and_another_one_nearly(seed: int) -> None:
    d = a_generator(seed).normal(size=100)

    first, again, other = (
        bootstrap_t({"d": d}, {"d": 0.95}, seed=number)["d"] for number in (1, 1, 2)
    )

    assert first == again
    assert first.lower != other.lower
    assert first.lower == pytest.approx(other.lower, abs=0.2 * first.se)


def test_comparisons_of_one_verdict_share_their_draws(seed: int) -> None:
    d = a_generator(seed).normal(size=50)

    both = bootstrap_t({"a": d, "b": d + 1}, {"a": 0.95, "b": 0.95}, seed=3)

    assert both["b"].lower == pytest.approx(both["a"].lower + 1)


def test_a_short_hold_out_begins_with_fewer_blocks() -> None:
    d = np.tile([1.0, -1.0, 0.5], 10)

    assert block_means(d, 0.95).detail == "15 contiguous blocks"


def test_blocks_that_resemble_each_other_are_joined_until_too_few_are_left() -> None:
    slow = np.linspace(-1, 1, 400)

    with pytest.raises(TooFewRows, match="400 rows"):
        block_means(slow, 0.95)


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_too_few_rows_carry_no_bounds(rows: int) -> None:
    d = np.linspace(-1, 1, rows)

    with pytest.raises(TooFewRows):
        block_means(d, 0.95)
    with pytest.raises(TooFewRows):
        bootstrap_t({"d": d}, {"d": 0.95}, seed=1)
    with pytest.raises(TooFewRows):
        paired_mistakes(d, 0.95)


def test_losses_that_are_all_alike_have_bounds_without_width() -> None:
    zeros = np.zeros(40)

    for compared in (block_means(zeros, 0.95), bootstrap_t({"d": zeros}, {"d": 0.95}, 1)["d"]):
        assert compared.lower == compared.estimate == compared.upper == 0


def test_a_single_wild_row_cannot_be_resampled_into_certainty() -> None:
    d = np.zeros(12)
    d[3] = 5.0

    with pytest.raises(TooFewRows, match="distinct"):
        bootstrap_t({"d": d}, {"d": 0.95}, seed=1)


def test_mistakes_agree_with_a_published_example() -> None:
    """Tango (1998): 44 pairs, 1 and 3 discordant; 95 % interval of the difference."""
    d = np.zeros(44)
    d[:1], d[1:4] = -1, 1

    compared = paired_mistakes(d, 0.975)

    assert compared.lower == pytest.approx(-0.0605, abs=0.003)
    assert compared.upper == pytest.approx(0.1615, abs=0.003)


def test_at_no_difference_the_score_is_mcnemars() -> None:
    assert tango_score(15, 5, 200, 0.0) == pytest.approx((15 - 5) / math.sqrt(20))


def test_score_bounds_hold_for_mistakes(seed: int) -> None:
    covered = 0
    for run in range(RUNS):
        d = a_generator(seed, run).choice([-1.0, 0.0, 1.0], size=100, p=[0.1, 0.8, 0.1])
        covered += paired_mistakes(d, 0.95).lower <= 0

    assert not too_high(covered, RUNS, promised=0.94)


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=10, max_size=80),
    st.floats(0.6, 0.99),
)
def test_score_bounds_enclose_the_estimate(rows: list[float], confidence: float) -> None:
    compared = paired_mistakes(np.array(rows), confidence)

    assert -1 <= compared.lower <= compared.estimate + 1e-12
    assert compared.estimate - 1e-12 <= compared.upper <= 1


def test_differences_of_roots_have_the_difference_as_their_mean(seed: int) -> None:
    draw = a_generator(seed)
    other, own = np.square(draw.normal(scale=2, size=50)), np.square(draw.normal(size=50))

    d = linearised_roots(other, own)

    assert d.mean() == pytest.approx(math.sqrt(other.mean()) - math.sqrt(own.mean()))
