"""Tail probabilities of arrays against those of single numbers, which are worked out otherwise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from shared import probability, tails

Floats = NDArray[np.float64]


def one_by_one(tail: Callable[[float, float], float], x: Floats, df: Floats) -> Floats:
    pairs = zip(x.ravel().tolist(), df.ravel().tolist(), strict=True)
    return np.array([tail(*pair) for pair in pairs]).reshape(x.shape)


def test_normal_quantiles_are_right_everywhere() -> None:
    p = np.concatenate([np.logspace(-290, -1, 80), np.linspace(0.05, 0.95, 50), [0.5, 1 - 1e-12]])

    expected = [probability.normal_quantile(one) for one in p.tolist()]
    np.testing.assert_allclose(tails.quantiles(p), expected, rtol=1e-12, atol=1e-15)


def test_normal_tails_are_right_far_out() -> None:
    z = np.linspace(-8, 35, 90)

    expected = [probability.normal_sf(one) for one in z.tolist()]
    np.testing.assert_allclose(tails.normal_tails(z), expected, rtol=1e-11)


@pytest.mark.parametrize("df", [[4.0, 9, 13.5, 200, 1e5, 1e9], [2e6, 1e9]])
def test_student_is_right_for_few_and_many_degrees_of_freedom(df: list[float]) -> None:
    t, free = np.meshgrid([-30.0, -2, -0.1, 0, 0.3, 1, 2, 5, 12], df)

    expected = one_by_one(probability.t_sf, t, free)
    np.testing.assert_allclose(tails.t_tails(t, free), expected, rtol=1e-5)


def test_chi_square_is_right_near_and_far() -> None:
    x, df = np.meshgrid([0.0, 0.1, 1, 5, 9, 33, 80, 200, 700], [0.4, 1.0, 2.7, 9, 31, 120])

    expected = one_by_one(probability.chi_square_sf, x, df)
    np.testing.assert_allclose(tails.chi_square_tails(x, df), expected, rtol=1e-9)


@pytest.mark.parametrize("rows", [30, 100])
def test_lopsided_sums_have_the_tails_that_chance_gives_them(rows: int) -> None:
    """Squares of normal numbers, of which two million sums were drawn: chi square itself."""
    chance = np.random.default_rng(4)
    drawn = (chance.chisquare(rows, 2_000_000) - rows) / np.sqrt(2 * rows)
    skewness = np.full(3, np.sqrt(8 / rows))

    for side, shares in (("above", [0.999, 0.9999, 0.99999]), ("below", [0.001, 0.0001, 0.00001])):
        z = np.quantile(drawn, shares)
        p = tails.pearson_tails(z, skewness)
        np.testing.assert_allclose(p, [0.002, 0.0002, 0.00002], rtol=0.5, err_msg=side)
        mirrored = tails.pearson_tails(-z, -skewness)
        np.testing.assert_array_equal(p, mirrored)


def test_between_hardly_lopsided_and_lopsided_there_is_no_step() -> None:
    z = np.linspace(-7, 7, 29)

    below, above = (tails.pearson_tails(z, np.full(29, skewness)) for skewness in (0.0199, 0.0201))
    np.testing.assert_allclose(below, above, rtol=0.08)


@pytest.mark.parametrize("skewness", [-2.0, -0.3, -0.0199, 0.0, 0.01, 0.0199, 0.0201, 0.5, 3.0])
def test_further_out_is_never_more_likely(skewness: float) -> None:
    z = np.concatenate([np.linspace(1, 40, 400), np.logspace(1.7, 5, 200)])

    for side in (z, -z):
        p = tails.pearson_tails(side, np.full(z.shape, skewness))
        assert np.all(np.diff(p) <= 0)
        assert p[-1] < 1e-9


def test_what_is_hardly_lopsided_is_normal() -> None:
    z = np.array([-5.0, -1, 0.5, 3, 6])

    expected = 2 * tails.normal_tails(np.abs(z))
    np.testing.assert_allclose(tails.pearson_tails(z, np.zeros(5)), expected, rtol=5e-3)


@pytest.mark.parametrize("skewness", [-0.4, -0.1, 0.0, 0.019, 0.021, 0.3])
def test_tails_begin_where_they_are_as_small(skewness: float) -> None:
    for tail in (0.01, 1e-4, 1e-7):
        z = np.array(tails.pearson_quantiles(tail, skewness))
        p = tails.pearson_tails(z, np.full(2, skewness))
        np.testing.assert_allclose(p, [2 * tail, 2 * tail], rtol=0.35)


def test_nothing_to_test_is_no_surprise() -> None:
    assert tails.chi_square_tails([3.0], [0.0]).tolist() == [1.0]
    assert tails.chi_square_tails([-1e-12], [4.0]).tolist() == [1.0]
    assert tails.quantiles([]).shape == (0,)
    assert tails.chi_square_tails([], []).shape == (0,)
    assert tails.t_tails([], []).shape == (0,)


def test_what_is_impossible_is_far_out_and_no_fault() -> None:
    assert np.isfinite(tails.quantiles([0.0, 1.0])).all()
    assert tails.normal_tails([np.inf, -np.inf]).tolist() == [0.0, 1.0]
    assert tails.t_tails([np.inf, -np.inf], [3.0, 3.0]).tolist() == [0.0, 1.0]
