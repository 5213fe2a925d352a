"""When changes are allowed, in one of two forms.

`Mon-Thu 08:00-16:00 Europe/Berlin`: days are names, ranges or lists (`Mon,Wed-Fri`; `Fri-Mon`
passes the end of the week), hours are wall-clock time of the zone; an end before the start lies on
the next day. `0 8 * * 1-5 for 8h Europe/Berlin`: openings as cron writes them (`shared.cron`), each
open for so much time. What the clock does in the nights when it is moved is in `shared.wall_clock`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from shared.cron import Cron, read_cron
from shared.spec_parts import parse_duration, write_duration
from shared.wall_clock import (
    DAY_MINUTES,
    begins_at,
    day_of,
    ends_at,
    is_on_a_day_that_exists,
    read_zone,
)

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FORM_SAID: Final = (
    "a window is written like `Mon-Thu 08:00-16:00 Europe/Berlin` or "
    "`0 8 * * 1-5 for 8h Europe/Berlin`"
)
_DAYS_FORM: Final = re.compile(
    r"\s*(?P<days>[A-Za-z,-]+)\s+(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)\s+(?P<zone>\S+)\s*"
)
_CRON_FORM: Final = re.compile(
    r"\s*(?P<cron>\S+(?:\s+\S+){4})\s+for\s+(?P<length>\S+)\s+(?P<zone>\S+)\s*"
)
_SHORTEST: Final = timedelta(minutes=1)
_LONGEST: Final = timedelta(days=7)
_HORIZON_DAYS: Final = 9 * 366
"""29 February may be eight years away; what does not open until then never does."""

Span = tuple[datetime, datetime]


class Window(Protocol):
    """Times of one zone in which changes are allowed."""

    @property
    def zone(self) -> ZoneInfo:
        """Whose wall clock and calendar it goes by."""

    @property
    def reach_days(self) -> int:
        """It may still be open so many days after the day on which it opened."""

    def spans(self, day: date) -> Iterable[Span]:
        """When it opens and closes that begins on this day, in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayWindow:
    """Days of the week (0 is Monday) and the minutes of those days between which it is open."""

    days: frozenset[int]
    start: int
    end: int
    zone: ZoneInfo

    @property
    def reach_days(self) -> int:
        """It ends on the next day at the latest; one more where the clock is moved at midnight."""
        return 2

    def spans(self, day: date) -> Iterator[Span]:
        """The one window of this day; none where the clock skips all of it."""
        if day.weekday() in self.days:
            length_past_midnight = self.end + (0 if self.end > self.start else DAY_MINUTES)
            opens = begins_at(day, self.start, self.zone)
            closes = ends_at(day, length_past_midnight, self.zone)
            if closes > opens:
                yield opens, closes


@dataclass(frozen=True, slots=True, kw_only=True)
class CronWindow:
    """Opens as a cron expression says, each time for as long."""

    cron: Cron
    length: timedelta
    zone: ZoneInfo

    @property
    def reach_days(self) -> int:
        """As long as it is open, and one more where the clock is moved."""
        return self.length // timedelta(days=1) + 2

    def spans(self, day: date) -> Iterator[Span]:
        """The windows that open on this day."""
        if self.cron.falls_on(day):
            for minutes in self.cron.minutes:
                if is_on_a_day_that_exists(day, minutes, self.zone):
                    opens = begins_at(day, minutes, self.zone)
                    yield opens, opens + self.length


def read_window(text: str) -> Window:
    """A window from its text.

    Raises:
        ValueError: it has another form, names what does not exist, or is never open.
    """
    if found := _DAYS_FORM.fullmatch(text):
        window: Window = _day_window(text, found)
    elif found := _CRON_FORM.fullmatch(text):
        window = _cron_window(found)
    else:
        raise ValueError(f"{text!r} is no window; {FORM_SAID}")
    return window


def _day_window(text: str, found: re.Match[str]) -> DayWindow:
    start, end = _minutes(found["start"]), _minutes(found["end"])
    if start in (end, DAY_MINUTES):
        raise ValueError(f"{text!r} is never open; {FORM_SAID}")
    return DayWindow(days=_days(found["days"]), start=start, end=end, zone=read_zone(found["zone"]))


def _cron_window(found: re.Match[str]) -> CronWindow:
    length = parse_duration(found["length"])
    if not isinstance(length, timedelta) or not _SHORTEST <= length <= _LONGEST:
        raise ValueError(
            f"a window is open for {write_duration(_SHORTEST)} to {write_duration(_LONGEST)}, "
            f"not {found['length']}"
        )
    return CronWindow(cron=read_cron(found["cron"]), length=length, zone=read_zone(found["zone"]))


def _minutes(text: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if minutes > 59 or hours * 60 + minutes > DAY_MINUTES:
        raise ValueError(f"{text!r} is no time of day; {FORM_SAID}")
    return hours * 60 + minutes


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part!r} names no days of the week; {FORM_SAID}")
        length = (DAYS.index(last or first) - DAYS.index(first)) % 7
        found |= {(DAYS.index(first) + offset) % 7 for offset in range(length + 1)}
    return frozenset(found)


def next_opening(window: Window | None, now: datetime) -> datetime | None:
    """`now` while changes are allowed, else the next moment when they are; None if never."""
    if window is None:
        return now
    today = day_of(now, window.zone)
    first: datetime | None = None
    for offset in range(-window.reach_days, _HORIZON_DAYS):
        day = today + timedelta(days=offset)
        opens = [max(start, now) for start, end in window.spans(day) if end > max(start, now)]
        if first is not None:
            # A clock that is moved may bring an opening of the next day before one of this day.
            return min([first, *opens])
        first = min(opens, default=None)
        if first == now:
            return now
    return first
