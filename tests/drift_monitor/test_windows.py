"""Rows fill windows exactly, however they are cut into batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.drift_monitor.domain import Watch
from services.drift_monitor.windows import Kept, Watched, Window, fill
from shared.reference import read_reference
from shared.sketch import Layout
from tests.drift_monitor.building import (
    NAMES,
    NOON,
    NOWHERE,
    PUMP,
    Serving,
    a_policy,
    a_profile,
    autoregressive,
)

LAYOUT: Layout = read_reference(a_profile(autoregressive(0.0, 400, 3, seed=1), window=20)).layout
ROWS = [
    Kept.of(batch, row)
    for batch in [Serving().batch(autoregressive(0.0, 100, 3, seed=2))]
    for row in batch.rows
]


def a_version(window: int = 20) -> Watched:
    return Watched(
        model=PUMP,
        version=1,
        manifest=NOWHERE,
        reference=NOWHERE,
        columns=NAMES,
        classes=(),
        baseline={"rule": "constant", "value": 0.0},
        metric="mae",
        policy=a_policy(window=window),
        watch=Watch(),
        registered_at=NOON,
    )


def filled(cuts: list[int]) -> list[Window]:
    """All windows after the rows have come in pieces that end at these cuts."""
    windows: dict[int, Window] = {}
    pieces = sorted({0, *cuts, len(ROWS)})
    for start, end in pairwise(pieces):
        newest = max(windows, default=0)
        held = windows.get(newest)
        open_window = held if held and not held.is_closed else None
        for window, _ in fill(open_window, newest, ROWS[start:end], a_version(), LAYOUT):
            windows[window.number] = window
    return list(windows.values())


@given(st.lists(st.integers(0, 100), max_size=10))
def test_windows_do_not_depend_on_how_rows_are_batched(cuts: list[int]) -> None:
    windows, whole = filled(cuts), filled([])

    assert [w.rows for w in windows] == [20] * 5
    assert all(w.is_closed for w in windows)
    for one, other in zip(windows, whole, strict=True):
        assert (one.counts == other.counts).all()
        assert (one.started_at, one.ended_at) == (other.started_at, other.ended_at)


def test_every_row_is_told_its_window() -> None:
    touched = fill(None, 4, ROWS[:30], a_version(), LAYOUT)

    assert [(w.number, w.rows, w.is_closed) for w, _ in touched] == [(5, 20, True), (6, 10, False)]
    assert [row.window for _, rows in touched for row in rows] == [5] * 20 + [6] * 10


def test_features_are_found_by_name_in_whatever_order_they_come() -> None:
    values = autoregressive(0.0, 20, 3, seed=3)
    straight = Serving().batch(values)
    turned = Serving().batch(values[:, ::-1], names=NAMES[::-1])
    # The answer depends on the order in this builder, so it is made the same.
    rows = [[Kept.of(batch, row) for row in batch.rows] for batch in (straight, turned)]

    counts = [fill(None, 0, some, a_version(), LAYOUT)[0][0].counts for some in rows]

    features = sum(cells.size for cells in LAYOUT.features[:3])
    assert (counts[0][:features] == counts[1][:features]).all()


def test_a_feature_that_was_not_logged_is_missing() -> None:
    rows = [
        Kept.of(batch, row)
        for batch in [Serving().batch(np.zeros((20, 2)), names=("a", "b"))]
        for row in batch.rows
    ]

    counts = fill(None, 0, rows, a_version(), LAYOUT)[0][0].counts

    assert LAYOUT.split(counts)[2][-1] == 20
