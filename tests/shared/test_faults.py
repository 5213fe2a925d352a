"""Fault points kill, exactly once, exactly there, and never in production."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared import faults


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.install("", "test")


def test_production_refuses_a_fault_point() -> None:
    with pytest.raises(faults.FaultRefused, match="production"):
        faults.install("before_commit", "production")


@pytest.mark.parametrize(
    "fault", ["nowhere", "before_commit:0", "before_commit@", "before_commit:x"]
)
def test_a_fault_that_names_no_point_is_refused(fault: str) -> None:
    with pytest.raises(faults.FaultRefused):
        faults.install(fault, "test")


def test_nothing_happens_at_a_point_that_was_not_named() -> None:
    faults.install("before_commit@a.type", "test")

    faults.reach("before_commit", "another.type")
    faults.reach("after_complete", "a.type")

    assert faults.awaits("before_commit")
    assert not faults.awaits("after_complete")


@pytest.mark.parametrize(
    ("fault", "survived"),
    [
        ("before_commit", 0),
        ("before_commit:3", 2),
        ("before_commit@b:2", 3),
        ("before_commit@c", 4),
    ],
)
def test_the_process_dies_when_the_point_is_reached_for_the_nth_time(
    fault: str, survived: int
) -> None:
    program = (
        "from shared import faults\n"
        f"faults.install({fault!r}, 'test')\n"
        "for label in ('a', 'b', 'a', 'b'):\n"
        "    faults.reach('before_commit', label)\n"
        "    print(label, flush=True)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert len(ended.stdout.split()) == survived
    assert ended.returncode == (0 if survived == 4 else -signal.SIGKILL)
