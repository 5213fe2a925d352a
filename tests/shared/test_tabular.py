from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.manifest import Column
from shared.tabular import matrix, rows_of

FLOW = Column(name="flow", kind="number")
OPEN = Column(name="open", kind="boolean")
PLACE = Column(name="pla/ce", kind="text")


def test_numbers_and_booleans_become_floats_in_the_order_of_the_columns() -> None:
    table = matrix([OPEN, FLOW], [{"flow": 2, "open": True, "other": "x"}, {"flow": 0.5}])

    assert table.dtype == np.float64
    np.testing.assert_array_equal(table, [[1.0, 2.0], [np.nan, 0.5]])


def test_one_text_column_makes_the_matrix_hold_objects() -> None:
    table = matrix([FLOW, PLACE], [{"flow": 1, "pla/ce": "mill"}, {}])

    assert table.dtype == object
    assert table[0].tolist() == [1.0, "mill"]
    assert table[1, 1] is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (FLOW, "1.5"),
        (FLOW, True),
        (FLOW, float("inf")),
        (FLOW, 10**400),
        (FLOW, [1]),
        (OPEN, "yes"),
        (OPEN, 2),
        (PLACE, 3),
        (PLACE, {"a": 1}),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_place(column: Column, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        matrix([column], [{}, {column.name: value}])

    (fault,) = refused.value.faults
    assert fault.pointer == f"/rows/1/{column.name.replace('/', '~1')}"
    assert fault.hint


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        matrix([FLOW, OPEN], [{"flow": "a", "open": "b"}, {"flow": "c"}])

    assert len(refused.value.faults) == 3


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "flow": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "pla/ce": st.none() | st.text(max_size=5),
            }
        ),
        max_size=6,
    )
)
def test_rows_come_back_as_they_were(rows: list[dict[str, Any]]) -> None:
    columns = [FLOW, PLACE]

    assert rows_of(columns, matrix(columns, rows)) == rows
