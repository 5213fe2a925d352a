"""Named points at which a test kills this very process, as kill -9 does.

A fault is written `point`, `point@label`, `point:nth` or `point@label:nth`: the process dies when
the point is reached for the nth time (1 by default) with that label among those it is reached
with. Labels are event types, topics and consumers.
"""

import os
import re
import signal
from dataclasses import dataclass
from typing import Final, Literal, get_args

from shared.errors import TidewheelError

Point = Literal[
    "before_commit",
    "after_commit_before_publish",
    "after_publish_before_offset",
    "before_complete",
    "after_complete",
]
"""In the order of a step: its transaction, the relay, the offset; then the ends of a job."""

_FORM: Final = re.compile(r"(?P<point>[a-z_]+)(@(?P<label>[^:]+))?(:(?P<nth>[1-9][0-9]*))?")


class FaultRefused(TidewheelError):
    """The setting `fault` is wrong, or set where it must not be; the process does not start."""


@dataclass(slots=True)
class _Armed:
    point: str
    label: str
    left: int


_armed: list[_Armed] = []


def install(fault: str, environment: str) -> None:
    """Arm what the setting names; nothing when it is empty.

    Raises:
        FaultRefused: production never has fault points, or the setting names no point.
    """
    _armed.clear()
    if not fault:
        return
    if environment == "production":
        raise FaultRefused("fault points kill this process; they are refused in production")
    form = _FORM.fullmatch(fault)
    if form is None or form["point"] not in get_args(Point):
        raise FaultRefused(f"{fault!r} is not point[@label][:nth] with one of {get_args(Point)}")
    _armed.append(_Armed(form["point"], form["label"] or "", int(form["nth"] or 1)))


def reach(point: Point, *labels: str) -> None:
    """Die here if this is the point that was named."""
    for armed in _armed:
        if armed.point == point and (not armed.label or armed.label in labels):
            armed.left -= 1
            if armed.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def awaits(point: Point) -> bool:
    """Whether this process is still to die at the point; what follows the point must not happen."""
    return any(armed.point == point for armed in _armed)
