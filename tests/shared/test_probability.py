"""Tail probabilities against tables that others computed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from shared import probability


@pytest.mark.parametrize(("x", "df"), [(0.1, 1), (1, 3), (40, 9), (200, 31), (700, 20), (2.5, 2.7)])
def test_chi_square_is_right_far_out(x: float, df: float) -> None:
    assert probability.chi_square_sf(x, df) == pytest.approx(stats.chi2.sf(x, df), rel=1e-9)


@pytest.mark.parametrize(("t", "df"), [(0.3, 5), (5, 13), (12, 9), (-2, 7), (30, 19), (6, 200.5)])
def test_student_is_right_far_out(t: float, df: float) -> None:
    assert probability.t_sf(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-8)


def test_student_of_many_degrees_is_normal() -> None:
    assert probability.t_sf(4.0, 1e9) == pytest.approx(stats.norm.sf(4.0), rel=1e-9)


@pytest.mark.parametrize(("level", "df"), [(1e-6, 13), (1e-3, 100), (0.05, 9), (1e-9, 4)])
def test_a_quantile_is_where_the_tail_has_its_level(level: float, df: float) -> None:
    assert probability.t_quantile(level, df) == pytest.approx(stats.t.isf(level, df), rel=1e-7)


@pytest.mark.parametrize(
    ("x", "total", "marked", "drawn"),
    [(3, 100, 10, 20), (0, 50, 5, 5), (40, 11000, 300, 1000), (5, 11000, 5, 1000), (9, 20, 10, 15)],
)
def test_drawing_without_return_is_right(x: int, total: int, marked: int, drawn: int) -> None:
    found = probability.hypergeometric_sf(x, total, marked, drawn)

    assert found == pytest.approx(stats.hypergeom.sf(x - 1, total, marked, drawn), rel=1e-8)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_drawing_without_return_is_right_wherever_the_mean_lies(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 40_000))
    marked, drawn = data.draw(st.integers(0, total)), data.draw(st.integers(0, total))
    x = data.draw(st.integers(-1, min(marked, drawn) + 1))

    found = probability.hypergeometric_sf(x, total, marked, drawn)

    assert found == pytest.approx(
        stats.hypergeom.sf(x - 1, total, marked, drawn), rel=1e-6, abs=1e-280
    )


@pytest.mark.parametrize("x", [1, 100, 4000])
def test_far_fewer_than_expected_are_drawn_at_least_surely(x: int) -> None:
    assert probability.hypergeometric_sf(x, 30_000, 15_000, 10_000) == 1.0


def test_more_than_there_are_cannot_be_drawn() -> None:
    assert probability.hypergeometric_sf(6, 100, 5, 20) == 0.0


@pytest.mark.parametrize("x", [0.3, 1.0, 7.5, 30.0])
def test_derivatives_of_the_gamma_function_are_right(x: float) -> None:
    assert probability.digamma(x) == pytest.approx(special.digamma(x), abs=1e-11)
    assert probability.trigamma(x) == pytest.approx(special.polygamma(1, x), abs=1e-11)
    assert probability.trigamma_inverse(probability.trigamma(x)) == pytest.approx(x)


def test_the_normal_quantile_of_nothing_is_far_but_finite() -> None:
    assert math.isfinite(probability.normal_quantile(0.0))
    assert probability.z_of(0.025) == pytest.approx(1.959964, abs=1e-6)


def test_a_bound_of_a_share_lies_below_it() -> None:
    assert probability.share_bound(50, 100, 2.0) == pytest.approx(0.4019, abs=1e-3)
    assert probability.share_bound(0, 100, 2.0) == 0.0
    assert probability.share_bound(0, 0, 2.0) == 0.0


def test_throws_of_a_coin_are_counted_exactly() -> None:
    assert [probability.binomial_sf(x, 3) for x in range(5)] == [1.0, 7 / 8, 4 / 8, 1 / 8, 0.0]
    found = probability.binomial_sf(600, 1000)

    assert found == pytest.approx(stats.binom.sf(599, 1000, 0.5), rel=1e-9)


@pytest.mark.parametrize("level", [0.025, 1.25e-4, 1e-9])
@pytest.mark.parametrize(
    ("x", "n"), [(1, 1), (3, 100), (150, 1000), (0.4, 7.5), (2.5, 30.2), (99_000, 100_000)]
)
def test_the_least_share_is_where_so_many_become_improbable(
    x: float, n: float, level: float
) -> None:
    assert probability.share_least(x, n, level) == pytest.approx(
        stats.beta.ppf(level, x, n - x + 1), rel=1e-7
    )


def test_nothing_at_all_has_no_least_share() -> None:
    assert probability.share_least(0, 100, 0.025) == 0.0
    assert probability.share_least(0, 0, 0.025) == 0.0
    # What is left of no mistakes after rounding is no mistake.
    for rest in (1e-300, 3e-17, 1.1e-16, 1e-12):
        assert probability.share_least(rest, 15.3, 1e-6) == 0.0
    assert 0 < probability.share_least(1e-3, 15.3, 0.025) < 1e-3
    assert 1 - probability.share_least(100, 100, 0.025) == pytest.approx(1 - 0.025 ** (1 / 100))
