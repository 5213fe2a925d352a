"""Flags, numbers that are mostly nothing, and values that are mostly missing raise no alarms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from services.drift_monitor.detection import compare
from shared.manifest import Column
from shared.reference import Reference, build_reference, read_reference
from shared.sketch import Sketch
from tests.drift_monitor.building import Answered, Floats

WINDOW = 200
NUMBERS = 10
Rows = Callable[[np.random.Generator, int], Floats]


def flags(share: float) -> Rows:
    return lambda draw, rows: (draw.random((rows, NUMBERS)) < share).astype(np.float64)


def mostly_nothing(draw: np.random.Generator, rows: int) -> Floats:
    return np.where(draw.random((rows, NUMBERS)) < 0.01, draw.lognormal(size=(rows, NUMBERS)), 0.0)


def mostly_missing(draw: np.random.Generator, rows: int) -> Floats:
    values = draw.normal(size=(rows, NUMBERS))
    return np.where(draw.random((rows, NUMBERS)) < 0.9, np.nan, values)


def some_of_each(draw: np.random.Generator, rows: int) -> Floats:
    values = draw.normal(size=(rows, NUMBERS))
    values[:, 4:] = draw.random((rows, NUMBERS - 4)) < 0.01
    return values


def a_reference(rows: Rows, seed: int, window: int = WINDOW) -> Reference:
    train = rows(np.random.default_rng(seed), 30 * window)
    answers = np.random.default_rng(1).normal(size=300)
    return read_reference(
        build_reference(
            columns=[Column(name=f"x{i}", kind="number") for i in range(NUMBERS)],
            train={f"x{i}": train[:, i].copy() for i in range(NUMBERS)},
            holdout_answers=Answered(answers),
            holdout_targets=answers,
            holdout_losses=np.abs(answers),
            metric="mae",
            classes=(),
            seed=1,
            time_ordered=True,
            window=window,
        )
    )


def sketched(reference: Reference, rows: Floats) -> Sketch:
    answers = np.resize(np.random.default_rng(1).normal(size=300), len(rows))
    return reference.layout.sketch([*rows.T.copy(), answers])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(flags(0.01), id="rare flags"),
        pytest.param(flags(0.002), id="very rare flags"),
        mostly_nothing,
        mostly_missing,
        some_of_each,
    ],
)
def test_sparse_columns_that_do_not_change_raise_no_alarms(rows: Rows, seed: int) -> None:
    reference, draw = a_reference(rows, seed), np.random.default_rng([seed, 1])

    found = [compare(reference, [sketched(reference, rows(draw, WINDOW))]) for _ in range(40)]

    # At 5e-4 a fiftieth of one is expected; taken as normal, pairs alone made up to fourteen.
    assert sum(one.severity is not None for one in found) <= 1
    assert not [one for one in found if one.severity == "critical"]


def test_rare_flags_that_come_together_are_found(seed: int) -> None:
    reference = a_reference(flags(0.05), seed, window=1000)
    rows = flags(0.05)(np.random.default_rng([seed, 1]), 1000)
    rows[:, 1] = np.where(np.random.default_rng(seed).random(1000) < 0.7, rows[:, 0], rows[:, 1])

    found = compare(reference, [sketched(reference, rows)])

    assert (found.severity, found.features[0].feature) == ("critical", "x0 and x1")
    low, high = found.features[0].low, found.features[0].high
    assert low is not None
    assert high is not None
    assert 0.05 < low < 0.7 < high


@pytest.mark.parametrize(
    ("present", "window", "moved", "least"),
    [(0.3, 1000, 0.6, 4), (0.5, 500, 0.5, 3), (0.5, 1000, 0.4, 8)],
)
def test_numbers_with_gaps_that_begin_to_move_together_are_found(
    present: float, window: int, moved: float, least: int, seed: int
) -> None:
    def gappy(draw: np.random.Generator, rows: int) -> Floats:
        values = draw.normal(size=(rows, NUMBERS))
        return np.where(draw.random((rows, NUMBERS)) < present, values, np.nan)

    reference = a_reference(gappy, seed, window=window)
    draw = np.random.default_rng([seed, 1])
    found = 0
    for _ in range(12):
        rows, first = gappy(draw, window), draw.normal(size=window)
        rows[:, 0] = np.where(np.isnan(rows[:, 0]), np.nan, first)
        second = moved * first + np.sqrt(1 - moved**2) * draw.normal(size=window)
        rows[:, 1] = np.where(np.isnan(rows[:, 1]), np.nan, second)
        verdict = compare(reference, [sketched(reference, rows)])
        drifted = [one.feature for one in verdict.features if one.p_value <= verdict.alpha]
        found += "x0 and x1" in drifted

    assert found >= least


def test_flags_that_vanish_are_found_where_rows_resemble_their_neighbours(seed: int) -> None:
    def resembling(draw: np.random.Generator, rows: int) -> Floats:
        drawn = draw.normal(size=(rows, NUMBERS))
        for row in range(1, rows):
            drawn[row] = 0.3 * drawn[row - 1] + np.sqrt(0.91) * drawn[row]
        return (drawn > 1.34).astype(np.float64)

    reference = a_reference(resembling, seed, window=500)
    draw = np.random.default_rng([seed, 1])
    found = []
    for _ in range(8):
        rows = resembling(draw, 500)
        rows[:, 0] = 0.0
        found.append(compare(reference, [sketched(reference, rows)]))

    assert found[0].mode == "block"
    assert sum(one.severity is not None for one in found) >= 7


def test_a_copy_that_is_constant_for_a_window_is_no_change_of_how_both_move(seed: int) -> None:
    def copies(draw: np.random.Generator, rows: int) -> Floats:
        values = flags(0.002)(draw, rows)
        values[:, 1] = values[:, 0]
        return values

    reference = a_reference(copies, seed)
    rows = copies(np.random.default_rng([seed, 1]), WINDOW)
    rows[:, :2] = 0.0

    found = compare(reference, [sketched(reference, rows)])

    assert "correlation" not in {f.test for f in found.features if f.p_value <= found.alpha}


@pytest.mark.nightly
@pytest.mark.parametrize("share", [0.4, 0.15])
def test_gaps_in_numbers_that_move_together_change_nothing(share: float, seed: int) -> None:
    def gappy(draw: np.random.Generator, rows: int) -> Floats:
        common = draw.normal(size=(rows, 1))
        values = np.sqrt(0.6) * common + np.sqrt(0.4) * draw.normal(size=(rows, NUMBERS))
        return np.where(draw.random((rows, NUMBERS)) < share, values, np.nan)

    reference, draw = a_reference(gappy, seed, window=1000), np.random.default_rng([seed, 1])

    found = [compare(reference, [sketched(reference, gappy(draw, 1000))]) for _ in range(200)]

    assert sum(one.severity is not None for one in found) <= 2
    assert not [one for one in found if one.severity == "critical"]
