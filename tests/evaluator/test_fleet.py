"""Evidence that may be compared under any dependence, and the claims made with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.fleet import (
    FleetState,
    after,
    betting_e_value,
    bh,
    calibrated_e_value,
    claim,
    e_bh,
    spending_share,
    spending_total,
    threshold,
)
from tests.evaluator.evident import a_generator

STREAM = "ada/pumps"


def test_bets_win_nothing_on_average_where_nothing_is_to_be_found(seed: int) -> None:
    values = [
        betting_e_value(a_generator(seed, run).choice([-1.0, 1.0], 200), 0.0, 1.0, run)
        for run in range(1500)
    ]

    assert np.mean(values) < 1.5
    assert np.mean(np.array(values) >= 20) <= 0.05


def test_at_exactly_the_margin_there_is_nothing_to_be_found_either(seed: int) -> None:
    values = [
        betting_e_value(a_generator(seed, run).uniform(-0.6, 0.4, 200), 0.1, 1.0, run)
        for run in range(1500)
    ]

    assert np.mean(values) < 1.5


def test_bets_grow_with_rows_where_the_candidate_is_better(seed: int) -> None:
    d = a_generator(seed).normal(0.2, 0.5, 4000).clip(-1, 1)

    few, many = (betting_e_value(d[:rows], 0.0, 1.0, seed) for rows in (300, 4000))

    assert 1 < few < many
    assert many > 1e20


def test_without_a_known_scale_one_is_taken_from_rows_that_are_not_bet_on(seed: int) -> None:
    d = a_generator(seed).normal(20, 100, 4000)

    found = betting_e_value(d, 0.0, None, seed)

    assert found > 1e6
    assert found == pytest.approx(betting_e_value(d / 1000, 0.0, None, seed), rel=1e-6)


@pytest.mark.parametrize("rows", [0, 5, 20])
def test_rows_that_say_nothing_are_no_evidence(rows: int) -> None:
    assert betting_e_value(np.zeros(rows), 0.0, None, 1) == 1.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.floats(0, 3))
def test_wealth_is_a_number_and_never_negative(values: list[float], margin: float) -> None:
    found = betting_e_value(np.array(values), margin, 1.0, 3)

    assert math.isfinite(found)
    assert found >= 0


def test_a_calibrated_tail_is_an_e_value() -> None:
    """Its mean over uniform p is 1: the integral over p, in steps that are even in ln p."""
    logs = np.linspace(math.log(1e-300), math.log(1 - 1e-9), 60_001)
    p = np.exp(logs)

    heights = np.array([calibrated_e_value(value) for value in p])
    area = np.trapezoid(heights * p, logs)

    assert 0.99 < area <= 1
    assert calibrated_e_value(1e-12) > 1e8
    assert calibrated_e_value(0.0) == calibrated_e_value(1e-300)
    assert calibrated_e_value(1.0) == pytest.approx(0.5, abs=0.01)


def test_shares_of_alpha_add_up_to_one_and_no_more() -> None:
    """The rest beyond N is at most the integral from N + 1/2 on: 1 / ln(N + 3/2) of the total."""
    shares = [spending_share(t) for t in range(1, 20_001)]

    rest = 1 / math.log(20_001.5) / spending_total()

    assert sum(shares) < 1
    assert sum(shares) + rest == pytest.approx(1, abs=1e-9)
    assert shares == sorted(shares, reverse=True)


def test_a_claim_is_accepted_at_its_threshold_and_makes_the_next_easier() -> None:
    state = FleetState()
    needed = threshold(state, 0.05)

    short = claim(needed * 0.999, state, 0.05, stream=STREAM)
    made = claim(needed, state, 0.05, stream=STREAM)

    assert needed == pytest.approx(2 * math.log(2) ** 2 * spending_total() / 0.05)
    assert (short.passed, made.passed) == (False, True)
    assert (made.claim, made.accepted_before, made.stream) == (1, 0, STREAM)
    assert after(state, made) == FleetState(claims=1, accepted=1)
    assert after(state, short) == FleetState(claims=1, accepted=0)
    assert threshold(after(state, made), 0.05) < threshold(after(state, short), 0.05)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_evidence_that_is_no_number_claims_nothing(value: float) -> None:
    assert not claim(value, FleetState(), 0.05, stream=STREAM).passed


def test_few_of_many_claims_are_false_though_sensors_share_weather(seed: int) -> None:
    false_shares, all_accepted = [], 0
    for run in range(60):
        draw = a_generator(seed, run)
        changed = draw.random(300) < 0.1
        z = draw.normal() * 0.7 + draw.normal(size=300) * 0.7 + 6 * changed
        state, false, accepted = FleetState(), 0, 0
        for is_changed, height in zip(changed, z, strict=True):
            made = claim(
                calibrated_e_value(math.erfc(height / math.sqrt(2)) / 2), state, 0.05, stream="s"
            )
            false += made.passed and not is_changed
            accepted += made.passed
            state = after(state, made)
        false_shares.append(false / max(accepted, 1))
        all_accepted += accepted

    assert np.mean(false_shares) <= 0.05
    assert all_accepted > 60


def test_a_round_is_accepted_together() -> None:
    values = [100.0, 45.0, 1.0, 39.9]

    assert e_bh(values, 0.05) == (0, 1, 3)
    assert e_bh([100.0, 39.9, 1.0, 1.0], 0.05) == (0,)
    assert e_bh([79.0, 1.0, 1.0, 1.0], 0.05) == ()
    assert e_bh([], 0.05) == ()


def test_the_step_up_of_p_values_finds_the_largest_that_fits() -> None:
    assert bh([0.01, 0.04, 0.03, 0.9], 0.05) == (0,)
    assert bh([0.01, 0.02, 0.03, 0.9], 0.05) == (0, 1, 2)
    assert bh([0.5], 0.05) == ()
