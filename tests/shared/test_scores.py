"""What scores meant: cells with thresholds on their edges, rates that never fall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.scores import CELLS, monotone, score_cells, scores_profile


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=12))
def test_monotone_rates_are_the_closest_that_never_fall(cells: list[tuple[float, int]]) -> None:
    values = np.array([value for value, _ in cells])
    weights = np.array([float(weight) for _, weight in cells])

    found = monotone(values, weights)

    assert (np.diff(found) >= -1e-12).all()
    # The min-max formula of isotonic regression, Robertson, Wright and Dykstra (1988), 1.4.4.
    for place in np.flatnonzero(weights):
        best = max(
            min(
                np.average(values[low : high + 1], weights=weights[low : high + 1])
                for high in range(place, len(values))
                if weights[low : high + 1].sum() > 0
            )
            for low in range(place + 1)
            if weights[low : place + 1].sum() > 0
        )
        assert found[place] == pytest.approx(best)


def test_a_threshold_lies_on_an_edge() -> None:
    cells = score_cells("(score)", np.random.default_rng(1).random(5000), [0.5])

    below, above = cells.places(np.array([0.5, np.nextafter(0.5, 1)]))

    assert 0.5 in cells.edges
    assert above == below + 1
    assert CELLS <= cells.size - 3 <= CELLS + 2


def test_rates_are_shares_and_losses_are_means() -> None:
    scores = np.repeat([0.2, 0.8], 50)
    hits = np.concatenate([np.arange(50) < 10, np.arange(50) < 40])
    losses = np.repeat([0.25, 0.75], 50)
    cells = score_cells("(score)", scores, [0.5])

    found = scores_profile(cells, scores, losses, hits)

    assert found is not None
    places = cells.places(np.array([0.2, 0.8]))
    assert [found.rates[place] for place in places] == [0.2, 0.8]
    assert [found.losses[place] for place in places] == [0.25, 0.75]
    assert sum(found.rows) == 100


def test_cells_without_rows_say_what_their_neighbours_say() -> None:
    cells = score_cells("(score)", np.array([0.2, 0.4, 0.8]), [0.5])

    found = scores_profile(
        cells, np.array([0.2, 0.8]), np.array([0.1, 0.9]), np.array([False, True])
    )

    assert found is not None
    below, above = cells.places(np.array([-1.0, 2.0]))
    assert (found.losses[below], found.losses[above]) == (0.1, 0.9)
    assert (found.rates[below], found.rates[above]) == (0.0, 1.0)


def test_without_a_single_finite_row_nothing_is_known() -> None:
    cells = score_cells("(score)", np.array([0.1, 0.9]), [0.5])

    assert scores_profile(cells, np.array([np.nan]), np.array([1.0]), np.array([True])) is None
    assert score_cells("(score)", np.array([np.nan])).edges == ()


@pytest.mark.parametrize("rows", [2, 3, 24, 64, 200])
def test_few_held_out_rows_know_that_their_losses_differ(rows: int) -> None:
    chance = np.random.default_rng(rows)
    answers, losses = chance.normal(size=rows), chance.exponential(size=rows)

    found = scores_profile(score_cells("(answer)", answers), answers, losses, None)

    assert found is not None
    assert min(found.deviations) > 0.1 * losses.std()


def test_two_rows_in_cells_of_their_own_borrow_the_spread_of_both() -> None:
    scores, losses = np.array([0.2, 0.8]), np.array([0.1, 0.5])

    found = scores_profile(score_cells("(score)", scores, [0.5]), scores, losses, None)

    assert found is not None
    assert set(found.deviations) == {losses.std(ddof=1)}
