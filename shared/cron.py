"""The five fields of cron: minute, hour, day of the month, month, day of the week.

Numbers, names (`jan`, `mon`), ranges (`1-5`, `fri-mon`), lists and steps (`*/15`). As in cron,
either kind of day is enough where both are given; Sunday is 0 and 7.
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MOST_A_DAY: Final = 96
"""Openings a day; whoever wants more wants no window at all."""
_LONGEST_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ITEM: Final = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/(\d{1,4}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The days of a calendar and the minutes of those days, by the clock on the wall.

    Attributes:
        minutes: after midnight, in order.
        days: of the month; None where all are.
        weekdays: 0 is Sunday; None where all are.
    """

    minutes: tuple[int, ...]
    months: frozenset[int]
    days: frozenset[int] | None
    weekdays: frozenset[int] | None

    def falls_on(self, day: date) -> bool:
        """Whether it means this day."""
        if day.month not in self.months:
            return False
        if self.days is None and self.weekdays is None:
            return True
        by_date = self.days is not None and day.day in self.days
        return by_date or (self.weekdays is not None and day.isoweekday() % 7 in self.weekdays)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One of the five, with `size` values; a number as high as `most` begins again at the least."""

    what: str
    least: int
    most: int
    size: int
    names: tuple[str, ...] = ()
    first_name: int = 0

    def read(self, text: str) -> frozenset[int]:
        found: set[int] = set()
        for item in text.lower().split(","):
            found |= self._item(item)
        return frozenset(found)

    def _item(self, item: str) -> set[int]:
        parts = _ITEM.fullmatch(item)
        if parts is None or (parts[1] == "*" and parts[2]):
            raise ValueError(f"{item!r} is no {self.what}, like 5, 1-5 or */15")
        step = int(parts[3] or 1)
        if not step:
            raise ValueError(f"{item!r} takes no steps")
        if parts[1] == "*":
            return set(range(self.least, self.least + self.size, step))
        first = self._number(parts[1])
        open_end = self.least + self.size - 1 if parts[3] else first
        last = self._number(parts[2]) if parts[2] else open_end
        if last < first and not self.names:
            raise ValueError(f"{item!r} ends before it begins")
        around = 0 if last >= first else self.size
        return {
            self.least + (value - self.least) % self.size
            for value in range(first, last + around + 1, step)
        }

    def _number(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.first_name
        if not text.isascii() or not text.isdigit() or not self.least <= int(text) <= self.most:
            raise ValueError(f"{text!r} is no {self.what}, {self.least} to {self.most}")
        return int(text)


_MINUTE: Final = _Field(what="minute", size=60, least=0, most=59)
_HOUR: Final = _Field(what="hour", size=24, least=0, most=23)
_DAY: Final = _Field(what="day of the month", size=31, least=1, most=31)
_MONTH: Final = _Field(what="month", size=12, least=1, most=12, names=MONTHS, first_name=1)
_WEEKDAY: Final = _Field(what="day of the week", size=7, least=0, most=7, names=WEEKDAYS)


def read_cron(text: str) -> Cron:
    """A cron expression from its five fields.

    Raises:
        ValueError: a field has another form, it means no day that exists, or too many openings.
    """
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"{text!r} has not the five fields of cron")
    minute, hour, day, month, weekday = fields
    cron = Cron(
        minutes=_minutes(_MINUTE.read(minute), _HOUR.read(hour)),
        months=_MONTH.read(month),
        days=_restricted(_DAY, day, weekday),
        weekdays=_restricted(_WEEKDAY, weekday, day),
    )
    if cron.days and cron.weekdays is None and not _exists(cron.months, cron.days):
        raise ValueError(f"{text!r} means no day that exists")
    return cron


def _restricted(field: _Field, text: str, other: str) -> frozenset[int] | None:
    """The values of one of the two fields for days; None where only the other one decides.

    Spelled out, all values are a choice of days like any other: beside a chosen date, `0-6` means
    every day, while `*` leaves it to the date.
    """
    found = field.read(text)
    is_open = text == "*" or (len(found) == field.size and "*" in other)
    return None if is_open else found


def _minutes(minutes: frozenset[int], hours: frozenset[int]) -> tuple[int, ...]:
    found = tuple(sorted(hour * 60 + minute for hour in hours for minute in minutes))
    if len(found) > MOST_A_DAY:
        raise ValueError(f"it opens {len(found)} times a day, {MOST_A_DAY} are allowed")
    return found


def _exists(months: frozenset[int], days: frozenset[int]) -> bool:
    return any(min(days) <= _LONGEST_MONTH[month - 1] for month in months)
