"""What all parts of a specification have alike: strict keys, and durations as people write them."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

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
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


def write_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{int(seconds / _UNITS[unit])}{unit}"
    return f"{round(seconds * 1000)}ms" if seconds else "0"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(write_duration)]


class Part(BaseModel):
    """A part of a specification: unknown keys are faults, and so are numbers that are none."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )
