"""What moments have in common: the hour of the day, the hour of the week, or the month, in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, assert_never

Season = Literal["hour_of_day", "hour_of_week", "month"]

SPANS: Final[dict[Season, timedelta]] = {
    "hour_of_day": timedelta(days=1),
    "hour_of_week": timedelta(days=7),
    "month": timedelta(days=365),
}
"""A reference that is shorter has not seen all of the season."""


def season_of(season: Season, at: datetime) -> str:
    """The season of a moment: `h07`, `w123` (Monday 0 h is 0), `m12`."""
    moment = at.astimezone(UTC)
    match season:
        case "hour_of_day":
            return f"h{moment.hour:02}"
        case "hour_of_week":
            return f"w{moment.weekday() * 24 + moment.hour:03}"
        case "month":
            return f"m{moment.month:02}"
        case _:
            assert_never(season)
