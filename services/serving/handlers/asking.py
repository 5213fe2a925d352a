"""Asks versions: quick ones together on the loop, slow ones in threads, and none for ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from services.serving.domain.versions import OUT_OF_TIME, SMALL_ROWS, Loaded, Opened, Said
from services.serving.handlers.watchdog import Watchdog
from services.serving.prediction.reading import Row
from shared import telemetry
from shared.events import Digest

EXTREME: Final = 1e30
"""Beyond it sums overflow, and trees, which compare in single precision, refuse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long versions may take, and where small requests are answered."""

    answer_seconds: float
    rest_seconds: float
    inline_seconds: float
    threads: int


Asked = tuple[Sequence[Row], "asyncio.Future[list[Said]]"]
"""Rows, and where their answers are awaited."""


class Asker:
    """How this process asks its versions."""

    def __init__(
        self,
        limits: Limits,
        monotonic: Callable[[], float],
        watchdog: Watchdog,
        open_version: Callable[[Loaded], Awaitable[Opened | None]],
    ) -> None:
        self._limits = limits
        self._open_version = open_version
        self._watchdog = watchdog
        self._monotonic = monotonic
        self._together: dict[Digest, list[Asked]] = {}
        self._threads = self._new_threads()
        self._noted: Exception | None = None

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._limits.threads, thread_name_prefix="answer")

    def close(self) -> None:
        """Start no more answers."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def quick_rows(self, loaded: Loaded) -> float:
        """How many rows this version may be asked about on the loop itself.

        What is known is how long a small question took; a larger one takes longer accordingly.
        """
        health = loaded.health
        if health.has_hung or health.seconds > self._limits.inline_seconds:
            return 0
        return SMALL_ROWS * self._limits.inline_seconds / max(health.seconds, 1e-6)

    def computed(self, loaded: Loaded, inputs: tuple[Any, Any], rows: int) -> Any | None:
        """What a compiled version computes about arrays, here and now.

        None where it is not open, is not compiled, or raises: then ask it in the usual way, which
        opens it, knows what a failure means and asks again row by row.
        """
        compute = None if loaded.opened is None else loaded.opened.compute
        if compute is None:
            return None
        self._watchdog.begin(loaded.digest)
        wall, own = time.perf_counter(), time.thread_time()
        try:
            found = compute(*inputs)
        except Exception:  # noqa: BLE001 - whatever a library raises, it is asked again elsewhere
            return None
        finally:
            self._watchdog.end()
        own, wall = time.thread_time() - own, time.perf_counter() - wall
        loaded.health.answered(max(own, wall / 8), rows)
        return found

    async def said(self, loaded: Loaded, rows: Sequence[Row]) -> list[Said] | None:
        """What a version says, or None when it raised, ran out of time, or cannot be opened now."""
        opened = loaded.opened or await self._open_version(loaded)
        if opened is None:
            return None
        try:
            if len(rows) <= min(SMALL_ROWS, self.quick_rows(loaded)):
                return await self._said_together(loaded, opened, rows)
            return await self._said_in_thread(loaded, opened, rows)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the rung below answers
            self._note_failure(loaded, rows, error)
            return None

    def _asked_here(self, loaded: Loaded, opened: Opened, rows: Sequence[Row]) -> list[Said]:
        """On the loop, under watch."""
        self._watchdog.begin(loaded.digest)
        try:
            return timed(loaded, opened, rows)
        finally:
            self._watchdog.end()

    def _note_failure(self, loaded: Loaded, rows: Sequence[Row], error: Exception) -> None:
        if error is self._noted:
            return  # requests that were one question have one failure
        self._noted = error.with_traceback(None)
        cause = str(error)[:300]
        if isinstance(error, TimeoutError):
            cause = OUT_OF_TIME
            # Not on the loop again before many quick answers from a thread have made it small.
            loaded.health.seconds = max(loaded.health.seconds, self._limits.answer_seconds)
        telemetry.log("version_failed", level="warning", version=loaded.version, cause=cause)
        # A value that is missing or beyond all measure is the caller's: it must not send a version
        # to rest for all the others.
        if all(is_ordinary(row, loaded) for row in rows):
            rest_seconds = self._limits.rest_seconds
            loaded.health.failed(cause, now=self._monotonic(), rest_seconds=rest_seconds)

    def _said_together(
        self, loaded: Loaded, opened: Opened, rows: Sequence[Row]
    ) -> "asyncio.Future[list[Said]]":
        """Small requests that arrive at the same moment are one question to the version.

        Most of what a version costs is paid per question, not per row. Nobody waits for company:
        the question is asked in the next turn of the loop.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Said]] = loop.create_future()
        together = self._together.get(loaded.digest)
        if together is None:
            together = self._together[loaded.digest] = []
            loop.call_soon(self._ask_together, loaded, opened)
        together.append((rows, answer))
        return answer

    def _ask_together(self, loaded: Loaded, opened: Opened) -> None:
        together = self._together.pop(loaded.digest)
        try:
            asked = [row for rows, _ in together for row in rows]
            said = iter(self._asked_here(loaded, opened, asked))
        except Exception as error:  # noqa: BLE001 - handed to the requests that asked
            if len(together) == 1 or isinstance(error, TimeoutError):
                for _, answer in together:
                    _fail(answer, error)
                return
            for rows, answer in together:  # one of them may be to blame: each is asked for itself
                self._settle(answer, loaded, opened, rows)
            return
        for rows, answer in together:
            found = list(islice(said, len(rows)))
            if not answer.done():
                answer.set_result(found)

    async def _said_in_thread(
        self, loaded: Loaded, opened: Opened, rows: Sequence[Row]
    ) -> list[Said]:
        asking = self._threads.submit(timed, loaded, opened, rows)
        answering = asyncio.wrap_future(asking)
        done, _ = await asyncio.wait({answering}, timeout=self._limits.answer_seconds)
        if done:
            return answering.result()
        if not asking.cancel():
            # A thread cannot be stopped: the version is not asked again while two of them hang,
            # and all others go on in new ones.
            loaded.health.overdue += 1
            answering.add_done_callback(partial(_came_back, loaded))
            self._threads.shutdown(wait=False)
            self._threads = self._new_threads()
        raise TimeoutError

    def _settle(
        self,
        answer: "asyncio.Future[list[Said]]",
        loaded: Loaded,
        opened: Opened,
        rows: Sequence[Row],
    ) -> None:
        if answer.done():
            return
        try:
            answer.set_result(self._asked_here(loaded, opened, rows))
        except Exception as error:  # noqa: BLE001 - handed to the request that asked
            _fail(answer, error)


def is_ordinary(row: Row, loaded: Loaded) -> bool:
    """Whether the row has a value for everything that the version sees, and none beyond reason.

    What a version makes of other rows says nothing against it: anybody can send them.
    """
    return not any(is_odd(row.get(name)) for name in loaded.names)


def is_odd(value: Any) -> bool:
    """Whether many versions cannot do anything with a value."""
    if value is None:
        return True
    return not isinstance(value, str | bool) and abs(value) > EXTREME


def timed(loaded: Loaded, opened: Opened, rows: Sequence[Row]) -> list[Said]:
    """What a version says; how long it took goes into its health.

    Processor time tells what a version costs the loop, whatever else the machine does; a part of
    the wall time stands for what it does in threads of its own.
    """
    wall, own = time.perf_counter(), time.thread_time()
    said = opened.say(rows)
    own, wall = time.thread_time() - own, time.perf_counter() - wall
    loaded.health.answered(max(own, wall / 8), len(rows))
    return said


def _fail(answer: "asyncio.Future[list[Said]]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _came_back(loaded: Loaded, answering: "asyncio.Future[list[Said]]") -> None:
    loaded.health.overdue -= 1
    if not answering.cancelled() and answering.exception() is not None:
        telemetry.log("late_failure", level="warning", version=loaded.version)
