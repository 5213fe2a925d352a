"""Waiting for a condition instead of for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class NeverHappened(AssertionError):
    def __init__(self, what: str, seconds: float, last: object = None) -> None:
        told = f"; last answer {last!r}" if last is not None else ""
        super().__init__(f"{what} did not happen within {seconds:.0f} s{told}")


def wait_until(condition: Callable[[], T | None], *, what: str, timeout_seconds: float = 30.0) -> T:
    """The first answer of the condition that is neither None nor false."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise NeverHappened(what, timeout_seconds, found)
        time.sleep(0.02)


async def eventually(
    condition: Callable[[], Awaitable[object]], *, what: str, timeout_seconds: float = 30.0
) -> None:
    """Return as soon as the awaited condition holds."""
    deadline = time.monotonic() + timeout_seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise NeverHappened(what, timeout_seconds)
        await asyncio.sleep(0.02)
