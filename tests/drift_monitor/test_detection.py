"""Quiet windows stay quiet, changed ones do not: simulated, seeded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from services.drift_monitor.detection import ALPHA, Comparison, compare
from services.drift_monitor.detection.prepared import prepared
from services.drift_monitor.detection.ranks import Summed, rank_tests
from services.drift_monitor.detection.scaling import merged_windows
from shared.manifest import Column
from shared.reference import Reference, build_reference, read_reference
from tests.drift_monitor.building import Answered, Floats, a_profile, autoregressive

WINDOW = 50
LEVEL = 1e-4


def compared(reference: Reference, rows: Floats) -> Comparison:
    answers = rows[:, 0] + 2 * rows[:, 1]
    return compare(reference, reference.layout.count([*rows.T.copy(), answers]))


def ranked(reference: Reference, rows: Floats, test: str) -> tuple[float, bool]:
    """What one test says of the last input: p, and whether 0 is outside the interval at LEVEL."""
    base = prepared(reference)
    window = reference.layout.sketch([*rows.T.copy(), rows[:, 0] + 2 * rows[:, 1]])
    scales = merged_windows(reference, base, [window], alpha=ALPHA)
    assert scales is not None
    numbers = base.numbers
    found = rank_tests(
        Summed.of(numbers.stack.present(scales.counts), numbers),
        scales.factors(numbers.places),
        is_free=reference.mode == "independent",
    )[test]
    low, high = found.interval(0, 2, LEVEL)
    assert low is not None
    assert high is not None
    return float(found.p[0, 2]), not low < 0 < high


def alarms(phi: float, references: int, windows: int) -> tuple[int, int]:
    """Alarms and critical ones over clean windows that follow their reference."""
    found = []
    for seed in range(references):
        series = autoregressive(phi, 1000 + windows * WINDOW, 3, seed=seed)
        reference = read_reference(a_profile(series[:1000], window=WINDOW))
        later = series[1000:].reshape(windows, WINDOW, 3)
        found += [compared(reference, rows).severity for rows in later]
    return sum(s is not None for s in found), found.count("critical")


@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_of_many_windows_without_a_change_hardly_any_alarm(phi: float) -> None:
    alarmed, critical = alarms(phi, references=30, windows=10)

    # At 5e-4 a sixth of one is expected; four or more have a probability below 1e-4.
    assert alarmed <= 3
    assert critical <= 1


def test_long_memory_makes_no_critical_alarms() -> None:
    alarmed, critical = alarms(0.9, references=15, windows=10)

    assert alarmed <= 4
    assert critical == 0


@pytest.fixture(scope="module")
def independent() -> Reference:
    return read_reference(a_profile(autoregressive(0.0, 5000, 3, seed=7), window=200))


@pytest.mark.parametrize(
    ("change", "test"),
    [
        (lambda rows: rows + np.array([0.8, 0, 0]), "location"),
        (lambda rows: rows * np.array([1, 1, 2.5]), "scale"),
        (lambda rows: np.where(rows > 5, rows, rows + 10), "above"),
    ],
)
def test_a_change_is_found_and_named(independent: Reference, change: Any, test: str) -> None:
    rows = change(autoregressive(0.0, 200, 3, seed=11))

    found = compared(independent, rows)

    assert found.severity == "critical"
    assert found.features[0].p_value <= found.alpha
    assert test in {f.test for f in found.features} | {"above"}
    assert found.features[0].feature in found.detail


def test_the_size_of_a_shift_is_told_in_standard_deviations(independent: Reference) -> None:
    rows = autoregressive(0.0, 200, 3, seed=12) - np.array([0, 0, 1.0])

    found = compared(independent, rows)

    assert found.features[0].feature == "c"
    assert found.features[0].effect == pytest.approx(-1.0, abs=0.2)
    assert "below the reference" in found.detail


def test_a_shift_too_small_to_matter_is_no_more_than_a_warning() -> None:
    series = np.random.default_rng(3).normal(size=(108_000, 3))
    reference = read_reference(a_profile(series[:100_000], window=8000))

    found = compared(reference, series[100_000:] + np.array([0, 0, 0.075]))

    assert found.severity == "warning"


def test_missing_values_are_a_drift_of_their_own(independent: Reference) -> None:
    rows = autoregressive(0.0, 200, 3, seed=13)
    rows[:20, 2] = np.nan

    found = compared(independent, rows)

    assert (found.features[0].feature, found.features[0].test) == ("c", "missing")
    assert found.severity == "critical"


def test_one_wild_value_neither_hides_nor_fakes_anything(independent: Reference) -> None:
    rows = autoregressive(0.0, 200, 3, seed=14)
    rows[0, 2] = 1e30

    assert compared(independent, rows).severity is None


def test_a_constant_feature_says_nothing_until_it_changes() -> None:
    series = autoregressive(0.0, 2000, 3, seed=15)
    series[:, 2] = 4.0
    reference = read_reference(a_profile(series, window=WINDOW))
    rows = autoregressive(0.0, WINDOW, 3, seed=16)

    rows[:, 2] = 4.0
    same = compared(reference, rows)
    rows[:, 2] = 5.0
    other = compared(reference, rows)

    assert same.severity is None
    assert other.features[0].feature == "c"
    assert other.severity == "critical"


def words(levels: Sequence[str], rows: int, seed: int) -> Any:
    chosen = np.empty(rows, dtype=object)
    chosen[:] = np.random.default_rng(seed).choice(list(levels), size=rows).tolist()
    return chosen


@pytest.fixture(scope="module")
def categorical() -> Reference:
    answers = np.zeros(200)
    data = build_reference(
        columns=[Column(name="colour", kind="text", categories=("red", "green", "blue"))],
        train={"colour": words(("red", "green", "blue"), 2000, 1)},
        holdout_answers=Answered(answers),
        holdout_targets=answers,
        holdout_losses=answers,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=100,
    )
    return read_reference(data)


def counted(reference: Reference, colours: Any) -> Comparison:
    return compare(reference, reference.layout.count([colours, np.zeros(len(colours))]))


def test_levels_that_stay_are_quiet(categorical: Reference) -> None:
    severities = [
        counted(categorical, words(("red", "green", "blue"), 100, seed)).severity
        for seed in range(200)
    ]

    assert sum(s is not None for s in severities) <= 2


def test_a_level_never_seen_is_found(categorical: Reference) -> None:
    colours = words(("red", "green", "blue"), 100, 5)
    colours[:12] = "mauve"

    found = counted(categorical, colours)

    assert (found.features[0].test, found.severity) == ("unseen", "critical")


def test_shares_of_levels_that_move_are_found(categorical: Reference) -> None:
    found = counted(categorical, words(("red", "red", "red", "green", "blue"), 100, 6))

    assert found.features[0].test in {"shape", "level"}
    assert found.severity is not None


@pytest.mark.parametrize("phi", [0.0, 0.5])
@pytest.mark.parametrize("test", ["location", "scale"])
def test_the_larger_a_change_the_smaller_its_chance(phi: float, test: str) -> None:
    series = autoregressive(phi, 5000, 3, seed=7)
    reference = read_reference(a_profile(series[:4900], window=100))
    quiet = series[4900:]

    found = []
    for step in range(1, 9):
        rows = quiet.copy()
        rows[:, 2] = rows[:, 2] + 0.3 * step if test == "location" else rows[:, 2] * 1.3**step
        found.append(ranked(reference, rows, test)[0])

    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-9


@pytest.mark.parametrize(
    ("phi", "test", "change"),
    [(0.0, "location", 0.4), (0.5, "location", 0.7), (0.0, "scale", 1.35), (0.5, "scale", 1.35)],
)
def test_an_interval_leaves_out_no_change_when_its_test_alarms(
    phi: float, test: str, change: float
) -> None:
    series = autoregressive(phi, 9000, 3, seed=8)
    reference = read_reference(a_profile(series[:5000], window=100))

    told = []
    for place in range(40):
        rows = series[5000 + 100 * place : 5100 + 100 * place].copy()
        rows[:, 2] = rows[:, 2] + change if test == "location" else rows[:, 2] * change
        p, is_apart = ranked(reference, rows, test)
        told.append((p <= LEVEL, is_apart))

    assert 8 <= sum(is_real for is_real, _ in told) <= 32
    # The test scores by the ranks of all rows, the interval by those of the reference alone.
    assert sum(is_real == is_apart for is_real, is_apart in told) >= 34


def test_without_enough_rows_nothing_is_guessed() -> None:
    reference = read_reference(a_profile(autoregressive(0.5, 150, 3, seed=1), window=50))

    found = compared(reference, autoregressive(0.5, 50, 3, seed=2) + 1)

    assert (found.mode, found.severity) == ("insufficient", None)
    assert "no verdict" in found.detail
    assert "200 are needed" in found.detail


def test_without_enough_rows_a_feature_that_is_gone_is_still_said() -> None:
    reference = read_reference(a_profile(autoregressive(0.5, 150, 3, seed=1), window=50))
    rows = autoregressive(0.5, 50, 3, seed=2)
    rows[:40, 0] = np.nan

    found = compared(reference, rows)

    assert (found.mode, found.severity) == ("insufficient", "warning")
    assert found.features[0].feature == "a"


def test_the_same_counts_have_the_same_verdict(independent: Reference) -> None:
    rows = autoregressive(0.0, 200, 3, seed=21)

    assert compared(independent, rows) == compared(independent, rows)
