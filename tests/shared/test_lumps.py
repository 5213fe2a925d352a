"""Correlations that a few rows decide: tails of sums that jump, and what makes them jump."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from shared.lumps import (
    Lumps,
    deviate_for,
    held_back,
    lumpiness,
    normal_deviates,
    overlap,
    share_of_lumps,
    unevenness,
)
from shared.together import Common


@pytest.mark.parametrize("expected", [0.01, 0.1, 1.0, 10.0])
def test_counts_of_few_rows_are_as_unlikely_as_they_are(expected: float) -> None:
    # Of n rows with both flags, when so many are expected, n - expected jumps of one row each.
    counts = np.arange(1, 60)
    exact = stats.poisson.sf(counts - 1, expected)
    counts, exact = counts[exact > 1e-12], exact[exact > 1e-12]
    z = (counts - expected) / np.sqrt(expected)
    above = z > 1

    found = 2 * stats.norm.sf(normal_deviates(z, np.full(len(z), 1 / expected), np.ones(1)))

    # Taken as normal, one row where a hundredth is expected would be a probability of 1e-22.
    assert (found[above] > 0.4 * exact[above]).all()
    assert (found[above] < 8 * exact[above]).all()


@pytest.mark.parametrize("expected", [0.3, 3.0])
def test_jumps_both_ways_are_as_unlikely_as_they_are(expected: float) -> None:
    steps = np.arange(1, 40)
    exact = stats.skellam.sf(steps - 1, expected, expected)
    steps, exact = steps[exact > 1e-12], exact[exact > 1e-12]
    z = steps / np.sqrt(2 * expected)
    above = z > 1

    found = stats.norm.sf(normal_deviates(z, np.full(len(z), 1 / (2 * expected)), np.zeros(1)))

    assert (found[above] > 0.2 * exact[above]).all()
    assert (found[above] < 4 * exact[above]).all()


@pytest.mark.parametrize("lumpy", [0.0, 1e-12, 1e-3, 0.3, 40.0])
@pytest.mark.parametrize("normal", [0.5, 4.0, 6.0])
@pytest.mark.parametrize("lean", [-1.0, 0.0, 0.4, 1.0])
def test_the_deviate_that_is_needed_has_the_normal_one_asked_for(
    normal: float, lumpy: float, lean: float
) -> None:
    needed = deviate_for(normal, lumpy, lean)

    found = normal_deviates(np.array(needed), np.array(lumpy), np.array(lean))

    assert found == pytest.approx(normal, rel=1e-6)
    assert needed >= normal * (1 - 1e-9)


def test_where_nothing_is_lumpy_nothing_changes() -> None:
    z, linear, smooth = np.array([-9.0, 0.0, 4.0]), np.array([-5.0, 0.0, 3.0]), np.zeros(3)

    share = share_of_lumps(z, smooth, np.ones(3))

    assert share.tolist() == [0.0, 0.0, 0.0]
    assert held_back(z, linear, share).tolist() == z.tolist()
    assert normal_deviates(z, smooth, smooth).tolist() == z.tolist()


def test_what_gaps_or_one_row_decide_is_not_stretched() -> None:
    z, linear = np.array([-120.0]), np.array([-30.0])
    one_row = share_of_lumps(z, np.ones(1), np.ones(1))
    gaps = share_of_lumps(z, np.zeros(1), np.full(1, 0.4))

    assert held_back(z, linear, one_row) == [-30.0]
    assert held_back(z, linear, gaps) == pytest.approx(-0.4 * 120 - 0.6 * 30)


def test_against_the_lean_chance_reaches_less_far() -> None:
    z, size = np.array([5.0, -5.0]), np.full(2, 0.2)

    with_it, against = np.abs(normal_deviates(z, size, np.ones(2)))

    assert with_it < against < 5


def a_lump(columns: list[list[float]]) -> Lumps:
    scores = np.array(columns).T
    there = ~np.isnan(scores)
    scores = np.where(there, scores, 0.0)
    rows = there.sum(axis=0)
    sums = np.stack([(scores**power).sum(axis=0) for power in (1, 2, 3, 4)])
    both = there.T.astype(np.int64) @ there.astype(np.int64)
    return Common.of(unevenness(sums, rows), both, np.zeros(1)).lumps


def test_flags_are_as_uneven_as_they_are_rare(seed: int) -> None:
    rare = [60.0] * 10 + [0.0] * 990
    normal = np.round(64 * np.random.default_rng(seed).normal(size=1000)).tolist()

    flags, with_normal, normals = (
        a_lump(pair) for pair in ([rare, rare], [rare, normal], [normal, normal])
    )

    assert float(flags.size[0]) == pytest.approx(1e4, rel=0.1)
    assert float(flags.lean()[0]) == pytest.approx(1.0)
    # Pairing normal numbers with anything has normal tails: Pitman (1937).
    assert float(with_normal.size[0]) < 60
    assert float(normals.size[0]) < 1


def test_gaps_leave_the_tail_of_a_product_as_far_as_rows_are_not_shared(seed: int) -> None:
    draw = np.random.default_rng(seed)
    gappy = np.round(64 * draw.normal(size=(2, 20_000)))
    gappy[draw.random(gappy.shape) > 0.3] = np.nan

    lumps = a_lump(gappy.tolist())

    # Products of normal numbers have 6; of the rows of either three in ten are shared.
    assert float(lumps.size[0]) == pytest.approx(6 - 12 * 0.3, abs=0.8)
    assert abs(float(lumps.lean()[0])) < 0.05
    assert overlap(np.array(300), np.array(300), np.array(90)) == pytest.approx(0.3)


def test_numbers_that_do_not_vary_say_nothing_at_all() -> None:
    lumps = a_lump([[7.0] * 50, list(map(float, range(50)))])

    found = lumpiness(
        lumps, np.array([50.0]), Lumps(size=np.zeros(1), skewness=np.zeros(1)), np.array([1000.0])
    )

    assert normal_deviates(np.array([80.0]), found.size, found.lean()) == [0.0]
    alone = lumpiness(Lumps(size=np.ones(1), skewness=np.ones(1)), np.zeros(1), lumps, np.ones(1))
    assert np.isinf(alone.size)
