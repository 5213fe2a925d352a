"""One partition's worker: takes its letters in order and knows how far the offset may go."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from shared import clock
from shared.broker import Reach
from shared.inbox import Inbox
from shared.letters import Letter, Record

FULL: Final = 500
"""Queued letters above which the broker is asked for no more."""
LOW: Final = 100
"""Queued letters below which it is asked again."""
MOST_HELD: Final = 1_000
"""Letters held behind missing ones, above which the partition stands still."""


P = TypeVar("P")


class _Abandoned(Exception):
    """The partition is wanted elsewhere while its event waits for another try."""


class Worker:
    """Works off one partition, one batch after the other."""

    def __init__(self, inbox: Inbox, slots: asyncio.Semaphore, on_move: Callable[[], None]) -> None:
        """Begin to work off what will be put.

        Args:
            slots: turns that it shares with the workers of other partitions.
            on_move: called when letters are finished, and when they have to be tried again.
        """
        self._inbox = inbox
        self.slots = slots
        self.has_slot = False
        self._on_move = on_move
        self._queue: deque[Letter] = deque()
        self._filled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._held: dict[str, dict[int, Letter]] = {}
        self._done: int | None = None
        self.committed: int | None = None
        self.heard: int | None = None
        """The offset behind the last record that came."""
        self.waits_for = ""
        """Why the first letter is being tried again; empty while everything works."""
        self.alive_at = time.monotonic()
        """Last sign of life: it had work again, got its turn, ended a try, or finished letters."""
        self._task = asyncio.create_task(self._run())

    @property
    def position(self) -> int | None:
        """The offset that may be committed: nothing before it is unfinished."""
        held = [one.record.offset for letters in self._held.values() for one in letters.values()]
        return min([*held, *([self._done] if self._done is not None else [])], default=None)

    @property
    def queued(self) -> int:
        """Letters that wait, the one in work included."""
        return len(self._queue)

    @property
    def oldest_seconds(self) -> float:
        """Age of the oldest letter here that is not finished; 0 without one."""
        held = [one.record for letters in self._held.values() for one in letters.values()]
        waiting = [*held, *(letter.record for letter in islice(self._queue, 1))]
        known = [record.sent_at for record in waiting if record.sent_at is not None]
        return max(0.0, clock.now().timestamp() - min(known)) if known else 0.0

    @property
    def held_subjects(self) -> list[str]:
        """Subjects that stand still because an event of theirs is missing."""
        return sorted(self._held)

    def put(self, records: Sequence[Record]) -> None:
        """Queue records as they came."""
        if not self._queue:
            self.live()
        self._queue.extend(self._inbox.read(record) for record in records)
        if records:
            self.heard = records[-1].offset + 1
        self._filled.set()

    def live(self) -> None:
        """Note that something has happened."""
        self.alive_at = time.monotonic()

    def check(self) -> None:
        """Raise what ended the worker, if something did."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()

    async def drain(self, seconds: float) -> None:
        """Finish the letter in work, or cancel it after so long; the rest is left to others."""
        self._stopping.set()
        self._filled.set()
        _, late = await asyncio.wait({self._task}, timeout=seconds)
        if late:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while not self._stopping.is_set():
            if self._queue:
                try:
                    await self._step()
                except _Abandoned:
                    return
            else:
                self._filled.clear()
                await self._filled.wait()

    async def _step(self) -> None:
        batch = self._inbox.batch(self._queue)
        held = await self._take(batch)
        self._finish(batch, held)
        for letter in batch:
            if letter.subject in self._held and letter not in held:
                await self._catch_up(letter)
        self._on_move()
        if sum(map(len, self._held.values())) >= MOST_HELD:
            self.waits_for = "too many events wait for missing ones"
            await self._stopping.wait()

    def _finish(self, batch: Sequence[Letter], held: Sequence[Letter]) -> None:
        for letter in held:
            self._held.setdefault(letter.subject, {})[letter.sequence or 0] = letter
        for _ in batch:
            self._queue.popleft()
        self._done = batch[-1].record.offset + 1
        self.waits_for = ""
        self.live()

    async def _catch_up(self, letter: Letter) -> None:
        """A missing event came after all: those held behind it follow, as far as they go."""
        waiting, sequence = self._held[letter.subject], letter.sequence or 0
        while (following := waiting.get(sequence + 1)) is not None:
            if await self._take([following]):
                return
            sequence += 1
        for old in [number for number in waiting if number <= sequence]:
            del waiting[old]
        if not waiting:
            del self._held[letter.subject]

    async def _take(self, letters: Sequence[Letter]) -> list[Letter]:
        await self._occupy()
        try:
            return await self._inbox.take(letters, self._wait)
        finally:
            self._vacate()

    async def _wait(self, seconds: float) -> None:
        """Sleep between two tries; others may use the connection meanwhile."""
        self.waits_for = "a part of the system that does not answer"
        self.live()
        self._vacate()
        self._on_move()
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            await self._occupy()
        else:
            raise _Abandoned

    async def _occupy(self) -> None:
        await self.slots.acquire()
        self.has_slot = True
        self.live()

    def _vacate(self) -> None:
        if self.has_slot:
            self.has_slot = False
            self.slots.release()


class Starving(Generic[P]):
    """Partitions of which the broker has more than it has given, and since when.

    A look by itself says little: an answer of the broker tells the new end of a partition a moment
    before its records are taken.
    """

    def __init__(self) -> None:
        self._since: dict[P, tuple[int, float]] = {}

    def look(self, reaches: Mapping[P, Reach | None]) -> None:
        """Note who has more to come at this moment; whoever was given something begins anew."""
        now = time.monotonic()
        before, self._since = self._since, {}
        for place, reach in reaches.items():
            if reach is not None and reach.end > reach.read_to:
                read_to, since = before.get(place, (None, now))
                self._since[place] = reach.read_to, since if read_to == reach.read_to else now

    def for_longer_than(self, seconds: float, place: P) -> bool:
        """Whether looks so far apart have found the same record still to come."""
        _, since = self._since.get(place, (0, None))
        return since is not None and time.monotonic() - since > seconds


def lag_of(worker: Worker | None, reach: Reach | None, *, is_taken: bool = True) -> int:
    """Records that are not finished, whether they are here or still on the broker.

    Args:
        is_taken: whether all that the consumer has read has been given to its worker.
    """
    position = worker.position if worker is not None else None
    if worker is None or position is None or reach is None:
        return worker.queued if worker is not None else 0
    # Who has finished all that came waits for nothing in front of the next record.
    is_done = is_taken and position == worker.heard
    return max(0, reach.end - (max(position, reach.read_to) if is_done else position))


def standing_still(
    workers: Mapping[P, Worker], seconds: float, is_starved: Callable[[P], bool]
) -> P | None:
    """A partition that a new process might help; None where there is none.

    Whoever has a turn gives a sign of life within these seconds. Whoever waits for a turn stands
    still only when nobody gives one whom turns are shared with: many partitions may wait long for
    one turn. Whoever knows what it waits for would find the same in a new process.

    Args:
        workers: all of one consumer.
        is_starved: whether the broker has had records for so long for a partition that has none
            here, and they are asked for.
    """
    since = time.monotonic() - seconds
    lively = {worker.slots for worker in workers.values() if worker.alive_at > since}
    for place, worker in workers.items():
        if worker.alive_at > since:
            continue
        if worker.has_slot:
            return place
        if worker.waits_for:
            continue
        if worker.slots not in lively if worker.queued else is_starved(place):
            return place
    return None
