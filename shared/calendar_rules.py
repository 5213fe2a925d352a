"""Freezes and earliest moments: the rules about changes that go by a calendar.

A freeze is written `2026-12-20..2027-01-06 Europe/Berlin`, first and last day. An earliest moment
is a moment with its offset, `month_start Europe/Berlin`, or `dataset billing/closed`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from shared.names import dataset_name
from shared.wall_clock import begins_at, day_of, ends_at, is_over_at, read_zone
from shared.windows import Window, next_opening

_FREEZE_FORM: Final = re.compile(r"\s*(\d{4}-\d\d-\d\d)\s*\.\.\s*(\d{4}-\d\d-\d\d)\s+(\S+)\s*")
_FREEZE_SAID: Final = "a freeze is written like `2026-12-20..2027-01-06 Europe/Berlin`"
_EARLIEST_SAID: Final = (
    "not_before is a moment with its offset, `month_start Europe/Berlin` or `dataset NAME`"
)
LONGEST_FREEZE: Final = timedelta(days=366)
_YEARS: Final = (1970, 2999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From one moment, inclusive, to another, exclusive, with its name for people."""

    starts_at: datetime
    ends_at: datetime
    why: str


def read_freeze(text: str) -> Period:
    """The period of a freeze in a specification.

    Raises:
        ValueError: it has another form, names what does not exist, or never ends.
    """
    found = _FREEZE_FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no freeze; {_FREEZE_SAID}")
    first, last, zone = _day(found[1]), _day(found[2]), read_zone(found[3])
    if last < first:
        raise ValueError(f"{text!r} ends before it begins; {_FREEZE_SAID}")
    if last - first >= LONGEST_FREEZE:
        raise ValueError(f"{text!r} lasts longer than {LONGEST_FREEZE.days} days")
    return Period(
        starts_at=ends_at(first, 0, zone),
        ends_at=is_over_at(last, zone),
        why=f"the specification freezes changes {text}",
    )


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no day; {_FREEZE_SAID}") from error
    return _of_these_times(found, text)


def _of_these_times(day: date, text: str) -> date:
    if not _YEARS[0] <= day.year <= _YEARS[1]:
        raise ValueError(f"{text!r} lies outside the years {_YEARS[0]} to {_YEARS[1]}")
    return day


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Not before this."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthStart:
    """Not before a month begins in this zone."""

    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime:
        """The first start of a month after this."""
        day = day_of(moment, self.zone)
        year, month = divmod(day.year * 12 + day.month, 12)
        return begins_at(date(year, month + 1, 1), 0, self.zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterDataset:
    """Not before somebody publishes a version of this dataset."""

    dataset: str


Earliest = Moment | MonthStart | AfterDataset


def read_earliest(text: str) -> Earliest:
    """What `not_before` says.

    Raises:
        ValueError: it has another form, or names what does not exist.
    """
    word, _, rest = text.strip().partition(" ")
    if word == "month_start":
        return MonthStart(zone=read_zone(rest.strip()))
    if word == "dataset":
        return AfterDataset(dataset=dataset_name(rest.strip()))
    return Moment(at=_moment(text.strip()))


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no moment; {_EARLIEST_SAID}") from error
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no offset, like +01:00 or Z; {_EARLIEST_SAID}")
    _of_these_times(found.date(), text)
    return found.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """When changes are allowed.

    Attributes:
        opens_at: None while it depends on an event that has not come.
        reason: what is waited for; empty while changes are allowed now.
    """

    opens_at: datetime | None
    reason: str = ""


def opening(
    windows: Collection[Window],
    freezes: Collection[Period],
    earliest: Earliest | None,
    published: Mapping[str, datetime],
    accepted_at: datetime,
    now: datetime,
) -> Opening:
    """The next moment, from now on, that no rule forbids.

    Args:
        windows: it must lie in one of them, if there are any.
        freezes: it may lie in none of them.
        published: when each dataset had its newest version, as far as known.
        accepted_at: what `not_before` counts from.
    """
    moment, reason = now, ""
    if earliest is not None:
        first = _first(earliest, published, accepted_at)
        if first is None:
            return Opening(opens_at=None, reason=_waits_for(earliest))
        if first > moment:
            moment, reason = first, f"not before {first.isoformat()}"
    return _in_the_calendar(windows, freezes, moment, reason)


def _first(
    earliest: Earliest, published: Mapping[str, datetime], accepted_at: datetime
) -> datetime | None:
    match earliest:
        case Moment():
            return earliest.at
        case MonthStart():
            return earliest.after(accepted_at)
        case AfterDataset():
            newest = published.get(earliest.dataset)
            return newest if newest is not None and newest > accepted_at else None


def _waits_for(earliest: Earliest) -> str:
    dataset = earliest.dataset if isinstance(earliest, AfterDataset) else ""
    return f"waits for a new version of the dataset {dataset}"


def _in_the_calendar(
    windows: Collection[Window], freezes: Collection[Period], moment: datetime, reason: str
) -> Opening:
    # Every turn but the last ends with the end of a freeze, and none of them comes again.
    for _ in range(len(freezes) + 1):
        opens = [at for window in windows if (at := next_opening(window, moment)) is not None]
        if windows and not opens:
            return Opening(opens_at=None, reason="no window opens within nine years")
        if opens and min(opens) > moment:
            moment, reason = min(opens), reason or "outside the windows for changes"
        frozen = [period for period in freezes if period.starts_at <= moment < period.ends_at]
        if not frozen:
            break
        last = max(frozen, key=lambda period: period.ends_at)
        moment, reason = last.ends_at, last.why
    return Opening(opens_at=moment, reason=reason)
