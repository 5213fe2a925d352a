"""The gate's promises on small simulations; `make bench-gate` has them at full size."""

from __future__ import annotations

import numpy as np
import pytest

from bench import bench_gate
from bench.gate_chains import run_chain
from bench.gate_fleet import accepted_by, judged_fleet
from bench.gate_holdout import cross_validation, reuse, slices
from bench.gate_promises import Tally, Trial
from bench.gate_worlds import SWAPPED, WORLDS, refitted, series_world, tilted
from bench.simulation import Rate, chance
from services.evaluator.metrics import losses_of

SEED = 5
RUNS = 40
# A rate of 0.05 is above this in one of 10,000 such simulations.
MOST = 0.2


def trial(name: str, *, gain: float = 0.0, refresh: bool = False) -> Tally:
    metric, world, rows, margin = WORLDS[name]
    return Trial(
        name=name,
        metric=metric,
        mode="refresh" if refresh else "change",
        world=world(),
        rows=rows,
        gain=gain * margin,
        margin=margin if refresh else 0.0,
    ).run(RUNS, SEED)


@pytest.mark.parametrize("name", WORLDS)
def test_equal_retrains_are_seldom_called_better(name: str) -> None:
    tally = trial(name)

    assert tally.gate / RUNS <= MOST
    assert tally.bigger / RUNS > 0.3


@pytest.mark.parametrize("name", WORLDS)
def test_retrains_worse_by_the_margin_are_seldom_accepted(name: str) -> None:
    assert trial(name, gain=-1, refresh=True).gate / RUNS <= MOST


@pytest.mark.parametrize("name", SWAPPED)
def test_metrics_that_are_no_means_keep_the_promise_too(name: str) -> None:
    metric, world, rows = SWAPPED[name]
    tally = Trial(name=name, metric=metric, mode="change", world=world(), rows=rows).run(RUNS, SEED)

    assert tally.gate / RUNS <= MOST


def test_a_large_gain_is_seen() -> None:
    assert trial("log_loss", gain=2).gate / RUNS > 0.8


def test_the_anchor_keeps_a_hundred_small_losses_from_adding_up() -> None:
    without, beside = (
        [run_chain(policy, "derived", SEED, run, retrains=60).final for run in range(8)]
        for policy in ("no worse than champion", "and than the anchor")
    )

    assert np.mean(beside) > 0
    assert min(beside) > -2
    assert np.mean(without) < np.mean(beside)


def test_a_fleet_claims_little_that_is_false() -> None:
    changed, e_values, p_values = judged_fleet(600, SEED, 0)

    accepted = accepted_by(e_values, p_values, 0.05)

    for rule in ("e-LOND", "e-BH"):
        false = (accepted[rule] & ~changed).sum() / max(accepted[rule].sum(), 1)
        assert false <= 0.1
        assert accepted[rule][changed].mean() > 0.2
    assert (accepted["alpha per model"] & ~changed).sum() > 10


def test_asking_the_same_rows_again_and_again_costs_no_more_error() -> None:
    figures = reuse(60, SEED, ordered=True)

    assert figures["reuse_rows_in_time_gate"] <= MOST
    assert figures["reuse_rows_in_time_paired_t"] > 0.25


def test_harm_in_one_of_many_slices_is_not_accepted() -> None:
    figures = slices(25, SEED, counts=(5,))

    assert figures["slices_5_harmed_accepted"] <= 0.2
    assert figures["slices_5_equal_accepted"] >= 0.8


def test_folds_that_share_rows_are_corrected_for() -> None:
    figures = cross_validation(300, SEED)

    assert figures["folds_corrected"] < 0.1
    assert figures["folds_plain_t"] > 0.1


def test_every_part_of_the_benchmark_has_a_name() -> None:
    assert "cost" in bench_gate.parts(1.0, SEED)


# --- the worlds themselves ----------------------------------------------------------------------


def test_tilted_chances_have_exactly_the_gain_that_was_asked_for() -> None:
    gains = refitted("breast_cancer", chance("a test")).gains("log_loss")

    for wanted in (0.0, -0.02, 0.03):
        chances = tilted(gains, wanted)
        assert chances is not None
        assert chances.sum() == pytest.approx(1)
        assert chances @ gains == pytest.approx(wanted, abs=1e-7)
    assert tilted(np.ones(5), 0.0) is None


def test_a_series_has_the_gain_that_was_asked_for_in_the_long_run() -> None:
    evidence = series_world()(chance("another test"), 40_000, -0.2)

    gains = losses_of(evidence, "champion", "mae") - losses_of(evidence, "candidate", "mae")
    assert gains.mean() == pytest.approx(-0.2, abs=0.03)


def test_a_rate_has_the_interval_of_clopper_and_pearson() -> None:
    low, high = Rate(hits=5, runs=100).interval

    assert (low, high) == pytest.approx((0.01643, 0.11284), abs=1e-4)
    assert Rate(hits=0, runs=10).interval == pytest.approx((0.0, 0.30850), abs=1e-4)
    assert Rate(hits=10, runs=10).interval == pytest.approx((0.69150, 1.0), abs=1e-4)
    assert Rate(hits=70, runs=1000).is_at_most(0.06)
    assert not Rate(hits=80, runs=1000).is_at_most(0.05)
