"""The way of one model from a confirmed change to a fresh version, and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from services.drift_monitor.asking import asked, cool_down, objection, refused
from services.drift_monitor.course import About, Course, Phase, Stepped
from services.drift_monitor.domain import Signs
from services.drift_monitor.following import fall_back_over, follow, is_as_good
from services.drift_monitor.trainings import came_to_nothing, cooled, promoted, training_began
from shared.events import RetrainingRequested, RetrainingWithheld
from tests.drift_monitor.building import NOON, PUMP, a_policy, kinds
from tests.drift_monitor.test_domain import a_subject

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
CONFIRMED = Signs(confirmed="drift", doubtful="drift", suspect=True, windows=(1, 2), detail="a")
CALM = Signs(calm=True)
OLD = Course(version=3)


def an_about(**changes: Any) -> About:
    given: dict[str, Any] = {
        "model": PUMP,
        "version": 3,
        "owner": "ada",
        "policy": a_policy(),
        "now": NOON,
        "labels": 500,
        "rows_trained": 1000,
    }
    return About(**given | changes)


def confirmed(**changes: Any) -> Course:
    return replace(follow(OLD, CONFIRMED, a_subject(2, now=NOON)).course, **changes)


def retraining() -> Course:
    return asked(confirmed(), an_about()).course


def reason_of(stepped: Stepped) -> str:
    (said,) = stepped.events
    assert isinstance(said, RetrainingWithheld)
    return said.reason


def test_unusual_windows_make_suspect_and_usual_ones_healthy_again() -> None:
    suspect = follow(OLD, Signs(suspect=True), a_subject()).course
    healthy = follow(suspect, CALM, a_subject(2)).course

    assert (suspect.phase, healthy.phase) == (Phase.SUSPECT, Phase.HEALTHY)
    assert not suspect.wants


def test_a_doubt_is_said_to_be_unconfirmed_once() -> None:
    doubt = Signs(doubtful="drift", suspect=True, detail="a lies elsewhere")

    one = follow(OLD, doubt, a_subject(1))
    two = follow(one.course, doubt, a_subject(2))

    assert reason_of(one) == "not_confirmed"
    assert two.events == ()


def test_a_confirmed_change_is_asked_for_with_its_windows_and_labels() -> None:
    stepped = asked(confirmed(), an_about())

    (said,) = stepped.events
    assert isinstance(said, RetrainingRequested)
    assert (said.reason, said.window, said.windows, said.labels) == ("drift", 2, (1, 2), 500)
    assert stepped.course.phase is Phase.RETRAINING
    assert not stepped.course.wants


def test_a_confirmed_change_is_left_only_when_all_is_calm() -> None:
    unsure = follow(confirmed(), Signs(suspect=True), a_subject(3)).course
    calm = follow(unsure, CALM, a_subject(4)).course

    assert unsure.phase is Phase.CONFIRMED
    assert (calm.phase, calm.confirmed_at) == (Phase.HEALTHY, None)


def test_what_only_follows_a_change_is_not_told_as_the_reason_for_it() -> None:
    begun = confirmed()
    estimated = Signs(confirmed="drift", suspect=True, windows=(1, 2), detail="estimated as fine")
    again = Signs(confirmed="drift", doubtful="drift", suspect=True, windows=(2, 3), detail="b")

    told = follow(begun, estimated, a_subject(3)).course
    newer = follow(told, again, a_subject(3)).course

    assert (begun.detail, told.detail, newer.detail) == ("a", "a", "b")


def test_nothing_speaks_against_a_confirmed_change_with_enough_labels() -> None:
    assert objection(confirmed(), an_about()) is None


def test_each_objection_has_its_reason() -> None:
    found = {
        "trigger_off": objection(confirmed(), an_about(policy=a_policy(by_drift=False))),
        "duplicate": objection(confirmed(training_at=NOON - HOUR), an_about()),
        "cool_down": objection(confirmed(cools_until=NOON + HOUR), an_about()),
        "transient": objection(confirmed(), an_about(annotated="ada calls it transient")),
        "no_labels": objection(confirmed(), an_about(labels=199)),
    }

    assert {name: told[0] for name, told in found.items() if told} == {n: n for n in found}


def test_a_fifth_of_the_training_rows_or_the_least_number_is_enough_labels() -> None:
    few = an_about(labels=200, rows_trained=1000)
    many = an_about(labels=1000, rows_trained=1_000_000)

    assert objection(confirmed(), few) is None
    assert objection(confirmed(), many) is None


def test_who_adapts_to_what_passes_is_not_kept_by_an_annotation() -> None:
    about = an_about(annotated="ada calls it transient", policy=a_policy(transient="adapt"))

    assert objection(confirmed(), about) is None


def test_a_training_that_was_never_heard_of_again_keeps_nobody() -> None:
    assert objection(confirmed(training_at=NOON - DAY), an_about()) is None


def test_the_same_refusal_is_said_once_and_another_one_again() -> None:
    one = refused(confirmed(), an_about(), "no_labels", "few")
    two = refused(one.course, an_about(), "no_labels", "few")
    three = refused(two.course, an_about(), "budget", "none left")

    assert reason_of(one) == "no_labels"
    assert two.events == ()
    assert reason_of(three) == "budget"


def test_who_is_held_by_the_brake_is_confirmed_again_after_it() -> None:
    held = refused(confirmed(), an_about(), "brake", "look upstream").course
    freed = refused(held, an_about(), "budget", "none left").course

    assert (held.phase, freed.phase) == (Phase.HELD, Phase.CONFIRMED)


def test_the_cool_down_doubles_up_to_a_week() -> None:
    spans = [cool_down(DAY, vain) for vain in range(5)]

    assert spans == [DAY, 2 * DAY, 4 * DAY, 7 * DAY, 7 * DAY]
    assert cool_down(30 * DAY, 3) == 30 * DAY
    assert cool_down(timedelta(0), 9) == timedelta(0)


def test_a_retraining_that_came_to_nothing_leads_to_backoff() -> None:
    vain = came_to_nothing(training_began(retraining(), NOON), a_policy())

    assert (vain.phase, vain.vain, vain.training_at) == (Phase.BACKOFF, 1, None)
    assert vain.cools_until == NOON + 2 * DAY
    against = objection(vain, an_about(now=NOON + DAY))
    assert against is not None
    assert against[0] == "cool_down"


def test_somebody_elses_training_that_fails_is_no_reason_to_back_off() -> None:
    course = came_to_nothing(training_began(confirmed(), NOON), a_policy())

    assert (course.phase, course.vain, course.training_at) == (Phase.CONFIRMED, 0, None)


def test_after_its_cool_down_a_model_is_healthy_or_confirmed_as_it_is() -> None:
    backoff = came_to_nothing(retraining(), a_policy())
    later = NOON + 2 * DAY

    assert cooled(backoff, later - HOUR).phase is Phase.BACKOFF
    assert cooled(backoff, later).phase is Phase.CONFIRMED
    assert cooled(replace(backoff, confirmed_at=None), later).phase is Phase.HEALTHY


def test_a_promotion_begins_anew_and_cools_from_the_question_on() -> None:
    vain_before = replace(retraining(), vain=2)

    course = promoted(vain_before, 4, a_policy())

    assert (course.phase, course.version, course.vain) == (Phase.COOLING, 4, 0)
    assert course.cools_until == NOON + DAY
    assert course.confirmed_at is None


def test_a_promotion_nobody_asked_for_needs_no_cool_down() -> None:
    assert promoted(confirmed(), 4, a_policy()).phase is Phase.HEALTHY


def test_windows_of_a_new_champion_know_nothing_of_the_old_ones_change() -> None:
    course = follow(confirmed(), CALM, a_subject(1, version=4)).course

    assert (course.version, course.confirmed_at, course.phase) == (4, None, Phase.HEALTHY)


FALLBACK = a_policy(transient="fallback")
WORSE = replace(CONFIRMED, confirmed="quality", below=(1, 2))


def test_the_rung_below_is_advised_once_it_is_better_in_as_many_windows_as_confirm() -> None:
    one = follow(OLD, replace(WORSE, below=(2,)), a_subject(2, policy=FALLBACK))
    two = follow(OLD, WORSE, a_subject(2, policy=FALLBACK))
    again = follow(two.course, WORSE, a_subject(3, policy=FALLBACK))

    assert one.events == ()
    assert kinds(two.events) == ["FallbackAdvised"]
    assert again.events == ()


def test_only_who_wants_it_falls_back() -> None:
    assert follow(OLD, WORSE, a_subject(2, policy=a_policy())).events == ()


def test_old_windows_are_no_reason_to_fall_back_again() -> None:
    fallen = follow(OLD, WORSE, a_subject(2, policy=FALLBACK)).course
    back = fall_back_over(fallen, PUMP, "as good")

    again = follow(back.course, WORSE, a_subject(3, policy=FALLBACK))
    newly = follow(back.course, replace(WORSE, below=(3, 4)), a_subject(4, policy=FALLBACK))

    assert kinds(back.events) == ["FallbackEnded"]
    assert again.events == ()
    assert kinds(newly.events) == ["FallbackAdvised"]


def test_an_unseen_champion_is_as_good_only_by_enough_rows() -> None:
    assert is_as_good([1.0], [2.0], 2) is None
    assert is_as_good([1.0, 1.0], [2.0, 1.0], 2) is True
    assert is_as_good([3.0, 1.0], [2.0, 1.0], 2) is False
