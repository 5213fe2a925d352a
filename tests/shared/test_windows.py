from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import pytest
from croniter import croniter
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.cron import read_cron
from shared.spec import Rollout
from shared.windows import DAYS, next_opening, read_window
from tests.support.wall_clock import MINUTE, ZONES, WallClock, first_open, moves_of
from tests.support.wall_clock import at as wall_at


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def opens(window: str, now: str) -> datetime | None:
    return next_opening(read_window(window), at(now))


# --- days of the week -----------------------------------------------------------------------------


def test_an_open_window_opens_now() -> None:
    now = "2026-03-04T09:30:00+01:00"

    assert opens("Mon-Thu 08:00-16:00 Europe/Berlin", now) == at(now)


def test_the_end_of_a_window_is_outside() -> None:
    assert opens("Mon-Thu 08:00-16:00 Europe/Berlin", "2026-03-04T16:00:00+01:00") == at(
        "2026-03-05T08:00:00+01:00"
    )


def test_after_thursday_comes_monday() -> None:
    assert opens("Mon-Thu 08:00-16:00 Europe/Berlin", "2026-03-05T17:00:00+01:00") == at(
        "2026-03-09T08:00:00+01:00"
    )


def test_the_wall_clock_counts_when_summer_time_begins() -> None:
    friday = "2026-03-27T17:00:00+01:00"

    assert opens("Mon-Fri 08:00-16:00 Europe/Berlin", friday) == at("2026-03-30T08:00:00+02:00")


def test_an_hour_that_the_clock_skips_moves_the_opening() -> None:
    assert opens("Sun 02:30-05:00 Europe/Berlin", "2026-03-29T00:00:00+01:00") == at(
        "2026-03-29T03:30:00+02:00"
    )


@pytest.mark.parametrize("hours", ["02:00-03:00", "02:15-02:45", "02:30-03:10"])
def test_a_window_swallowed_by_the_clock_opens_a_week_later(hours: str) -> None:
    start = hours.partition("-")[0]

    assert opens(f"Sun {hours} Europe/Berlin", "2026-03-28T12:00:00+01:00") == at(
        f"2026-04-05T{start}:00+02:00"
    )


def test_an_hour_that_comes_twice_is_open_twice_where_the_window_goes_on() -> None:
    window = "Sun 02:00-03:00 Europe/Berlin"

    first, second = "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"

    assert opens(window, first) == at(first)
    assert opens(window, second) == at(second)


def test_a_window_that_has_closed_does_not_open_again_when_its_hour_comes_again() -> None:
    window = "Sun 02:15-02:45 Europe/Berlin"

    assert opens(window, "2026-10-25T02:30:00+01:00") == at("2026-11-01T02:15:00+01:00")


def test_a_window_may_pass_midnight_and_the_end_of_the_week() -> None:
    window = "Fri-Mon 22:00-02:00 UTC"

    inside = "2026-03-10T01:00:00+00:00"  # Tuesday, within Monday's window
    assert opens(window, inside) == at(inside)
    assert opens(window, "2026-03-10T02:00:00+00:00") == at("2026-03-13T22:00:00+00:00")


def test_a_day_may_be_open_to_its_end() -> None:
    inside = "2026-03-04T23:59:59+00:00"

    assert opens("Wed 00:00-24:00 UTC", inside) == at(inside)


def test_days_may_be_listed() -> None:
    assert opens("Mon,wed-THU 08:00-09:00 UTC", "2026-03-05T09:00:00+00:00") == at(
        "2026-03-09T08:00:00+00:00"
    )


def test_a_day_that_a_zone_left_out_had_no_window() -> None:
    thursday = "2011-12-29T20:00:00-10:00"

    assert opens("Fri 08:00-16:00 Pacific/Apia", thursday) == at("2012-01-06T08:00:00+14:00")
    assert opens("0 8 * * fri for 8h Pacific/Apia", thursday) == at("2012-01-06T08:00:00+14:00")


# --- cron -----------------------------------------------------------------------------------------


def test_a_window_like_cron_is_open_for_its_length() -> None:
    window = "0 8 * * 1-5 for 8h Europe/Berlin"

    inside = "2026-03-04T15:59:59+01:00"
    assert opens(window, inside) == at(inside)
    assert opens(window, "2026-03-04T16:00:00+01:00") == at("2026-03-05T08:00:00+01:00")
    assert opens(window, "2026-03-06T16:00:00+01:00") == at("2026-03-09T08:00:00+01:00")


def test_a_length_is_real_time_when_the_clock_is_moved_within_it() -> None:
    window = "0 22 * * sat for 8h Europe/Berlin"

    last = "2026-03-29T06:59:59+02:00"
    assert opens(window, last) == at(last)
    assert opens(window, "2026-03-29T07:00:00+02:00") == at("2026-04-04T22:00:00+02:00")


