"""Rows fill windows exactly, however they are cut into batches."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift_monitor.windows import (
    EARLIEST,
    LATEST,
    Kept,
    Open,
    Part,
    Plan,
    allot,
    moment_of,
)
from shared.seasons import Season, season_of
from tests.drift_monitor.building import NAMES, NOON, Serving, autoregressive

PLAN = Plan(columns=NAMES, width=4, window=20)
ROWS = [
    Kept.of(batch, row)
    for batch in [Serving().batch(autoregressive(0.0, 100, 3, seed=2))]
    for row in batch.rows
]


def a_row(seconds: float) -> Kept:
    return replace(ROWS[0], at=NOON + timedelta(seconds=seconds))


def allotted(rows: list[Kept], cuts: list[int], plan: Plan = PLAN) -> list[Part]:
    """All parts after the rows have come in pieces that end at these cuts."""
    opened: dict[str, Open] = {}
    newest = 0
    found: list[Part] = []
    for start, end in pairwise(sorted({0, *cuts, len(rows)})):
        for part in allot(opened, newest, rows[start:end], plan):
            newest = max(newest, part.window.number)
            opened[part.window.season] = part.window
            if part.closes:
                del opened[part.window.season]
            found.append(part)
    return found


def windows_of(parts: list[Part]) -> dict[int, tuple[Open, bool, list[datetime]]]:
    """The last state of each window, whether it closed, and the moments of its rows."""
    found: dict[int, tuple[Open, bool, list[datetime]]] = {}
    for part in parts:
        _, _, before = found.get(part.window.number, (None, False, []))
        moments = [*before, *(row.at for row in part.rows)]
        found[part.window.number] = (part.window, part.closes, moments)
    return found


@given(st.lists(st.integers(0, 100), max_size=10))
def test_windows_do_not_depend_on_how_rows_are_batched(cuts: list[int]) -> None:
    windows = windows_of(allotted(ROWS, cuts))

    assert windows == windows_of(allotted(ROWS, []))
    assert [window.rows for window, _, _ in windows.values()] == [20] * 5
    assert all(closes for _, closes, _ in windows.values())


@given(
    st.lists(st.integers(0, 60), max_size=10),
    st.lists(st.integers(0, 400_000), min_size=60, max_size=60),
    st.sampled_from([None, "hour_of_day", "hour_of_week", "month"]),
    st.sampled_from([None, timedelta(hours=1), timedelta(days=2)]),
)
def test_every_row_falls_into_one_window_whatever_closes_it(
    cuts: list[int], moments: list[int], season: Season | None, close_after: timedelta | None
) -> None:
    plan = replace(PLAN, season=season, close_after=close_after)
    rows = [replace(a_row(moment), id=str(n)) for n, moment in enumerate(moments)]

    windows = windows_of(allotted(rows, cuts, plan))

    counted = sorted(moment for _, _, some in windows.values() for moment in some)
    assert counted == sorted(row.at for row in rows)
    for window, closes, some in windows.values():
        assert window.rows == len(some) <= 20
        assert (window.started_at, window.ended_at) == (min(some), max(some))
        assert closes or window.rows < 20
        if season is not None:
            assert {season_of(season, moment) for moment in some} == {window.season}


def test_a_row_goes_on_in_the_open_window_and_the_next_one_begins_when_it_is_full() -> None:
    parts = allotted(ROWS[:30], [])

    assert [(p.window.number, p.window.rows, p.closes) for p in parts] == [
        (1, 20, True),
        (2, 10, False),
    ]


def test_an_old_window_with_enough_rows_closes_before_the_row_that_shows_it() -> None:
    plan = replace(PLAN, window=100, close_after=timedelta(minutes=10))
    rows = [a_row(n) for n in range(25)] + [a_row(600)]

    parts = allotted(rows, [], plan)

    assert [(p.window.number, p.window.rows, p.closes) for p in parts] == [
        (1, 25, True),
        (2, 1, False),
    ]


def test_an_old_window_with_few_rows_goes_on_until_it_has_enough() -> None:
    plan = replace(PLAN, window=100, close_after=timedelta(minutes=10))
    rows = [a_row(0), *(a_row(700 + n) for n in range(21))]

    parts = allotted(rows, [5], plan)

    assert [(p.window.number, len(p.rows), p.closes) for p in parts] == [
        (1, 5, False),
        (1, 15, True),
        (2, 2, False),
    ]


def test_a_row_that_comes_late_is_counted_in_the_window_of_its_season() -> None:
    plan = replace(PLAN, season="hour_of_day")
    rows = [a_row(0), a_row(3600), a_row(5)]

    parts = allotted(rows, [1, 2], plan)

    assert [(p.window.number, p.window.season, p.window.rows) for p in parts] == [
        (1, "h12", 1),
        (2, "h13", 1),
        (1, "h12", 2),
    ]


@pytest.mark.parametrize(
    ("season", "expected"), [("hour_of_day", "h12"), ("hour_of_week", "w060"), ("month", "m03")]
)
def test_a_season_is_a_matter_of_the_moment_alone(season: Season, expected: str) -> None:
    assert season_of(season, datetime(2026, 3, 4, 12, 30, tzinfo=UTC)) == expected


def test_features_are_found_by_name_in_whatever_order_they_come() -> None:
    turned = replace(ROWS[0], names=NAMES[::-1], features=ROWS[0].features[::-1])

    assert PLAN.values([turned]) == PLAN.values([ROWS[0]])


def test_a_feature_that_was_not_logged_is_missing_and_counted_as_absent() -> None:
    rows = [replace(row, names=("a", "b"), features=row.features[:2]) for row in ROWS[:20]]

    (part,) = allotted(rows, [])

    assert {values[2] for values in PLAN.values(rows)[0]} == {None}
    assert part.window.absent == {"c": 20}


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("2026-03-04T12:00:00+02:00", "2026-03-04T10:00:00+00:00"),
        ("2026-03-04T12:00:00", "2026-03-04T12:00:00+00:00"),
        ("9999-12-31T23:59:59-05:00", LATEST.isoformat()),
        ("9998-12-31T12:00:00+00:00", LATEST.isoformat()),
        ("0001-01-01T00:00:00+05:00", EARLIEST.isoformat()),
    ],
)
def test_a_broken_clock_moves_a_row_and_loses_none(told: str, kept: str) -> None:
    found = moment_of(datetime.fromisoformat(told))

    assert found == datetime.fromisoformat(kept)
    assert found.astimezone(UTC) == found


def test_windows_close_by_age_at_the_end_of_time_as_ever() -> None:
    plan = replace(PLAN, close_after=timedelta(days=400 * 365))
    rows = [replace(ROWS[n], at=at) for n, at in enumerate([EARLIEST] * 10 + [LATEST] * 15)]

    parts = allotted(rows, [], replace(plan, window=100))

    assert [(part.window.rows, part.closes) for part in parts] == [(20, True), (5, False)]
