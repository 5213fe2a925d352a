"""Tail probabilities of arrays against tables that others computed."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from shared import tails


def test_normal_quantiles_are_right_everywhere() -> None:
    p = np.concatenate([np.logspace(-290, -1, 80), np.linspace(0.05, 0.95, 50), [0.5, 1 - 1e-12]])

    np.testing.assert_allclose(tails.quantiles(p), special.ndtri(p), rtol=1e-12, atol=1e-15)


def test_normal_tails_are_right_far_out() -> None:
    z = np.linspace(-8, 35, 90)

    np.testing.assert_allclose(tails.normal_tails(z), stats.norm.sf(z), rtol=1e-11)


def test_student_is_right_for_few_and_many_degrees_of_freedom() -> None:
    t, df = np.meshgrid([-30.0, -2, -0.1, 0, 0.3, 1, 2, 5, 12, 60], [4.0, 9, 13.5, 200, 1e5, 1e9])

    np.testing.assert_allclose(tails.t_tails(t, df), stats.t.sf(t, df), rtol=1e-5)


def test_chi_square_is_right_near_and_far() -> None:
    x, df = np.meshgrid([0.0, 0.1, 1, 5, 9, 33, 80, 200, 700], [0.4, 1.0, 2.7, 9, 31, 120])

    np.testing.assert_allclose(tails.chi_square_tails(x, df), stats.chi2.sf(x, df), rtol=1e-9)


def test_nothing_to_test_is_no_surprise() -> None:
    assert tails.chi_square_tails([3.0], [0.0]).tolist() == [1.0]
    assert tails.quantiles([]).shape == (0,)
    assert tails.chi_square_tails([], []).shape == (0,)