def test_a_long_window_is_still_open_days_later() -> None:
    inside = "2026-03-07T23:00:00+00:00"

    assert opens("0 0 1 3 * for 7d UTC", inside) == at(inside)
    assert opens("0 0 1 3 * for 7d UTC", "2026-03-08T00:00:00+00:00") == at(
        "2027-03-01T00:00:00+00:00"
    )


def test_an_opening_that_the_clock_skips_happens_once_and_not_early() -> None:
    window = "30 2 * * * for 15m Europe/Berlin"

    opening = opens(window, "2026-03-29T00:00:00+01:00")

    assert opening == at("2026-03-29T03:30:00+02:00")
    assert opens(window, "2026-03-29T03:45:00+02:00") == at("2026-03-30T02:30:00+02:00")


def test_an_opening_whose_hour_comes_twice_happens_once() -> None:
    window = "30 2 * * * for 15m Europe/Berlin"

    assert opens(window, "2026-10-25T02:45:00+02:00") == at("2026-10-26T02:30:00+01:00")


def test_a_leap_day_is_found_and_found_quickly() -> None:
    started = time.process_time()

    opening = opens("0 0 29 2 * for 1h UTC", "2096-03-01T00:00:00+00:00")

    assert opening == at("2104-02-29T00:00:00+00:00")
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "always",
        "Mon 08:00-16:00",
        "Mun 08:00-16:00 UTC",
        "Mon 25:00-26:00 UTC",
        "Mon 08:61-09:00 UTC",
        "Mon 08:00-08:00 UTC",
        "Mon 24:00-03:00 UTC",
        "Mon 08:00-16:00 Europe/Atlantis",
        "Mon- 08:00-16:00 ../etc",
        "Mon 08:00-16:00 UTC; Tue 08:00-16:00 UTC",
        "0 8 * * 1-5 Europe/Berlin",
        "0 8 * * 1-5 for 8h",
        "0 8 * * 1-5 for 8 Europe/Berlin",
        "0 8 * * 1-5 for 8d Europe/Berlin",
        "0 8 * * 1-5 for 30s Europe/Berlin",
        "0 8 * * 1-5 for 8h Europe/Atlantis",
        "0 8 * * 1-5 for 8h ../../etc/passwd",
        "0 8 30 2 * for 8h UTC",
        "0 8 31 4,6 * for 8h UTC",
        "* * * * * for 8h UTC",
        "0 24 * * * for 8h UTC",
        "0 8 * 13 * for 8h UTC",
        "0 8 5-3 * * for 8h UTC",
        "*/0 8 * * * for 8h UTC",
        "0 8 L * * for 8h UTC",
        "0 8 * * 1#2 for 8h UTC",
        "0 \uff18 * * * for 8h UTC",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_window(text)


_NUMBER = st.integers(0, 59)


def _field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    # The other reader takes a range of one for all.
    pair = st.tuples(number, number).filter(lambda p: p[0] != p[1]).map(sorted)
    item = st.one_of(
        number.map(str),
        pair.map(lambda p: f"{p[0]}-{p[1]}"),
        st.integers(2, 9).map(lambda n: f"*/{n}"),
        st.tuples(pair, st.integers(1, 9)).map(lambda p: f"{p[0][0]}-{p[0][1]}/{p[1]}"),
    )
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


@settings(max_examples=150, deadline=None)
@example(day="1", month="*", weekday="0-6", minute=0, hour=0, start=date(2020, 1, 1))
@example(day="*/2", month="*", weekday="0-6", minute=0, hour=0, start=date(2020, 1, 1))
@given(
    day=_field(1, 28),
    month=_field(1, 12),
    weekday=_field(0, 7),
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    start=st.dates(date(2020, 1, 1), date(2040, 1, 1)),
)
def test_an_expression_means_the_days_that_another_reader_of_cron_finds(
    day: str, month: str, weekday: str, minute: int, hour: int, start: date
) -> None:
    expression = f"{minute} {hour} {day} {month} {weekday}"
    cron = read_cron(expression)
    days = [start + timedelta(days=n) for n in range(45)]

    meant = [one for one in days if cron.falls_on(one)]

    assert cron.minutes == (60 * hour + minute,)
    assert meant == [
        one for one in days if croniter.match(expression, wall_at(one, cron.minutes[0]))
    ]


def test_names_ranges_around_the_end_and_sunday_as_seven() -> None:
    sunday = date(2026, 3, 8)
    week = [sunday + timedelta(days=n) for n in range(7)]

    def days(field: str) -> list[int]:
        cron = read_cron(f"0 8 * * {field}")
        return [n for n, day in enumerate(week) if cron.falls_on(day)]

    assert days("7") == days("sun") == days("0") == [0]
    assert days("fri-mon") == [0, 1, 5, 6]
    assert days("5-7") == [0, 5, 6]
    assert days("0-7") == [0, 1, 2, 3, 4, 5, 6]
    assert read_cron("0 8 * nov-feb *").months == {11, 12, 1, 2}


