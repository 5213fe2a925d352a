"""What a clock on a wall shows, minute by minute: the slow way, to hold the fast one against."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # was moved a minute after midnight
    "America/Sao_Paulo",  # skipped the hour after midnight
    "America/Havana",  # repeats the hour after midnight
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour
    "Antarctica/Troll",  # two hours
    "Pacific/Apia",  # left out 30 December 2011
    "Africa/Casablanca",
)


@cache
def moves_of(zone: str, year: int) -> tuple[date, ...]:
    """Days on or about which the clock was moved."""
    first = datetime(year, 1, 1, tzinfo=UTC)
    hours = [first + timedelta(hours=hour) for hour in range(366 * 24)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    pairs = zip(hours, offsets, offsets[1:], strict=False)
    return tuple(hour.date() for hour, before, after in pairs if before != after)


class WallClock:
    """Every minute of some days and what the clock showed then."""

    def __init__(self, zone: str, around: date, days: int) -> None:
        begin = datetime.combine(around, time.min, tzinfo=UTC) - timedelta(days=days)
        self.minutes = [begin + n * MINUTE for n in range(2 * days * 24 * 60)]
        place = ZoneInfo(zone)
        self.shown = [minute.astimezone(place).replace(tzinfo=None) for minute in self.minutes]
        self._first: dict[datetime, datetime] = {}
        for minute, shown in zip(self.minutes, self.shown, strict=True):
            self._first.setdefault(shown, minute)

    def first_shown(self, wall: datetime) -> datetime | None:
        """The first minute that shows this."""
        return self._first.get(wall)

    def begins(self, wall: datetime) -> datetime | None:
        """When it is first shown; if it is skipped, so much later as was skipped."""
        found = self.first_shown(wall)
        if found is not None:
            return found
        for before, after in zip(self.shown, self.shown[1:], strict=False):
            if before < wall < after:
                return self.first_shown(wall + (after - before - MINUTE))
        return None

    def reaches(self, wall: datetime) -> datetime | None:
        """The first minute that shows this or something later."""
        pairs = zip(self.minutes, self.shown, strict=True)
        return next((minute for minute, shown in pairs if shown >= wall), None)

    def dates(self) -> list[date]:
        """All dates that are shown, and those between them."""
        first, last = min(self.shown).date(), max(self.shown).date()
        return [first + timedelta(days=n) for n in range((last - first).days + 1)]

    def is_shown(self, day: date) -> bool:
        """Whether that day existed here."""
        return any(shown.date() == day for shown in self.shown)


def at(day: date, minutes: int) -> datetime:
    """A wall-clock time."""
    return datetime.combine(day, time.min) + minutes * MINUTE


def first_open(
    spans: Iterable[tuple[datetime, datetime]], now: datetime, until: datetime
) -> datetime | None:
    """The first minute from now on, now included, that lies in one of the spans."""
    open_from = [max(start, now) for start, end in spans if end > max(start, now)]
    found = min(open_from, default=None)
    return found if found is not None and found < until else None
