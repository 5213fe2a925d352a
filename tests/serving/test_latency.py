"""Cells of answer times, shared by those who count and those who judge."""

from hypothesis import given
from hypothesis import strategies as st

from shared.latency import CELLS, EDGES_SECONDS, cell_of, quantile, slower_than


@given(seconds=st.floats(0, 100))
def test_every_time_has_one_cell_whose_edges_hold_it(seconds: float) -> None:
    cell = cell_of(seconds)

    assert 0 <= cell < CELLS
    assert cell == len(EDGES_SECONDS) or seconds <= EDGES_SECONDS[cell]
    assert cell == 0 or seconds > EDGES_SECONDS[cell - 1]


@given(times=st.lists(st.floats(0, 20), max_size=50), objective=st.sampled_from(EDGES_SECONDS))
def test_at_an_edge_slow_answers_are_counted_exactly(times: list[float], objective: float) -> None:
    counts = [0] * CELLS
    for seconds in times:
        counts[cell_of(seconds)] += 1

    assert slower_than(counts, objective) == sum(seconds > objective for seconds in times)


def test_a_quantile_is_the_upper_edge_of_its_cell() -> None:
    counts = [0] * CELLS
    counts[cell_of(0.004)] = 95
    counts[cell_of(0.4)] = 5

    assert quantile(counts, 0.5) == 0.005
    assert quantile(counts, 0.99) == 0.5
    assert quantile([0] * CELLS, 0.5) is None
