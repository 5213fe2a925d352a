"""Correlations that a few rows decide: tails of sums that jump, and what makes them jump."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from shared.lumps import (
    deviate_for,
    held_back,
    lumpiness,
    lumps_of,
    normal_deviates,
    share_of_lumps,
)


@pytest.mark.parametrize("expected", [0.01, 0.1, 1.0, 10.0])
def test_counts_of_few_rows_are_as_unlikely_as_they_are(expected: float) -> None:
    # Of n rows with both flags, when so many are expected, n - expected jumps of one row each.
    counts = np.arange(1, 60)
    exact = stats.poisson.sf(counts - 1, expected)
    counts, exact = counts[exact > 1e-12], exact[exact > 1e-12]
    z = (counts - expected) / np.sqrt(expected)
    above = z > 1

    found = 2 * stats.norm.sf(normal_deviates(z, np.full(len(z), 1 / expected)))

    # Taken as normal, one row where a hundredth is expected would be a probability of 1e-22.
    assert (found[above] > 0.4 * exact[above]).all()
    assert (found[above] < 8 * exact[above]).all()


@pytest.mark.parametrize("lumpy", [0.0, 1e-12, 1e-3, 0.3, 40.0])
@pytest.mark.parametrize("normal", [0.5, 4.0, 6.0])
def test_the_deviate_that_is_needed_has_the_normal_one_asked_for(
    normal: float, lumpy: float
) -> None:
    needed = deviate_for(normal, lumpy)

    assert normal_deviates(np.array(needed), np.array(lumpy)) == pytest.approx(normal, rel=1e-6)
    assert needed >= normal


def test_where_nothing_is_lumpy_nothing_changes() -> None:
    z, linear, smooth = np.array([-9.0, 0.0, 4.0]), np.array([-5.0, 0.0, 3.0]), np.zeros(3)

    assert held_back(z, linear, smooth).tolist() == z.tolist()
    assert normal_deviates(z, smooth).tolist() == z.tolist()
    assert share_of_lumps(z, smooth).tolist() == [0.0, 0.0, 0.0]


def test_where_one_row_decides_the_transformation_stretches_nothing() -> None:
    assert held_back(np.array([-120.0]), np.array([-30.0]), np.array([1.0])) == [-30.0]


def a_lump(columns: list[list[int]]) -> np.ndarray:
    scores = np.array(columns).T
    rows = np.full(scores.shape[1], len(scores))
    sums = np.stack([(scores**power).sum(axis=0) for power in (1, 2, 3, 4)])
    return lumps_of(sums.astype(np.float64), rows, np.full((len(rows), len(rows)), len(scores)))


def test_flags_are_as_uneven_as_they_are_rare(seed: int) -> None:
    rare = [60] * 10 + [0] * 990
    normal = np.round(64 * np.random.default_rng(seed).normal(size=1000)).astype(int).tolist()

    flags, with_normal, normals = (
        float(a_lump(pair)[0]) for pair in ([rare, rare], [rare, normal], [normal, normal])
    )

    assert flags == pytest.approx(1e4, rel=0.1)
    assert with_normal == pytest.approx(300, rel=0.25)
    assert normals < 3


def test_numbers_that_do_not_vary_say_nothing_at_all() -> None:
    lumps = a_lump([[7] * 50, list(range(50))])

    lumpy = lumpiness(lumps, np.array([50.0]), np.array([0.0]), np.array([1000.0]))

    assert normal_deviates(np.array([80.0]), lumpy) == [0.0]
    assert np.isinf(lumpiness(np.array([1.0]), np.array([0.0]), np.zeros(1), np.ones(1)))
