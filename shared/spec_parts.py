"""What all parts of a specification have alike: strict keys, and durations as people write them."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationInfo,
)

LONGEST: Final = timedelta(days=3650)
"""No duration of a new specification is longer; nothing is kept for longer, either."""
AT_DOOR: Final = {"is_new": True}
"""Context in which a specification is read that somebody has just written."""
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: object) -> object:
    """`250ms`, `10s`, `5m`, `2h` or `1d`; a bare 0 is allowed.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, timedelta):
        return value
    if value in (0, "0"):
        return timedelta(0)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", str(value))
    if not found:
        raise ValueError("a duration is a number and a unit, like 250ms, 10s, 5m, 2h or 1d")
    try:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    except OverflowError as error:
        raise ValueError(_TOO_LONG) from error


def write_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{int(seconds / _UNITS[unit])}{unit}"
    return f"{round(seconds * 1000)}ms" if seconds else "0"


def _bounded(value: timedelta, info: ValidationInfo) -> timedelta:
    """Those that were accepted once are read as they are, so that their models go on."""
    if info.context == AT_DOOR and value > LONGEST:
        raise ValueError(_TOO_LONG)
    return value


_TOO_LONG: Final = f"a duration is at most {write_duration(LONGEST)}"
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    AfterValidator(_bounded),
    PlainSerializer(write_duration),
]


class Part(BaseModel):
    """A part of a specification: unknown keys are faults, and so are numbers that are none."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )
