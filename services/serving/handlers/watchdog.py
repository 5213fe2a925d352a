"""Ends a question on the loop that would not end: while it lasts nothing at all is answered.

Quick versions are asked on the loop itself. One that has taken longer than an answer may take is
interrupted by a signal as soon as Python runs again, which is at once for a loop in Python, and
counts as out of time; from then on it is asked in a thread. Code of a library that does not come
back even so for some seconds more ends the process: whoever supervises it starts it anew, and the
version, marked on the disk before, is asked in threads only. A library that hangs without letting
anybody else run stops this watch too; then `/live` is silent, and it is for the supervisor to act.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from shared import telemetry
from shared.events import Digest

SIGNAL: Final = signal.SIGUSR2
EXIT_CODE: Final = 70


class Overdue(TimeoutError):
    """A question on the loop has taken as long as an answer may."""


@dataclass(slots=True, kw_only=True)
class Watchdog:
    """Watches the one question that is being asked on the loop.

    Attributes:
        seconds: that a question may take.
        grace_seconds: after which one that cannot be interrupted ends the process.
        mark: told which version it was, before that.
    """

    seconds: float
    mark: Callable[[Digest], None]
    grace_seconds: float = 3.0
    _asking: tuple[Digest, float] | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def begin(self, digest: Digest) -> None:
        """The loop asks this version now."""
        self._asking = (digest, time.monotonic())

    def end(self) -> None:
        """It has answered."""
        self._asking = None

    async def run(self) -> None:
        """Watch until cancelled; from the main thread, which alone can be interrupted."""
        signal.signal(SIGNAL, self._interrupt)
        watching = threading.Thread(
            target=self._watch, args=[threading.get_ident()], name="watchdog", daemon=True
        )
        watching.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._over.set()  # the handler stays: without it a late signal would end the process

    def _watch(self, asker: int) -> None:
        while not self._over.wait(min(0.25, self.seconds / 4)):
            asking = self._asking
            if asking is None:
                continue
            seconds = time.monotonic() - asking[1]
            if seconds > self.seconds + self.grace_seconds:
                self._leave(asking[0])
            elif seconds > self.seconds:
                signal.pthread_kill(asker, SIGNAL)

    def _interrupt(self, *_: object) -> None:
        # Runs in the thread that asks, between two of its steps: what is asked cannot change.
        asking = self._asking
        if asking is not None and time.monotonic() - asking[1] > self.seconds:
            self._asking = None
            raise Overdue

    def _leave(self, digest: Digest) -> None:
        telemetry.log("version_hangs", level="error", digest=digest, reason="the process ends")
        try:
            self.mark(digest)
        finally:
            os._exit(EXIT_CODE)
