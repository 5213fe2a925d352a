from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.calendar_rules import (
    AfterDataset,
    Moment,
    MonthStart,
    Period,
    opening,
    read_earliest,
    read_freeze,
)
from shared.spec import Rollout
from shared.windows import next_opening, read_window
from tests.support.wall_clock import MINUTE, ZONES, WallClock, at, moves_of

ACCEPTED = datetime(2026, 3, 4, 12, tzinfo=UTC)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- freezes --------------------------------------------------------------------------------------


def test_a_freeze_lasts_from_the_first_day_to_the_end_of_the_last() -> None:
    freeze = read_freeze("2026-12-20..2027-01-06 Europe/Berlin")

    assert freeze.starts_at == moment("2026-12-20T00:00:00+01:00")
    assert freeze.ends_at == moment("2027-01-07T00:00:00+01:00")


def test_a_freeze_of_one_day_may_have_twenty_three_hours() -> None:
    freeze = read_freeze("2026-03-29..2026-03-29 Europe/Berlin")

    assert freeze.ends_at - freeze.starts_at == timedelta(hours=23)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), zone=st.sampled_from(ZONES), year=st.integers(1995, 2037))
def test_a_freeze_covers_every_minute_of_its_days_in_every_zone(
    data: st.DataObject, zone: str, year: int
) -> None:
    moves = moves_of(zone, year)
    about = data.draw(st.sampled_from(list(moves))) if moves else date(year, 6, 15)
    first = about + timedelta(days=data.draw(st.integers(-1, 1)))
    last = first + timedelta(days=data.draw(st.integers(0, 1)))
    clock = WallClock(zone, about, 5)

    freeze = read_freeze(f"{first}..{last} {zone}")

    frozen = [
        minute
        for minute, shown in zip(clock.minutes, clock.shown, strict=True)
        if first <= shown.date() <= last
    ]
    assert all(freeze.starts_at <= minute < freeze.ends_at for minute in frozen)
    covered = [minute for minute in clock.minutes if freeze.starts_at <= minute < freeze.ends_at]
    assert len(covered) - len(frozen) <= 60, "at most the hour that comes twice"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-12-20 Europe/Berlin",
        "2026-12-20..2027-01-06",
        "2027-01-06..2026-12-20 Europe/Berlin",
        "2026-02-30..2026-03-01 Europe/Berlin",
        "2026-12-20..2027-01-06 Europe/Atlantis",
        "2026-12-20..2027-01-06 ../../etc/passwd",
        "2026-01-01..2028-01-01 UTC",
        "9999-12-30..9999-12-31 UTC",
        "0001-01-01..0001-01-02 UTC",
    ],
)
def test_what_is_no_freeze_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_freeze(text)
    with pytest.raises(ValidationError):
        Rollout(freeze=text)


# --- not before -----------------------------------------------------------------------------------


def test_not_before_is_a_moment_the_start_of_a_month_or_a_dataset() -> None:
    assert read_earliest("2027-01-01T00:00:00+01:00") == Moment(at=moment("2026-12-31T23:00Z"))
    assert read_earliest("2027-01-01T00:00Z") == Moment(at=moment("2027-01-01T00:00Z"))
    assert read_earliest("month_start Europe/Berlin") == MonthStart(zone=ZoneInfo("Europe/Berlin"))
    assert read_earliest("dataset billing/closed") == AfterDataset(dataset="billing/closed")
    assert Rollout(not_before=" dataset   billing/closed ").not_before == "dataset billing/closed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2027-01-01T00:00:00",
        "2027-13-01T00:00:00Z",
        "month_start",
        "month_start Europe/Atlantis",
        "dataset",
        "dataset ../../etc",
        "dataset a/b/c/d/e",
        "9999-12-31T23:59:59Z",
    ],
)
def test_what_is_no_earliest_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_earliest(text)
    with pytest.raises(ValidationError):
        Rollout(not_before=text)


@pytest.mark.parametrize(
    ("accepted", "begins"),
    [
        ("2026-03-04T12:00:00+01:00", "2026-04-01T00:00:00+02:00"),
        ("2026-12-31T23:30:00+01:00", "2027-01-01T00:00:00+01:00"),
        ("2026-12-31T23:30:00Z", "2027-02-01T00:00:00+01:00"),  # January has begun in Berlin
        ("2026-04-01T00:00:00+02:00", "2026-05-01T00:00:00+02:00"),
    ],
)
def test_a_month_begins_where_the_zone_says(accepted: str, begins: str) -> None:
    found = MonthStart(zone=ZoneInfo("Europe/Berlin")).after(moment(accepted))

    assert found == moment(begins)