# --- every minute of the nights when the clock is moved -------------------------------------------


@st.composite
def nights(draw: st.DrawFn) -> tuple[str, date]:
    """A zone and a day, mostly one about which its clock was moved."""
    zone = draw(st.sampled_from(ZONES))
    moves = moves_of(zone, draw(st.integers(1995, 2037)))
    if moves and draw(st.sampled_from([True, True, True, False])):
        return zone, draw(st.sampled_from(list(moves)))
    return zone, draw(st.dates(date(1995, 1, 1), date(2037, 12, 31)))


EARLY = st.integers(0, 5 * 60) | st.integers(0, 24 * 60 - 1)
"""Minutes of a day; clocks are moved early."""


@settings(max_examples=25, deadline=None)
@given(night=nights(), start=EARLY, end=EARLY, days=st.sets(st.integers(0, 6), min_size=1),
       nows=st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=8))  # fmt: skip
def test_days_open_in_every_zone_as_the_minutes_say(
    night: tuple[str, date], start: int, end: int, days: set[int], nows: list[float]
) -> None:
    assume(start != end)
    zone, about = night
    clock = WallClock(zone, about, 10)
    names = ",".join(DAYS[day] for day in days)
    window = read_window(
        f"{names} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} {zone}"
    )
    spans = []
    for day in clock.dates():
        begins = clock.begins(wall_at(day, start))
        ends = clock.reaches(wall_at(day, end + (0 if end > start else 24 * 60)))
        if day.weekday() in days and begins and ends and begins < ends:
            spans.append((begins, ends))

    for offset in nows:
        now = _moment(about, offset)
        expected = first_open(spans, now, clock.minutes[-1])
        found = next_opening(window, now)
        assert found == expected or (expected is None and found and found > _moment(about, 7))


@settings(max_examples=40, deadline=None)
@given(night=nights(), minutes=st.sets(_NUMBER, min_size=1, max_size=3),
       hours=st.sets(st.integers(0, 23) | st.integers(0, 4), min_size=1, max_size=4),
       length=st.integers(1, 200), nows=st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=8),
)  # fmt: skip
def test_cron_opens_in_every_zone_as_the_minutes_say(
    night: tuple[str, date], minutes: set[int], hours: set[int], length: int, nows: list[float]
) -> None:
    zone, about = night
    clock = WallClock(zone, about, 4)
    fields = f"{','.join(map(str, minutes))} {','.join(map(str, hours))}"
    window = read_window(f"{fields} * * * for {length}m {zone}")
    spans = []
    for day in clock.dates():
        for hour in hours:
            for minute in minutes:
                begins = clock.begins(wall_at(day, 60 * hour + minute))
                if begins and clock.is_shown(day):
                    spans.append((begins, begins + length * MINUTE))

    for offset in nows:
        now = _moment(about, offset)
        assert next_opening(window, now) == first_open(spans, now, clock.minutes[-1])


def _moment(day: date, offset_days: float) -> datetime:
    seconds = round(offset_days * 86400)
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(seconds=seconds)


@settings(max_examples=100, deadline=None)
@given(
    night=nights(),
    hour=st.integers(0, 23),
    jumps=st.lists(st.integers(-36 * 60, 36 * 60), min_size=1, max_size=10),
)
def test_a_clock_that_jumps_opens_nothing_early_and_nothing_twice(
    night: tuple[str, date], hour: int, jumps: list[int]
) -> None:
    """What is open depends on the moment alone, so coming back to it finds the same."""
    zone, about = night
    window = read_window(f"30 {hour} * * * for 20m {zone}")
    now = _moment(about, 0)
    found: dict[datetime, datetime] = {}
    for jump in jumps:
        now += jump * MINUTE
        opening = next_opening(window, now)
        assert opening is not None
        assert opening >= now
        assert found.setdefault(now, opening) == opening
    begun = {opening for moment, opening in found.items() if opening > moment}
    dates = [opening.astimezone(window.zone).date() for opening in begun]
    assert len(dates) == len(set(dates)), "one day had two openings"


@given(
    minutes=st.integers(0, 366 * 24 * 60),
    window=st.sampled_from(
        ["Mon-Thu 08:00-16:00 Europe/Berlin", "Sat-Sun 23:00-04:00 America/New_York"]
    ),
)
def test_an_opening_is_never_past_and_within_the_week(minutes: int, window: str) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)

    opening = next_opening(read_window(window), moment)

    assert opening is not None
    assert moment <= opening <= moment + timedelta(days=7)
    assert next_opening(read_window(window), opening) == opening


def test_a_specification_with_a_wrong_window_is_refused() -> None:
    with pytest.raises(ValidationError, match="no window"):
        Rollout(window="now and then")

    assert Rollout(window="Mon-Thu 08:00-16:00 Europe/Berlin").window is not None
