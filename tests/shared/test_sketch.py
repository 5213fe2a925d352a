"""Fixed cells: where values fall, and that counts add up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Unprocessable
from shared.joint import Basis
from shared.sketch import (
    CategoryCells,
    Layout,
    NumberCells,
    category_cells,
    number_cells,
    pack,
    unpack,
)

NUMBERS = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1)


def a_layout() -> Layout:
    return Layout(
        features=(
            NumberCells(name="x", edges=(-0.1, 1.0, 2.0)),
            CategoryCells(name="c", levels=("a", "b")),
        )
    )


def test_a_cell_ends_at_its_edge_and_begins_above_the_one_before() -> None:
    cells = NumberCells(name="x", edges=(0.0, 1.0, 2.0))

    places = cells.places([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])

    assert places.tolist() == [0, 1, 1, 2, 2, 3]


def test_nothing_wild_becomes_a_number() -> None:
    cells = NumberCells(name="x", edges=(0.0, 1.0))

    places = cells.places([math.inf, -math.inf, math.nan, None, "0.5", 10**400, True])

    assert places.tolist() == [2, 0, 3, 3, 3, 2, 1]


def test_the_reference_has_no_row_below_or_above() -> None:
    values = np.arange(1000.0)

    cells = number_cells("x", values)
    counts = np.bincount(cells.places(values), minlength=cells.size)

    assert counts[0] == counts[-2] == counts[-1] == 0
    assert len(cells.edges) == 33
    assert set(counts[1:-2].tolist()) <= {31, 32}


def test_a_value_with_a_32nd_of_the_mass_has_a_cell_of_its_own() -> None:
    values = np.concatenate([np.zeros(500), np.linspace(-1, 1, 501)])

    cells = number_cells("x", values)
    places = cells.places(np.array([-1e-12, 0.0, 1e-12]))

    assert len(set(places.tolist())) == 3


@given(NUMBERS)
def test_every_reference_value_lies_inside(values: list[float]) -> None:
    cells = number_cells("x", values)

    places = cells.places(values)

    assert places.min() >= 1
    assert places.max() <= len(cells.edges) - 1


@given(st.lists(st.floats(width=32) | st.none(), max_size=60), st.integers(0, 60))
def test_counts_of_parts_add_up_to_the_counts_of_the_whole(values: list[Any], cut: int) -> None:
    layout = Layout(features=(NumberCells(name="x", edges=(-1.0, 0.0, 3.0)),))

    parts = [layout.count([part]) for part in (values[:cut], values[cut:])]

    assert (parts[0] + parts[1] == layout.count([values])).all()
    assert (layout.count([values]) - parts[0] == parts[1]).all()


def test_levels_are_the_most_frequent_first_and_the_rest_is_other() -> None:
    cells = category_cells("c", ["b", "a", "a", None, math.nan])

    places = cells.places(["a", "b", "z", None, math.nan])

    assert cells.levels == ("a", "b")
    assert places.tolist() == [0, 1, 2, 3, 3]


def test_a_batch_of_all_features_is_one_row_of_counts() -> None:
    counts = a_layout().count([[0.5, 5.0, None], ["a", "q", "a"]])

    assert counts.tolist() == [0, 1, 0, 1, 1, 2, 0, 1, 0]
    assert [part.tolist() for part in a_layout().split(counts)] == [[0, 1, 0, 1, 1], [2, 0, 1, 0]]


def test_a_batch_that_lacks_a_feature_is_refused() -> None:
    with pytest.raises(Unprocessable, match="1 columns were sent for 2"):
        a_layout().count([[1.0]])


def test_packed_counts_come_back() -> None:
    counts = a_layout().count([[0.5], ["b"]])

    assert (unpack(pack(counts)) == counts).all()


def test_a_column_without_a_number_still_has_cells() -> None:
    cells = number_cells("x", [math.nan, None])

    assert cells.places([None, 1.0]).tolist() == [1, 0]


# --- sketches -----------------------------------------------------------------------------------


def a_wide_layout() -> Layout:
    """Three numbers that move together, and a category."""
    rows = np.random.default_rng(5).normal(size=(2000, 3))
    numbers = tuple(number_cells(f"x{i}", rows[:, i]) for i in range(3))
    scores = tuple(
        (*np.linspace(-150, 150, cell.size - 1).astype(int).tolist(), 0) for cell in numbers
    )
    return Layout(
        features=(*numbers, CategoryCells(name="c", levels=("a", "b"))),
        basis=Basis(features=(0, 1, 2), scores=scores, width=2.4),
    )


def some_columns(rows: int, seed: int = 6) -> list[Any]:
    chance = np.random.default_rng(seed)
    numbers = [chance.normal(size=rows) for _ in range(3)]
    numbers[1][::7] = np.nan
    words = np.empty(rows, dtype=object)
    words[:] = [("a", "b", "z", None)[i % 4] for i in range(rows)]
    return [*numbers, words]


@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_a_sketch_is_the_same_however_its_rows_were_batched(size: int) -> None:
    layout, columns = a_wide_layout(), some_columns(500)

    added = layout.blank()
    for start in range(0, 500, size):
        added += layout.sketch([column[start : start + size] for column in columns])

    assert added == layout.sketch(columns)


def test_what_was_added_can_be_taken_away_exactly() -> None:
    layout = a_wide_layout()
    first, second = layout.sketch(some_columns(90)), layout.sketch(some_columns(80, seed=7))

    assert first + second - second == first
    assert first - first == layout.blank()


def test_a_stored_sketch_is_read_as_it_was() -> None:
    layout = a_wide_layout()
    sketch = layout.sketch(some_columns(300))

    assert layout.read(sketch.to_bytes()) == sketch
    assert layout.read(sketch.to_bytes()).to_bytes() == sketch.to_bytes()


def test_counts_stored_before_there_were_sketches_are_still_read() -> None:
    layout = a_wide_layout()
    sketch = layout.sketch(some_columns(300))

    old = layout.read(pack(sketch.counts))

    assert (old.rows, old.joint) == (300, None)
    assert (old.counts == sketch.counts).all()
    assert (old + sketch).joint is None


@pytest.mark.parametrize("data", [b"", b"S2", b"S2nothing", pack(np.zeros(3, dtype=np.int64))])
def test_other_bytes_are_no_sketch(data: bytes) -> None:
    with pytest.raises(Unprocessable):
        a_wide_layout().read(data)


def test_values_of_a_wrong_type_are_counted_as_such_and_as_missing() -> None:
    sketch = a_layout().sketch([[1.0, "2", None, [3]], ["a", 7, None, "z"]])

    assert sketch.invalid.tolist() == [2, 1]
    assert a_layout().split(sketch.counts)[1].tolist() == [1, 0, 1, 2]


def test_a_twenty_feature_sketch_of_a_thousand_rows_is_stored_in_less_than_four_kilobytes() -> None:
    rows = np.random.default_rng(8).normal(size=(1000, 20))
    numbers = tuple(number_cells(f"x{i}", rows[:, i]) for i in range(20))
    scores = tuple(
        (*np.linspace(-150, 150, cell.size - 1).astype(int).tolist(), 0) for cell in numbers
    )
    layout = Layout(
        features=numbers, basis=Basis(features=tuple(range(20)), scores=scores, width=6.0)
    )

    assert len(layout.sketch(list(rows.T.copy())).to_bytes()) < 4000
