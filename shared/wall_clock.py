"""From what a clock on a wall shows to moments, also in the nights when it is moved.

A time that comes twice means the first one. One that is skipped moves on by what was skipped:
02:30 becomes 03:30 where the clock goes from 02:00 to 03:00, so that nothing begins early.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY_MINUTES: Final = 24 * 60


def read_zone(name: str) -> ZoneInfo:
    """A time zone by its name.

    Raises:
        ValueError: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone, like Europe/Berlin") from error


def begins_at(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """When something begins that is to begin so many minutes after midnight by the wall clock."""
    return _wall(day, minutes).replace(tzinfo=zone).astimezone(UTC)


def ends_at(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """When something ends: as soon as the clock shows this time, or has jumped past it."""
    wall = _wall(day, minutes)
    late = wall.replace(tzinfo=zone).astimezone(UTC)
    if not _is_skipped(wall, zone):
        return late
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    # Between these two the clock jumps; halve until the jump is known to the second.
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // 2
        if _shows(middle, zone) < wall:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


def is_over_at(day: date, zone: ZoneInfo) -> datetime:
    """When a day is over for good: the hour before midnight may come twice."""
    midnight = _wall(day + timedelta(days=1), 0)
    once = ends_at(day + timedelta(days=1), 0, zone)
    again = midnight.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return max(once, again)


def is_on_a_day_that_exists(day: date, minutes: int, zone: ZoneInfo) -> bool:
    """Whether what begins then begins on that day; at the date line a zone may skip a whole one."""
    return begins_at(day, minutes, zone).astimezone(zone).date() == _wall(day, minutes).date()


def day_of(moment: datetime, zone: ZoneInfo) -> date:
    """The date on a calendar in this zone."""
    return moment.astimezone(zone).date()


def _wall(day: date, minutes: int) -> datetime:
    return datetime.combine(day, time.min) + timedelta(minutes=minutes)


def _is_skipped(wall: datetime, zone: ZoneInfo) -> bool:
    return _shows(wall.replace(tzinfo=zone).astimezone(UTC), zone) != wall


def _shows(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
