"""Moments as people type them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from tidewheel.errors import Failure
from tidewheel.exits import Exit

_AHEAD: Final = re.compile(r"(\d{1,5})\s*([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def read(text: str, now: datetime | None = None) -> str:
    """`2h` from now, or a moment; one without an offset is meant in this machine's time zone.

    Raises:
        Failure: it is neither.
    """
    ahead = _AHEAD.fullmatch(text.strip())
    if ahead:
        begin = now or datetime.now(UTC)  # noqa: TID251 - the client's own look at the clock
        return (begin + timedelta(**{_UNITS[ahead[2]]: int(ahead[1])})).isoformat()
    try:
        return datetime.fromisoformat(text.strip()).astimezone().isoformat()
    except (ValueError, OverflowError) as error:
        raise Failure(
            f"{text!r} is no moment",
            why=("a moment is written like 2027-01-06T18:00:00+01:00, or 2h, 3d for from now",),
            exit_code=Exit.USAGE,
        ) from error
