from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.spec import Rollout
from shared.windows import next_opening, read_window


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def opens(window: str, now: str) -> datetime:
    return next_opening(read_window(window), at(now))


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


def test_a_window_swallowed_by_the_clock_opens_a_week_later() -> None:
    assert opens("Sun 02:00-03:00 Europe/Berlin", "2026-03-28T12:00:00+01:00") == at(
        "2026-04-05T02:00:00+02:00"
    )


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    window = "Sun 02:00-03:00 Europe/Berlin"

    first, second = "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"

    assert opens(window, first) == at(first)
    assert opens(window, second) == at(second)


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
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"window|zone|days|time of day"):
        read_window(text)


@given(
    minutes=st.integers(0, 366 * 24 * 60),
    window=st.sampled_from(
        ["Mon-Thu 08:00-16:00 Europe/Berlin", "Sat-Sun 23:00-04:00 America/New_York"]
    ),
)
def test_an_opening_is_never_past_and_within_the_week(minutes: int, window: str) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)

    opening = next_opening(read_window(window), moment)

    assert moment <= opening <= moment + timedelta(days=7)
    assert next_opening(read_window(window), opening) == opening


def test_a_specification_with_a_wrong_window_is_refused() -> None:
    with pytest.raises(ValidationError, match="no window"):
        Rollout(window="now and then")

    assert Rollout(window="Mon-Thu 08:00-16:00 Europe/Berlin").window is not None
