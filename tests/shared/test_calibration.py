"""What is known of chance: independence is shown, blocks vouch for each other or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from shared import cells
from shared.budget import CATEGORY, NUMBER, SCALES, family_parts, scale_parts
from shared.calibration import Calibration, Source, calibrate
from shared.dependence import most_alarms
from shared.manifest import Column
from shared.reference import ANSWER, Reference, build_reference, read_reference
from shared.sketch import Layout, number_cells
from tests.drift_monitor.building import Answered, Floats, autoregressive

HOUR = 3_600_000_000
"""Microseconds."""


def calibrated(rows: Floats, window: int, *, is_ordered: bool = True) -> Calibration:
    features = tuple(number_cells(f"x{i}", column) for i, column in enumerate(rows.T))
    layout = Layout(features=features)
    places = [cell.places(column.copy()) for cell, column in zip(features, rows.T, strict=True)]
    return calibrate(Source(layout, places, None, None, is_ordered), window)


def a_reference(
    rows: Floats, *, window: int = 100, times: NDArray[np.int64] | None = None, **more: Any
) -> Reference:
    return read_reference(some_bytes(rows, window=window, times=times, **more))


def some_bytes(
    rows: Floats, *, window: int = 100, times: NDArray[np.int64] | None = None, **more: Any
) -> bytes:
    held = rows[-len(rows) // 5 :].mean(axis=1)
    return build_reference(
        columns=[Column(name=f"x{i}", kind="number") for i in range(rows.shape[1])],
        train={f"x{i}": rows[:, i].copy() for i in range(rows.shape[1])},
        holdout_answers=Answered(held),
        holdout_targets=held,
        holdout_losses=np.abs(held),
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=window,
        times=times,
        holdout_times=None if times is None else times[-len(held) :],
        **more,
    )


def test_independent_rows_need_no_blocks() -> None:
    found = calibrated(autoregressive(0.0, 6000, 4, seed=1), 200)

    assert (found.mode, found.scales) == ("independent", ())


@pytest.mark.parametrize("phi", [0.1, 0.5, 0.9])
def test_rows_that_resemble_their_neighbours_need_blocks(phi: float) -> None:
    found = calibrated(autoregressive(phi, 6000, 4, seed=1), 200)

    assert found.mode == "block"
    assert {scale.length for scale in found.scales} >= {100, 200}


def test_a_slow_season_is_no_independence() -> None:
    rows = autoregressive(0.0, 8000, 3, seed=2)
    rows += 0.5 * np.sin(np.arange(8000) / 300)[:, None]

    assert calibrated(rows, 200).mode == "block"


def test_fewer_rows_are_never_taken_as_independent_when_they_have_an_order() -> None:
    rows = autoregressive(0.0, 2000, 4, seed=3)

    assert calibrated(rows, 100).mode == "block"
    assert calibrated(rows[:150], 100).mode == "insufficient"
    assert calibrated(rows[:150], 100, is_ordered=False).mode == "independent"


def test_windows_taken_together_need_twenty_blocks() -> None:
    found = calibrated(autoregressive(0.6, 6000, 4, seed=4), 200)

    assert max(scale.length for scale in found.scales) == 200
    assert (
        max(s.length for s in calibrated(autoregressive(0.6, 9000, 4, seed=4), 200).scales) == 400
    )


def test_rows_with_a_block_unlike_all_others_are_refused_with_the_reason() -> None:
    rows = np.random.default_rng(5).normal(size=(1500, 3))
    rows[1400:] += 40.0

    found = calibrated(rows, 100)

    assert found.mode == "insufficient"
    assert "differ from the others as a drift would" in found.reason


def test_of_alarms_among_blocks_a_few_are_chance() -> None:
    assert [most_alarms(blocks) for blocks in (10, 100, 400)] == [0, 1, 2]


def test_all_parts_of_the_level_add_up_to_one() -> None:
    assert sum(SCALES.values()) == pytest.approx(1)
    assert sum(NUMBER.values()) == pytest.approx(1)
    assert sum(CATEGORY.values()) == pytest.approx(1)
    assert sum(family_parts(3)) == pytest.approx(1)
    assert [sum(scale_parts(s)) for s in ([1], [1, 2], list(SCALES))] == pytest.approx([1, 1, 1])


def test_how_lopsided_a_sum_of_squares_is_agrees_with_chance() -> None:
    totals = np.full(33, 100)
    scores = np.square(cells.normal_scores(totals))
    drawn = np.random.default_rng(6).multivariate_hypergeometric(totals, 300, size=60_000) @ scores
    counts = np.array([300] + [0] * 32)

    measured = float(np.mean((drawn - drawn.mean()) ** 3) / drawn.std() ** 3)

    assert float(cells.skewness(counts, totals, scores)) == pytest.approx(measured, abs=0.04)


def test_how_numbers_move_together_is_part_of_the_profile() -> None:
    chance = np.random.default_rng(7)
    rows = chance.normal(size=(6000, 3))
    rows[:, 1] = 0.6 * rows[:, 0] + 0.8 * rows[:, 1]

    together = a_reference(rows).together

    assert together is not None
    assert together.rows == 6000
    # Pairs 0-1, 0-2, 1-2 of normal numbers need no wider interval than such numbers have.
    assert max(together.spread) < 1.1
    assert 0 < sum(together.eigenvalues) < 2


def test_the_newest_blocks_add_up_to_the_counts() -> None:
    reference = a_reference(autoregressive(0.5, 3000, 2, seed=8), window=100)

    assert reference.blocks.shape[0] == 30
    assert reference.layout.split(reference.blocks.sum(axis=0))[0].tolist() == (
        reference.counts[0].tolist()
    )


def test_a_profile_of_the_first_format_is_still_read() -> None:
    plain = orjson.loads(some_bytes(autoregressive(0.5, 3000, 2, seed=9)))
    new = ("basis", "mode", "together", "blocks", "span", "season", "seasons", "scores")
    old = {name: value for name, value in plain.items() if name not in new}
    for scale in old["scales"]:
        for name in ("pairs", "pairs_df", "waves", "waves_spread", "waves_df"):
            del scale[name]
        scale["factors"] = [
            found and {n: v for n, v in found.items() if "fine" not in n}
            for found in scale["factors"]
        ]

    reference = read_reference(orjson.dumps(old | {"format": "tidewheel/reference/v1"}))

    assert (reference.mode, reference.together, reference.layout.basis) == ("block", None, None)
    factors = reference.scales[0].factors[0]
    assert factors is not None
    assert (factors.fine, factors.fine_df) == (factors.shape, factors.shape_df)


# --- seasons -------------------------------------------------------------------------------------


def hourly(rows: int) -> NDArray[np.int64]:
    return np.arange(rows, dtype=np.int64) * HOUR


def test_every_hour_of_the_day_is_a_reference_of_its_own() -> None:
    times = hourly(24 * 300)
    rows = autoregressive(0.0, len(times), 2, seed=10) + (times // HOUR % 24)[:, None]

    reference = a_reference(rows, window=20, times=times, season="hour_of_day")

    assert len(reference.seasons) == 24
    noon, night = reference.of_season("h12"), reference.of_season("h00")
    assert (noon.rows, night.rows) == (300, 300)
    assert noon.mode == "block"
    assert noon.counts[0].argmax() > night.counts[0].argmax()


def test_a_season_that_no_row_has_seen_cannot_be_judged() -> None:
    times = hourly(24 * 50)[::2]
    rows = autoregressive(0.0, len(times), 2, seed=11)

    unknown = a_reference(rows, times=times, season="hour_of_day").of_season("h13")

    assert unknown.mode == "insufficient"
    assert "h13" in unknown.reason


def test_a_span_shorter_than_the_season_is_refused() -> None:
    times = hourly(24 * 200)
    rows = autoregressive(0.0, len(times), 2, seed=12)

    reference = a_reference(rows, times=times, season="month").of_season("m03")

    assert reference.mode == "insufficient"
    assert "less than one month cycle" in reference.reason


def test_without_seasons_all_rows_are_the_reference() -> None:
    reference = a_reference(autoregressive(0.5, 3000, 2, seed=13))

    assert reference.of_season("") is reference
    assert reference.layout.features[-1].name == ANSWER