@settings(max_examples=40, deadline=None)
@given(zone=st.sampled_from(ZONES), year=st.integers(1995, 2036), month=st.integers(1, 12))
def test_a_month_begins_with_the_first_minute_that_shows_it(
    zone: str, year: int, month: int
) -> None:
    accepted = datetime(year, month, 14, tzinfo=UTC)
    following = date(year + month // 12, month % 12 + 1, 1)
    clock = WallClock(zone, following, 2)

    found = MonthStart(zone=ZoneInfo(zone)).after(accepted)

    assert found == clock.begins(at(following, 0))


# --- all together ---------------------------------------------------------------------------------


def waits(
    earliest: str | None = None,
    *,
    windows: tuple[str, ...] = (),
    freezes: tuple[str, ...] = (),
    published: dict[str, datetime] | None = None,
    now: datetime = ACCEPTED,
) -> tuple[datetime | None, str]:
    found = opening(
        [read_window(text) for text in windows],
        [read_freeze(text) for text in freezes],
        read_earliest(earliest) if earliest else None,
        published or {},
        ACCEPTED,
        now,
    )
    return found.opens_at, found.reason


def test_without_rules_changes_are_allowed_now() -> None:
    assert waits() == (ACCEPTED, "")


def test_a_dataset_of_before_does_not_count_and_one_of_after_does() -> None:
    rule = "dataset billing/closed"
    later = ACCEPTED + timedelta(hours=3)

    nothing, why = waits(rule)
    assert nothing is None
    assert "billing/closed" in why
    assert waits(rule, published={"billing/closed": ACCEPTED})[0] is None
    assert waits(rule, published={"billing/closed": later}, now=later)[0] == later


def test_after_the_dataset_has_come_the_window_is_waited_for() -> None:
    published = {"billing/closed": ACCEPTED + timedelta(hours=1)}

    found, why = waits(
        "dataset billing/closed",
        windows=("0 8 * * 1-5 for 2h UTC",),
        published=published,
        now=ACCEPTED + timedelta(hours=2),
    )

    assert found == moment("2026-03-05T08:00Z")
    assert why == "outside the windows for changes"


def test_of_several_windows_the_first_that_opens_counts() -> None:
    found, _ = waits(windows=("Sat 10:00-12:00 UTC", "0 18 * * * for 1h UTC"))

    assert found == moment("2026-03-04T18:00Z")


def test_a_window_within_a_freeze_does_not_open() -> None:
    found, why = waits(windows=("Wed 14:00-15:00 UTC",), freezes=("2026-03-04..2026-03-10 UTC",))

    assert found == moment("2026-03-11T14:00Z")
    assert "freezes changes" in why


def test_freezes_that_follow_each_other_are_waited_out() -> None:
    found, _ = waits(
        freezes=("2026-03-11..2026-03-20 UTC", "2026-03-04..2026-03-10 UTC"),
        windows=("Mon-Fri 08:00-16:00 UTC",),
    )

    assert found == moment("2026-03-23T08:00Z")


PERIODS = st.lists(st.tuples(st.integers(-3000, 6000), st.integers(1, 3000)), max_size=4)


@settings(max_examples=40, deadline=None)
@given(
    periods=PERIODS,
    windows=st.lists(
        st.sampled_from(
            ["Mon-Thu 08:00-16:00 Europe/Berlin", "30 2 * * 6 for 3h UTC", "0 23 * * * for 2h UTC"]
        ),
        max_size=2,
    ),
    not_before=st.integers(-500, 4000) | st.none(),
    offset=st.integers(0, 3000),
)
def test_the_opening_is_the_first_minute_that_no_rule_forbids(
    periods: list[tuple[int, int]], windows: list[str], not_before: int | None, offset: int
) -> None:
    now = ACCEPTED + offset * MINUTE
    frozen = [
        Period(
            starts_at=ACCEPTED + start * MINUTE,
            ends_at=ACCEPTED + (start + length) * MINUTE,
            why="",
        )
        for start, length in periods
    ]
    earliest = Moment(at=ACCEPTED + not_before * MINUTE) if not_before is not None else None
    allowed = [read_window(text) for text in windows]

    def forbidden(minute: datetime) -> bool:
        if any(period.starts_at <= minute < period.ends_at for period in frozen):
            return True
        if earliest is not None and minute < earliest.at:
            return True
        return bool(allowed) and all(next_opening(one, minute) != minute for one in allowed)

    minute = now
    while forbidden(minute):
        minute += MINUTE

    assert opening(allowed, frozen, earliest, {}, ACCEPTED, now).opens_at == minute
