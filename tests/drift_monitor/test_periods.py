"""Which periods the monitor proposes to leave out."""

from __future__ import annotations

from datetime import timedelta

from services.drift_monitor.domain import Spell
from services.drift_monitor.periods import has_outlasted, has_passed, is_known, proposal
from tests.drift_monitor.building import NOON, a_policy
from tests.drift_monitor.test_course import an_about, confirmed

DAY = timedelta(days=1)
TIMED = an_about(policy=a_policy(dataset="flow", time="at"))


def a_spell(days: float = 2.0, *, is_of_the_data: bool = False) -> Spell:
    return Spell(
        windows=(4, 5, 6),
        began_at=NOON,
        ended_at=NOON + days * DAY,
        is_of_the_data=is_of_the_data,
    )


def test_what_ended_by_itself_was_transient_or_corrupt() -> None:
    assert has_passed(TIMED, a_spell()) == "transient"
    assert has_passed(TIMED, a_spell(is_of_the_data=True)) == "corrupt"


def test_what_lasted_longer_than_the_horizon_was_no_transient() -> None:
    assert has_passed(TIMED, a_spell(days=8)) is None


def test_a_change_that_outlasts_the_horizon_is_the_new_normal_and_said_so_once() -> None:
    course = confirmed(confirmed_at=NOON - 8 * DAY)

    assert has_outlasted(course, TIMED)
    assert not has_outlasted(confirmed(confirmed_at=NOON - 6 * DAY), TIMED)
    assert not has_outlasted(confirmed(confirmed_at=NOON - 8 * DAY, regime=True), TIMED)


def test_a_proposal_names_the_period_its_windows_and_its_evidence() -> None:
    said = proposal(TIMED, a_spell(), "transient", ())

    assert said is not None
    assert (said.dataset, said.starts_at, said.ends_at) == ("flow", NOON, NOON + 2 * DAY)
    assert said.windows == (4, 5, 6)
    assert "3 windows showed it over 2.0 days" in said.detail


def test_a_dataset_without_moments_gets_no_proposal() -> None:
    untimed = an_about(policy=a_policy(dataset="flow"))

    assert proposal(untimed, a_spell(), "transient", ()) is None


def test_what_was_mostly_told_before_is_not_told_again() -> None:
    before = [(NOON + DAY, NOON + 3 * DAY)]

    assert is_known(NOON, NOON + 2 * DAY, before)
    assert not is_known(NOON - 3 * DAY, NOON + 2 * DAY, before)
