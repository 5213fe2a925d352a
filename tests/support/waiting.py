"""Waiting for a condition instead of for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class NeverHappened(AssertionError):
    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} did not happen within {seconds:.0f} s")


def wait_until(
    condition: Callable[[], object], *, what: str, timeout_seconds: float = 30.0
) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NeverHappened(what, timeout_seconds)
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
