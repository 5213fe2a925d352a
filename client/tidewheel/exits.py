"""Exit codes: stable, so that scripts can rely on them. From 64 on they follow sysexits."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    """For a watched cascade: promoted, or nothing was left to do."""
    DIFFERS = 1
    """What was checked is not what it was: a replayed verdict, a row of the log."""
    REJECTED = 3
    ROLLED_BACK = 4
    WAITS = 5
    USAGE = 64
    INPUT = 65
    UNAVAILABLE = 69
    BUG = 70
    TEMPORARY = 75
    NOT_PERMITTED = 77
    CONFIGURATION = 78
