from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.domain import Known, Reference, Trigger
from services.trainer.triggers import (
    Join,
    Skip,
    Train,
    decide_training,
    immaterial,
    natural_key,
    next_due,
)
from tests.trainer.builders import (
    NOW,
    NUMBERS,
    a_definition,
    a_parsed_spec,
    a_situation,
    a_version,
)

ROME = ZoneInfo("Europe/Rome")
CHAMPION = Reference(what="champion version 3", rows=1000, columns=NUMBERS)


def material(**triggers: object) -> dict[str, object]:
    return {"triggers": {"dataset": "material_change", **triggers}}


@pytest.mark.parametrize(
    ("rows", "minimum", "worth"),
    [
        (1000, 1, False),
        (1049, 1, False),
        (1050, 1, True),
        (1060, 100, False),
        (1100, 100, True),
        (900, 1, True),
        (990, 1, False),
    ],
)
def test_a_change_is_material_from_a_share_of_the_champions_rows(
    rows: int, minimum: int, worth: bool
) -> None:
    spec = a_parsed_spec(**material(minimum_rows=minimum))

    assert (immaterial(a_version(2, rows=rows), CHAMPION, spec) == "") is worth


def test_the_first_version_is_material() -> None:
    assert immaterial(a_version(rows=3), None, a_parsed_spec(**material())) == ""


@pytest.mark.parametrize("columns", [{**NUMBERS, "c": "text"}, {**NUMBERS, "a": "text"}])
def test_a_change_of_columns_is_material(columns: dict[str, str]) -> None:
    version = a_version(2, rows=1000, columns=columns)

    assert immaterial(version, CHAMPION, a_parsed_spec(**material())) == ""


def test_any_trains_on_every_version() -> None:
    spec = a_parsed_spec(triggers={"dataset": "any"})

    assert immaterial(a_version(2, rows=1000), CHAMPION, spec) == ""


@given(rows=st.integers(0, 10**7), champion=st.integers(1, 10**7), minimum=st.integers(1, 10**6))
def test_whatever_is_immaterial_is_less_than_both_limits(
    rows: int, champion: int, minimum: int
) -> None:
    spec = a_parsed_spec(**material(minimum_rows=minimum))
    reference = Reference(what="champion version 1", rows=champion, columns=NUMBERS)

    still = immaterial(a_version(2, rows=rows), reference, spec)

    changed = abs(rows - champion)
    assert bool(still) == (changed < minimum or changed < 0.05 * champion)


@pytest.mark.parametrize(
    ("trigger", "off"),
    [
        ("dataset", {"dataset": "off"}),
        ("code", {"code": False}),
        ("drift", {"drift": False}),
        ("quality", {"quality": False}),
    ],
)
def test_a_trigger_that_is_off_is_skipped(trigger: Trigger, off: dict[str, object]) -> None:
    decision = decide_training(a_definition(triggers=off), a_version(), trigger, a_situation(), NOW)

    assert isinstance(decision, Skip)
    assert decision.reason == "trigger_off"


@pytest.mark.parametrize("trigger", ["dataset", "code", "time", "drift", "quality", "manual"])
def test_every_trigger_starts_a_training_of_something_new(trigger: Trigger) -> None:
    decision = decide_training(a_definition(), a_version(), trigger, a_situation(), NOW)

    assert decision == Train(run_after=NOW)


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_what_is_on_its_way_is_joined(state: str) -> None:
    known = Known(run=uuid4(), state=state)  # type: ignore[arg-type] # parametrized

    decision = decide_training(a_definition(), a_version(), "time", a_situation(known=known), NOW)

    assert decision == Join(run=known.run)


def test_what_was_done_is_not_done_again() -> None:
    known = Known(run=uuid4(), state="done")

    decision = decide_training(a_definition(), a_version(), "drift", a_situation(known=known), NOW)

    assert isinstance(decision, Skip)
    assert decision.reason == "nothing_new"
    assert str(known.run) in decision.detail


def test_what_failed_is_only_tried_again_by_hand() -> None:
    situation = a_situation(known=Known(run=uuid4(), state="failed"))

    by_clock = decide_training(a_definition(), a_version(), "time", situation, NOW)
    by_hand = decide_training(a_definition(), a_version(), "manual", situation, NOW)

    assert isinstance(by_clock, Skip)
    assert by_hand == Train(run_after=NOW, retry=True)


def test_a_superseded_run_is_queued_anew() -> None:
    situation = a_situation(known=Known(run=uuid4(), state="superseded"))

    decision = decide_training(a_definition(), a_version(), "code", situation, NOW)

    assert isinstance(decision, Train)


def test_a_missing_column_is_named() -> None:
    definition = a_definition(data={"features": ["a", "humidity"], "target": "load"})

    decision = decide_training(definition, a_version(), "dataset", a_situation(), NOW)

    assert isinstance(decision, Skip)
    assert decision.reason == "cannot_train"
    assert "'load' (target)" in decision.detail
    assert "'humidity' (feature)" in decision.detail


def test_a_training_waits_for_the_end_of_the_cool_down() -> None:
    definition = a_definition(triggers={"dataset": "any", "cooldown": "10m"})
    situation = a_situation(last_started_at=NOW - timedelta(minutes=4))

    waiting = decide_training(definition, a_version(), "dataset", situation, NOW)
    by_hand = decide_training(definition, a_version(), "manual", situation, NOW)

    assert waiting == Train(run_after=NOW + timedelta(minutes=6))
    assert by_hand == Train(run_after=NOW)


def test_a_key_changes_with_data_specification_and_code() -> None:
    one = natural_key(a_definition(), a_version(1))

    assert natural_key(a_definition(), a_version(1)) == one
    assert natural_key(a_definition(), a_version(2)) != one
    assert natural_key(a_definition(train={"seed": 8}), a_version(1)) != one
    assert natural_key(a_definition(serving={"bounds": [0, 9]}), a_version(1)) != one


def test_a_changed_rollout_or_gate_is_nothing_new_to_train() -> None:
    changed = a_definition(
        rollout={"strategy": "direct"},
        gates=[{"metric": "mae", "vs": "baseline"}],
        monitor={"window": 99},
    )

    assert natural_key(changed, a_version(1)) == natural_key(a_definition(), a_version(1))


# --- schedules --------------------------------------------------------------------------------


def due(schedule: str, after: str, zone: str = "Europe/Rome") -> str:
    moment = next_due(schedule, zone, datetime.fromisoformat(after))
    return moment.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("30 2 * * *", "2026-03-27T12:00+01:00", "2026-03-28T02:30+01:00"),
        # 29 March: the clock skips from 02:00 to 03:00.
        ("30 2 * * *", "2026-03-28T02:30+01:00", "2026-03-29T03:30+02:00"),
        ("30 2 * * *", "2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"),
        ("0 * * * *", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
        ("*/30 * * * *", "2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00"),
        # 25 October: the hour from 02:00 to 03:00 comes twice.
        ("30 2 * * *", "2026-10-24T02:30+02:00", "2026-10-25T02:30+02:00"),
        ("30 2 * * *", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"),
        ("0 * * * *", "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"),
        ("0 * * * *", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"),
        ("*/30 * * * *", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00"),
        ("0 6 * * mon", "2026-03-02T06:00+01:00", "2026-03-09T06:00+01:00"),
        ("0 0 29 2 *", "2026-03-02T06:00+01:00", "2028-02-29T00:00+01:00"),
    ],
)
def test_a_schedule_follows_the_wall_through_both_changes(
    schedule: str, after: str, expected: str
) -> None:
    assert due(schedule, after) == expected


@given(
    after=st.integers(0, 2_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    schedule=st.sampled_from(["30 2 * * *", "*/20 * * * *", "15 3 1 * *", "0 */6 * * *"]),
)
def test_a_schedule_always_moves_on(after: datetime, schedule: str) -> None:
    first = next_due(schedule, "Europe/Rome", after)

    assert first > after
    assert next_due(schedule, "Europe/Rome", first) > first


def test_a_daily_schedule_is_due_once_a_day_all_year() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    days: list[date] = []
    while len(days) < 365:
        moment = next_due("30 2 * * *", "Europe/Rome", moment)
        days.append(moment.astimezone(ROME).date())

    assert len(set(days)) == 365
    assert (days[-1] - days[0]).days == 364


@pytest.mark.parametrize(
    "schedule", ["", "daily", "99 * * * *", "* * * * * *", "* * *", "0 0 31 2 *"]
)
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"schedule|never"):
        next_due(schedule, "UTC", NOW)
