"""The canary's promises on small simulations; `make bench-canary` has them at full size."""

from __future__ import annotations

import numpy as np
import pytest

from bench.bench_canary import LIMITS, Case, Found, run
from bench.canary_rules import is_below_success, is_high_by_ranks, z_scores
from bench.canary_runs import life
from bench.canary_shadow import brier_pairs, follow, follow_singles, refits
from bench.canary_traffic import Make, Traffic, batches, changing, clustered, heavy, steady
from bench.simulation import chance

SEED = 5
RUNS = 60
# A rate of 0.05 is above this in one of 10,000 such simulations.
MOST = 0.17


def found(make: Make, requests: int, *, decides: bool = True, runs: int = RUNS) -> Found:
    case = Case(name="a test", make=make, requests=requests, decides=decides)
    return run(case, runs, SEED)


@pytest.mark.parametrize(
    "make",
    [
        steady(share=0.1, champion=0.02, canary=0.02, slow=0.05),
        steady(share=0.5, champion=0.05, canary=0.05),
        changing(),
        heavy(share=0.1, rate=0.02),
    ],
    ids=["both guards", "half of the requests", "a changing share", "a heavy entity"],
)
def test_a_healthy_canary_is_seldom_aborted_however_often_it_is_looked_at(make: Make) -> None:
    seen = found(make, 6_000, decides=False)

    assert seen.rate("abort").share <= MOST


def test_a_peeked_z_test_aborts_many_healthy_ones_on_the_same_requests() -> None:
    seen = found(steady(share=0.1, champion=0.02, canary=0.02), 6_000, decides=False)

    assert seen.by("z peeked").share > 0.2
    assert seen.rate("abort").share < seen.by("z peeked").share


def test_a_canary_at_the_border_of_the_tolerance_is_seldom_promoted() -> None:
    seen = found(steady(share=0.1, champion=0.02, canary=0.03), 30_000)

    assert seen.rate("promote").share <= MOST


def test_harm_is_seen_early_and_health_soon() -> None:
    harmed = found(steady(share=0.1, champion=0.02, canary=0.06), 20_000)
    equal = found(steady(share=0.1, champion=0.02, canary=0.02), 100_000, runs=20)

    assert harmed.rate("abort").share > 0.9
    assert (harmed.requests_to("abort") or 0) < 600
    assert equal.rate("promote").share > 0.8


def test_a_shadow_as_good_as_the_champion_is_shown_so_and_one_at_the_margin_seldom() -> None:
    equal = [follow(*refits(chance(SEED, "equal", n), 1_500, 0.0), ("harmless",)) for n in range(8)]
    worse = [
        follow(*brier_pairs(chance(SEED, "worse", n), 1_000, -0.01), ("harmless",))
        for n in range(40)
    ]

    assert all(one.harmless is not None and one.harmless < 1_000 for one in equal)
    assert sum(one.harmless is not None for one in worse) <= 7


def test_single_answers_seldom_call_an_equal_challenger_worse() -> None:
    shown = [follow_singles(chance(SEED, "single", n), 500, 0.5, 0.0) for n in range(40)]

    assert sum(worse is not None for _, worse in shown) <= 7


# --- the traffic and the rules beside ------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [steady(share=0.3, champion=0.1, canary=0.2), changing()], ids=["steady", "changing"]
)
def test_batches_hold_every_request_up_to_the_last_and_both_arms(make: Make) -> None:
    traffic = make(chance(SEED, "batches"), 3_000)

    cut = list(batches(traffic))

    assert all(all(batch.requests) for batch in cut)
    requests = sum(sum(batch.requests) for batch in cut)
    assert 2_900 < requests <= 3_000
    for arm in (0, 1):
        side = traffic.canary[:requests] == (arm == 0)
        assert sum(batch.errors[arm] for batch in cut) == (traffic.error[:requests] & side).sum()
        assert sum(batch.requests[arm] for batch in cut) == side.sum()


def test_quiet_batches_are_joined() -> None:
    arm = np.tile([False, False, True], 30)
    error = np.zeros(90, dtype=np.bool_)
    error[44] = True

    cut = list(batches(Traffic(canary=arm, error=error, slow=np.zeros_like(error))))

    assert [batch.requests for batch in cut] == [(14, 28), (1, 2), (15, 30)]
    assert [batch.errors for batch in cut] == [(0, 0), (1, 0), (0, 0)]


def test_requests_of_one_entity_share_arm_and_fate() -> None:
    traffic = clustered(share=0.5, rate=0.5)(chance(SEED, "clusters"), 20_000)

    changes = (traffic.error[1:] != traffic.error[:-1]).mean()
    assert changes == pytest.approx(0.5 / 5, abs=0.02)


def test_the_rules_beside_are_what_they_are_called() -> None:
    bad = steady(share=0.2, champion=0.02, canary=0.3)(chance(SEED, "bad"), 20_000)
    good = steady(share=0.2, champion=0.02, canary=0.0)(chance(SEED, "good"), 20_000)

    assert z_scores(bad)[-1] > 10 > 0 > z_scores(good)[-1]
    assert is_below_success(bad, 100)
    assert not is_below_success(good, 100)
    assert is_high_by_ranks(bad, 20)
    assert not is_high_by_ranks(good, 20)
    assert life(bad, LIMITS).outcome == "abort"
