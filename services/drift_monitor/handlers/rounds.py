"""Rounds: steps that are taken again and again, whatever becomes of one of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from shared import telemetry
from shared.errors import Unavailable
from shared.vocabulary import Round

Steps = Mapping[Round, Callable[[], Awaitable[object]]]
"""By the names under which the log tells of them."""


async def repeat(every: float, steps: Steps) -> None:
    """Take all steps every so many seconds, until cancelled."""
    while True:
        await take(steps)
        await asyncio.sleep(every)


async def take(steps: Steps) -> None:
    """Take each step once; one that fails keeps no other waiting, and is taken in the next round.

    A database that is away is waited for. What was not foreseen is logged with its trace and
    counted: it does not end a process that has other models to watch.
    """
    for name, step in steps.items():
        try:
            await step()
        except Unavailable as error:
            telemetry.log("round_waits", level="warning", round=name, reason=str(error))
        except Exception as error:  # noqa: BLE001 - the other steps do not wait, whatever it was
            telemetry.count("tidewheel_rounds_failed_total", round=name)
            reason = f"{type(error).__name__}: {error}"
            telemetry.log("round_failed", level="error", round=name, reason=reason, exc_info=error)
