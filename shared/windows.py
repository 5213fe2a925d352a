"""When changes are allowed: `Mon-Thu 08:00-16:00 Europe/Berlin`.

Days are names, ranges or lists (`Mon,Wed-Fri`; `Fri-Mon` passes the end of the week), hours are
wall-clock time of the zone; an end before the start lies on the next day.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM: Final = re.compile(
    r"\s*(?P<days>[A-Za-z,-]+)\s+(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)\s+(?P<zone>\S+)\s*"
)
_FORM_SAID: Final = "a window is written like `Mon-Thu 08:00-16:00 Europe/Berlin`"
_LONGEST_WAIT_DAYS: Final = 9
"""A week, and what a shift of the clock may swallow of a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Days of the week (0 is Monday) and the minutes of those days between which it is open."""

    days: frozenset[int]
    start: int
    end: int
    zone: ZoneInfo

    def span(self, day: date) -> tuple[datetime, datetime]:
        """When the window that begins on this day opens and closes, in UTC."""
        length_past_midnight = self.end + (0 if self.end > self.start else 24 * 60)
        return self._moment(day, self.start), self._moment(day, length_past_midnight)

    def _moment(self, day: date, minutes: int) -> datetime:
        # Wall-clock arithmetic, then the zone: an hour that the clock skips becomes the one after.
        wall = datetime.combine(day, time.min) + timedelta(minutes=minutes)
        return wall.replace(tzinfo=self.zone).astimezone(UTC)


def read_window(text: str) -> Window:
    """A window from its text.

    Raises:
        ValueError: it has another form, or names what does not exist.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no window; {_FORM_SAID}")
    start, end = _minutes(found["start"]), _minutes(found["end"])
    if start == end or start == 24 * 60:
        raise ValueError(f"{text!r} is never open; {_FORM_SAID}")
    try:
        zone = ZoneInfo(found["zone"])
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{found['zone']!r} is no time zone, like Europe/Berlin") from error
    return Window(days=_days(found["days"]), start=start, end=end, zone=zone)


def _minutes(text: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise ValueError(f"{text!r} is no time of day; {_FORM_SAID}")
    return hours * 60 + minutes


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part!r} names no days of the week; {_FORM_SAID}")
        length = (DAYS.index(last or first) - DAYS.index(first)) % 7
        found |= {(DAYS.index(first) + offset) % 7 for offset in range(length + 1)}
    return frozenset(found)


def next_opening(window: Window | None, now: datetime) -> datetime:
    """`now` while changes are allowed, else the next moment when they are."""
    if window is None:
        return now
    today = now.astimezone(window.zone).date()
    opens: list[datetime] = []
    for offset in range(-1, _LONGEST_WAIT_DAYS):
        day = today + timedelta(days=offset)
        start, end = window.span(day)
        if day.weekday() in window.days and end > max(start, now):
            opens.append(max(start, now))
    return min(opens)
