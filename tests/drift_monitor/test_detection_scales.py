"""Windows taken together, numbers that move together, and verdicts that can be worked out again."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest

from services.drift_monitor.detection import Comparison, compare
from shared.manifest import Column
from shared.reference import Reference, build_reference, read_reference
from shared.sketch import Sketch
from tests.drift_monitor.building import Answered, Floats

WINDOW: Final = 500
NUMBERS: Final = 8
NAMES: Final = tuple(f"x{i}" for i in range(NUMBERS))


def some_rows(count: int, seed: int, *, pair: float = 0.6) -> Floats:
    """Numbers of which the first two move together."""
    rows = np.random.default_rng(seed).normal(size=(count, NUMBERS))
    rows[:, 1] = pair * rows[:, 0] + np.sqrt(1 - pair**2) * rows[:, 1]
    return rows


def a_profile(seed: int, rows: int = 10_000) -> bytes:
    train, held = some_rows(rows, seed), some_rows(2000, seed + 10_000)
    losses = np.abs(held[:, 7])
    return build_reference(
        columns=[Column(name=name, kind="number") for name in NAMES],
        train={name: train[:, i].copy() for i, name in enumerate(NAMES)},
        holdout_answers=Answered(held.mean(axis=1)),
        holdout_targets=held.mean(axis=1),
        holdout_losses=losses,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=WINDOW,
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return read_reference(a_profile(1))


def sketched(reference: Reference, rows: Floats) -> Sketch:
    return reference.layout.sketch([*rows.T.copy(), rows.mean(axis=1)])


def a_history(reference: Reference, windows: int, seed: int, **change: Any) -> list[Sketch]:
    shift = change.pop("shift", 0.0)
    made = []
    for number in range(windows):
        rows = some_rows(WINDOW, seed + number, **change)
        rows[:, 3] += shift
        made.append(sketched(reference, rows))
    return made


def worst(found: Comparison) -> str:
    return f"{found.features[0].feature} {found.features[0].test}"


def test_rows_without_dependence_are_tested_at_all_scales(reference: Reference) -> None:
    found = compare(reference, a_history(reference, 16, 100))

    assert (found.mode, found.tier, found.scales) == ("independent", "clean", (1, 2, 4, 8, 16))
    assert found.family_p > found.alpha


def test_windows_together_never_have_more_rows_than_the_reference() -> None:
    short = read_reference(a_profile(2, rows=5000))

    assert compare(short, a_history(short, 16, 200)).scales == (1, 2, 4, 8)


def test_a_shift_too_small_for_one_window_is_found_in_many(reference: Reference) -> None:
    history = a_history(reference, 16, 300, shift=0.12)

    alone, together = compare(reference, history[:1]), compare(reference, history)

    assert alone.severity is None
    assert worst(together) == "x3 location"
    assert together.features[0].scale > 4
    assert "over" in together.detail


def test_the_interval_of_a_shift_holds_it(reference: Reference) -> None:
    (drift, *_) = compare(reference, a_history(reference, 1, 400, shift=0.6)).features

    assert drift.low is not None
    assert drift.high is not None
    assert drift.low < drift.effect < drift.high
    assert drift.low < 0.6 < drift.high


def test_what_is_tolerated_decides_what_is_critical(reference: Reference) -> None:
    history = a_history(reference, 1, 500, shift=0.5)

    assert compare(reference, history).tier == "critical"
    assert compare(reference, history, shift=0.5).tier == "warning"


def test_numbers_that_no_longer_move_together_are_found(reference: Reference) -> None:
    found = compare(reference, a_history(reference, 1, 600, pair=0.1))

    assert worst(found) == "x0 and x1 correlation"
    assert found.features[0].effect == pytest.approx(-0.5, abs=0.15)
    assert "move together" in found.detail


def test_many_small_shifts_are_found_together(reference: Reference) -> None:
    rows = some_rows(WINDOW, 700) + 0.16

    found = compare(reference, [sketched(reference, rows)])

    drifted = {f.feature for f in found.features if f.p_value <= found.alpha}
    assert "(all numbers together)" in drifted


def test_counts_alone_are_tested_without_what_they_do_not_know(reference: Reference) -> None:
    rows = some_rows(WINDOW, 800, pair=0.0)
    old = reference.layout.of_counts(sketched(reference, rows).counts)

    assert compare(reference, [old]).severity is None
    assert "correlation" not in {f.test for f in compare(reference, [old]).features}


def test_a_verdict_can_be_worked_out_again_from_what_is_stored() -> None:
    data = a_profile(3)
    first = read_reference(data)
    history = a_history(first, 5, 900, shift=0.1)
    stored = [sketch.to_bytes() for sketch in history]

    again = read_reference(data)
    verdict = compare(again, [again.layout.read(sketch) for sketch in stored])

    assert verdict == compare(first, history)


@pytest.mark.parametrize("wild", [1e300, -1e300, np.inf])
def test_one_wild_value_neither_hides_a_drift_nor_makes_one(
    reference: Reference, wild: float
) -> None:
    quiet, moved = some_rows(WINDOW, 1000), some_rows(WINDOW, 1000)
    moved[:, 3] += 1.0
    quiet[0, 3] = moved[0, 3] = wild

    assert compare(reference, [sketched(reference, quiet)]).severity is None
    assert worst(compare(reference, [sketched(reference, moved)])) == "x3 location"


def test_clean_windows_hardly_ever_alarm_and_never_critically() -> None:
    alarms = critical = 0
    for seed in range(6):
        reference = read_reference(a_profile(50 + seed))
        history: list[Sketch] = []
        for sketch in a_history(reference, 60, 5000 + 100 * seed):
            history = [sketch, *history][:16]
            found = compare(reference, history)
            alarms += found.severity is not None
            critical += found.severity == "critical"

    # 360 windows at 5e-4: a fifth of an alarm is expected, and one alarm may last some windows.
    assert alarms <= 4
    assert critical == 0


def test_most_shifts_of_a_fifth_of_a_deviation_are_found_in_two_windows() -> None:
    reference = read_reference(a_profile(4, rows=20_000))

    found = [
        compare(reference, a_history(reference, 2, 7000 + 10 * trial, shift=0.2)).severity
        for trial in range(30)
    ]

    assert sum(severity is not None for severity in found) >= 24


def odd_columns(rows: int) -> dict[str, Any]:
    chance = np.random.default_rng(20)
    x = chance.normal(size=rows)
    return {
        "number": x,
        "copy": x.copy(),
        "constant": np.full(rows, 3.0),
        "nothing": np.full(rows, np.nan),
        "two values": (chance.normal(size=rows) > 0).astype(np.float64),
        "endless": np.where(chance.random(rows) < 0.3, np.inf, x),
    }


@pytest.mark.parametrize("rows", [2, 30, 300, 6000])
def test_odd_columns_are_judged_like_others_and_never_end_in_an_error(rows: int) -> None:
    columns, window = odd_columns(rows), min(rows, 50)
    answers = np.arange(float(max(rows // 5, 1)))
    reference = read_reference(
        build_reference(
            columns=[Column(name=name, kind="number") for name in columns],
            train=columns,
            holdout_answers=Answered(answers),
            holdout_targets=answers,
            holdout_losses=answers,
            metric="mae",
            classes=(),
            seed=1,
            time_ordered=True,
            window=50,
        )
    )
    usual = [column[:window] for column in columns.values()]
    said = answers[np.arange(window) % len(answers)]
    wild = [np.full(window, 1e300) for _ in columns]

    same = compare(reference, [reference.layout.sketch([*usual, np.full(window, said[0])])])
    changed = compare(reference, [reference.layout.sketch([*wild, said])])

    assert not {f.feature for f in same.features if f.p_value <= same.alpha} - {"(answer)"}
    assert changed.severity is not None
