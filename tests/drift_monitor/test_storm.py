"""A small fleet through a heatwave, decided by the monitor's own functions."""

from __future__ import annotations

from functools import cache

import pytest

from bench.storm import WITHOUT_BRAKE, EveryAlarm, Ours, Outcome, Scale, World, play

SCALE = Scale(models=120, days=40, changes=36, heat_from_day=15.0)
CALIBRATED = 0.001


@cache
def drawn(seed: int) -> World:
    return World.drawn(SCALE, seed)


@cache
def played(seed: int) -> Outcome:
    return play(drawn(seed), Ours(SCALE), CALIBRATED)


@pytest.fixture
def world(seed: int) -> World:
    return drawn(seed)


@pytest.fixture
def ours(seed: int) -> Outcome:
    return played(seed)


def test_every_lasting_change_is_learned_by_hardly_more_retrainings_than_changes(
    ours: Outcome,
) -> None:
    assert ours.learned == ours.changes == SCALE.changes
    assert ours.per_change <= 1.1


def test_a_heatwave_of_two_fifths_of_the_fleet_pages_once(ours: Outcome) -> None:
    assert ours.pages == 1


def test_in_no_hour_more_is_asked_for_than_the_budget_has(world: World, ours: Outcome) -> None:
    storm = play(world, Ours(SCALE, WITHOUT_BRAKE), CALIBRATED)

    assert ours.peak_per_hour <= storm.peak_per_hour == 20


def test_without_the_brake_the_heatwave_is_learned_and_unlearned(
    world: World, ours: Outcome
) -> None:
    storm = play(world, Ours(SCALE, WITHOUT_BRAKE), CALIBRATED)

    hit = int(world.hot.sum())
    assert storm.useless >= hit
    assert ours.useless <= hit // 10


def test_the_brake_has_a_price_and_who_adapts_does_not_pay_it(world: World, ours: Outcome) -> None:
    adapting = play(world, Ours(SCALE, transient="adapt"), CALIBRATED)

    heat = int(world.hot.sum()) * SCALE.heat_days * 24
    assert 0.8 * heat <= ours.wrong_hours <= 1.5 * heat
    assert adapting.wrong_hours < heat / 4


def test_whoever_retrains_on_every_alarm_retrains_ten_times_too_often(world: World) -> None:
    assert play(world, EveryAlarm(), CALIBRATED).per_change > 5
