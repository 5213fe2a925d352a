"""The water-flow series as supervised rows: what was known, by timestamp, when an hour began."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

FILE = Path(__file__).resolve().parent.parent / "data" / "water-flow.csv"
ZONE = ZoneInfo("Europe/Rome")
LAGS = (1, 2, 3, 24, 48)
"""Hours back; a gap in the series leaves some of them unknown."""
TARGET = "flow"

Row = dict[str, Any]
KNOWN_LEAKS = ((3, 24, 25), (3, 29, 29))
"""Month, first and last day: known when the first version is published, so left out by a person."""


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the series."""

    at: datetime
    flow: float


class Series:
    """The whole series; rows never look ahead of their hour."""

    def __init__(self, hours: tuple[Hour, ...]) -> None:
        self.hours = hours
        self._flows: Mapping[datetime, float] = {h.at.astimezone(UTC): h.flow for h in hours}

    @classmethod
    def read(cls, file: Path = FILE) -> Series:
        with file.open(newline="") as opened:
            lines = csv.reader(opened)
            next(lines)
            return cls(tuple(Hour(datetime.fromisoformat(at), float(v)) for at, v in lines))

    def between(self, start: datetime, end: datetime) -> Iterator[Hour]:
        return (hour for hour in self.hours if start <= hour.at < end)

    def features(self, hour: Hour) -> Row:
        """What is known when the hour begins; None where an earlier hour is missing."""
        moment, turn = hour.at.astimezone(UTC), 2 * math.pi * hour.at.hour / 24
        lags = {f"lag_{n}": self._flows.get(moment - timedelta(hours=n)) for n in LAGS}
        return {
            **lags,
            "hour_sin": round(math.sin(turn), 6),
            "hour_cos": round(math.cos(turn), 6),
        }

    def rows_until(self, end: datetime) -> list[Row]:
        """Complete rows of all hours before `end` that no known leak touches."""
        made = ((hour, self.features(hour)) for hour in self.hours if hour.at < end)
        return [
            {"time": hour.at.isoformat(), TARGET: hour.flow, **row}
            for hour, row in made
            if all(value is not None for value in row.values()) and not _touches_leak(hour)
        ]


def _touches_leak(hour: Hour) -> bool:
    """Whether the hour, or one of its lags, lies in a leak that was known."""
    moments = [hour.at - timedelta(hours=n) for n in (0, *LAGS)]
    leaks = [(day(month, first), day(month, last) + DAY) for month, first, last in KNOWN_LEAKS]
    return any(start <= moment < end for moment in moments for start, end in leaks)


DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def day(month: int, number: int) -> datetime:
    """The beginning of a day of the year 2022, where the pipeline is."""
    return datetime(2022, month, number, tzinfo=ZONE)


def write_csv(file: Path, rows: list[Row]) -> Path:
    """A dataset version as a producer would upload it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file
