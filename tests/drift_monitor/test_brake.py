"""What all models together say against a retraining."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from services.drift_monitor.brake import (
    FLEET,
    HOUR,
    USUAL,
    Brake,
    Crowd,
    Fleet,
    Limits,
    Permitted,
    common_cause,
    has_token,
    permit,
    release,
)
from services.drift_monitor.course import Course, Phase
from shared.events import BrakeLifted, BrakeSet, ModelName, RetrainingWithheld
from tests.drift_monitor.building import NOON, a_policy, kinds
from tests.drift_monitor.test_course import an_about, confirmed

SOURCE = "dataset/flow"
SETTLED = replace(USUAL, settle=timedelta(0))


def crowd(scope: str, watched: int, recent: int, **changes: Any) -> Crowd:
    names = tuple(ModelName(f"m-{n}") for n in range(recent))
    return Crowd(scope=scope, watched=watched, confirmed=recent, recent=names, **changes)


def a_fleet(watched: int = 100, recent: int = 1, **changes: Any) -> Fleet:
    given: dict[str, Any] = {
        "all_models": crowd(FLEET, watched, recent),
        "source": crowd(SOURCE, 1, min(recent, 1)),
    }
    return Fleet(**given | changes)


def answered(fleet: Fleet, limits: Limits = SETTLED, **about: Any) -> Permitted:
    return permit(confirmed(), an_about(**about), fleet, limits)


def test_a_lone_change_is_granted_a_token() -> None:
    answer = answered(a_fleet())

    assert answer.is_granted
    assert kinds(answer.events) == ["RetrainingRequested"]


def test_more_than_a_tenth_of_the_fleet_at_once_sets_the_brake_once() -> None:
    first = answered(a_fleet(recent=11))
    assert first.brake is not None

    second = answered(a_fleet(recent=12, brakes=[first.brake]))

    assert kinds(first.events) == ["BrakeSet", "RetrainingWithheld"]
    assert kinds(second.events) == ["RetrainingWithheld"]
    assert first.course.phase is second.course.phase is Phase.HELD


def test_a_tenth_is_not_more_than_a_tenth() -> None:
    assert answered(a_fleet(recent=10)).is_granted


def test_models_that_share_a_source_have_a_brake_of_their_own() -> None:
    answer = answered(a_fleet(recent=7, source=crowd(SOURCE, 20, 7)))

    said = answer.events[0]
    assert isinstance(said, BrakeSet)
    assert (said.scope, said.confirmed, said.watched) == (SOURCE, 7, 20)


def test_the_brake_of_the_fleet_takes_the_place_of_those_of_its_sources() -> None:
    of_another = Brake(scope="dataset/rain", set_at=NOON, until=NOON + 7 * 24 * HOUR)

    answer = answered(a_fleet(recent=40, brakes=[of_another]))

    assert kinds(answer.events) == ["BrakeSet", "BrakeLifted", "RetrainingWithheld"]
    assert answer.absorbed == (of_another,)


def test_a_few_models_are_no_crowd_whatever_their_share() -> None:
    assert common_cause(a_fleet(watched=4, recent=4), USUAL) is None
    assert common_cause(a_fleet(watched=19, recent=10), USUAL) is None


def test_a_change_waits_for_others_to_show_themselves() -> None:
    answer = answered(a_fleet(), USUAL)

    assert not answer.events
    assert answer.look_again_at == NOON + USUAL.settle


def test_nobody_waits_in_a_house_with_few_models() -> None:
    assert answered(a_fleet(watched=3), USUAL).is_granted


def test_who_adapts_is_not_held_by_the_brake() -> None:
    brake = Brake(scope=FLEET, set_at=NOON, until=NOON + HOUR)

    answer = answered(a_fleet(brakes=[brake]), policy=a_policy(transient="adapt"))

    assert answer.is_granted


def test_without_a_token_the_question_is_asked_again_when_one_is_back() -> None:
    taken = [("ada", NOON - timedelta(minutes=n)) for n in range(USUAL.budget)]

    answer = answered(a_fleet(taken=taken))

    (said,) = answer.events
    assert isinstance(said, RetrainingWithheld)
    assert said.reason == "budget"
    assert answer.look_again_at == NOON + HOUR - timedelta(minutes=USUAL.budget - 1)


def test_in_no_hour_more_tokens_are_taken_than_there_are(seed: int) -> None:
    limits = replace(SETTLED, budget=3)
    taken: list[tuple[str, Any]] = []
    for minute in range(0, 600, 1 + seed % 7):
        now = NOON + timedelta(minutes=minute)
        if has_token("ada", a_fleet(taken=taken), limits, now):
            taken.append(("ada", now))

    moments = [at for _, at in taken]
    assert all(sum(at <= one < at + HOUR for one in moments) <= 3 for at in moments)
    assert len(moments) >= 30


def test_the_last_token_is_kept_for_an_owner_who_has_taken_less() -> None:
    taken = [("ada", NOON)] * (USUAL.budget - 1)

    fleet = a_fleet(taken=taken, waiting={"ada": 5, "bob": 1})

    assert not has_token("ada", fleet, USUAL, NOON)
    assert has_token("bob", fleet, USUAL, NOON)


def test_who_waits_alone_may_take_every_token() -> None:
    taken = [("ada", NOON)] * (USUAL.budget - 1)

    assert has_token("ada", a_fleet(taken=taken, waiting={"ada": 5}), USUAL, NOON)


def released(brake: Brake, confirmed_now: int, hours: int) -> BrakeLifted | None:
    now = brake.set_at + hours * HOUR
    return release(brake, Crowd(scope=FLEET, watched=100, confirmed=confirmed_now), USUAL, now)


def test_a_brake_ends_when_most_are_well_or_when_it_outlasts_the_horizon() -> None:
    brake = Brake(scope=FLEET, set_at=NOON, until=NOON + 168 * HOUR)

    assert released(brake, 40, 100) is None
    over, regime = released(brake, 5, 100), released(brake, 40, 168)

    assert over is not None
    assert over.reason == "over"
    assert regime is not None
    assert regime.reason == "new_regime"


def test_a_course_that_nothing_confirmed_is_granted_without_waiting() -> None:
    # The look after a lifted brake may find the change just gone; then nothing is asked for.
    assert not Course(version=3).wants
