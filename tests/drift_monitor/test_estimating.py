"""Metrics by scores alone: exact where they can be, honest about chance, blind to new answers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from services.drift_monitor.quality.estimating import Estimated, estimate, gap, metrics_of, table
from shared.reference import SCORE, Losses, losses_profile
from shared.scores import Scores, score_cells, scores_profile
from shared.sketch import NumberCells
from tests.drift_monitor.building import Floats


def drawn(rows: int, seed: int, *, tilt: float = 0.0) -> tuple[Floats, Floats]:
    """Scores, and outcomes that come as often as the scores say."""
    chance = np.random.default_rng(seed)
    scores = chance.beta(2 + tilt, 2, rows)
    return scores, (chance.random(rows) < scores).astype(np.float64)


def brier(scores: Floats, hits: Floats) -> Floats:
    return np.asarray((scores - hits) ** 2)


def profile(rows: int = 20_000) -> tuple[NumberCells, Scores]:
    scores, hits = drawn(rows, 1)
    cells = score_cells(SCORE, scores, [0.5])
    found = scores_profile(cells, scores, brier(scores, hits), hits.astype(np.bool_))
    assert found is not None
    return cells, found


@cache
def of_brier(rows: int = 20_000) -> Losses:
    return replace(losses_profile("brier", brier(*drawn(rows, 1))), inflation=1.0)


def estimated(cells: NumberCells, known: Scores, scores: Floats) -> Estimated:
    counts = np.bincount(cells.places(scores), minlength=cells.size)[:-1]
    found = estimate(of_brier(), known, cells.edges, counts)
    assert found is not None
    return found


def test_on_known_outcomes_the_metrics_are_the_real_ones() -> None:
    # One row per cell, so that a cell's rate is its outcome.
    scores = np.array([0.1, 0.2, 0.3, 0.45, 0.55, 0.6, 0.8, 0.9])
    hits = np.array([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    edges = [*(scores - 0.01).tolist(), 0.91]

    found = metrics_of(table([0.0, *hits, 0.0], edges, np.array([0.0, *np.ones(8), 0.0])))

    pairs = [(p, n) for p in scores[hits == 1] for n in scores[hits == 0]]
    assert {name: value for name, (value, _) in found.items()} == pytest.approx(
        {
            "roc_auc": np.mean([p > n for p, n in pairs]),
            "accuracy": 6 / 8,
            "precision": 3 / 4,
            "recall": 3 / 4,
            "f1": 3 / 4,
        }
    )


def test_slopes_are_the_derivatives_of_the_metrics() -> None:
    rates, window = [0.1, 0.3, 0.6, 0.9], np.array([10.0, 20.0, 15.0, 5.0])
    edges = [0.2, 0.5, 0.7]
    found = metrics_of(table(rates, edges, window))

    for cell in range(4):
        moved = rates.copy()
        moved[cell] += 1e-6
        after = metrics_of(table(moved, edges, window))
        for name, (value, slope) in found.items():
            change = (after[name][0] - value) / (1e-6 * window[cell])
            assert slope[cell] == pytest.approx(change, abs=1e-6), name


@pytest.mark.parametrize("tilt", [0.0, 1.5])
def test_where_scores_mean_what_they_meant_it_finds_the_metrics(tilt: float) -> None:
    cells, known = profile()
    inside = 0
    for seed in range(100, 140):
        scores, hits = drawn(1000, seed, tilt=tilt)
        found = estimated(cells, known, scores)
        inside += found.low <= brier(scores, hits).mean() <= found.high
        accuracy = next(other for other in found.others if other.metric == "accuracy")
        inside += accuracy.low <= np.mean((scores > 0.5) == (hits == 1)) <= accuracy.high

    # 80 intervals of 95 %: fewer than 69 have a probability below 1e-3.
    assert inside >= 69


def test_a_window_without_scores_has_no_estimate() -> None:
    cells, known = profile()

    nothing = np.zeros(cells.size - 1, dtype=np.int64)

    assert estimate(of_brier(), known, cells.edges, nothing) is None


def test_for_numbers_it_is_the_mean_loss_of_like_answers() -> None:
    answers = np.linspace(0, 10, 1000)
    losses = answers / 10
    cells = score_cells("(answer)", answers)
    known = scores_profile(cells, answers, losses, None)
    assert known is not None

    high = np.bincount(cells.places(answers[answers > 8]), minlength=cells.size)[:-1]
    found = estimate(losses_profile("mae", losses), known, cells.edges, high)

    assert found is not None
    assert found.reference == pytest.approx(0.5)
    assert found.value == pytest.approx(0.9, abs=0.02)
    assert found.others == ()


def labelled(seed: int, rows: int, flip: float) -> tuple[Floats, Floats]:
    scores, hits = drawn(rows, seed)
    turned = np.random.default_rng(seed + 1).random(rows) < flip
    return scores, np.where(turned, 1 - hits, hits)


@pytest.mark.parametrize(("flip", "opens"), [(0.0, False), (0.3, True)])
def test_answers_that_changed_behind_the_same_scores_open_a_gap(flip: float, opens: bool) -> None:
    cells, known = profile()
    scores, hits = labelled(7, 2000, flip)

    found = gap(
        of_brier(),
        known,
        cells.places(scores),
        brier(scores, hits),
        np.full(2000, 1 / 2000),
        alpha=1e-3,
    )

    assert found is not None
    assert found.is_open is opens
    assert found.expected == pytest.approx(estimated(cells, known, scores).value)


@pytest.mark.parametrize("metric", ["accuracy", "brier"])
def test_where_no_held_out_row_was_wrong_an_estimate_is_no_certainty(metric: str) -> None:
    scores = np.concatenate([np.linspace(0.001, 0.1, 100), np.linspace(0.9, 0.999, 100)])
    cells, losses = score_cells(SCORE, scores, [0.5]), np.zeros(200)
    known = scores_profile(cells, scores, losses, scores > 0.5)
    assert known is not None
    counts = np.bincount(cells.places(scores), minlength=cells.size)[:-1]

    found = estimate(losses_profile(metric, losses), known, cells.edges, counts)

    assert found is not None
    assert (found.value, found.low) == (0.0, 0.0)
    # One mistake in 200 rows would surprise nobody, twenty would.
    assert 1 / 200 < found.high < 20 / 200
    widths = {other.metric: other.high - other.low for other in found.others}
    assert all(1 / 200 < width < 20 / 200 for width in widths.values()), widths


def test_a_gap_of_a_root_is_told_in_the_unit_of_the_root() -> None:
    answers = np.linspace(0, 10, 1000)
    squares = np.random.default_rng(3).normal(size=1000) ** 2
    cells = score_cells("(answer)", answers)
    known = scores_profile(cells, answers, squares, None)
    assert known is not None

    found = gap(
        losses_profile("rmse", squares),
        known,
        cells.places(answers),
        squares * 4,
        np.full(1000, 1 / 1000),
        alpha=1e-3,
    )

    assert found is not None
    assert found.expected == pytest.approx(1.0, abs=0.1)
    assert 0.7 < found.low < 1.0 < found.high < 1.3
