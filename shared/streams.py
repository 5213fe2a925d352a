"""Streams of many small records: the kernel's unit of work for whatever library carries them.

Several records of one partition share a transaction, and what a handler keeps in memory is saved
in it together with the offset up to which it was applied.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Generic, Protocol, TypeVar

from shared.events import Event, Heard
from shared.inbox import Inbox, Limits, react_in_turn
from shared.letters import Letter, Record
from shared.partitions import FULL, LOW, Worker
from shared.postgres import Cause, Database, Transaction
from shared.reactions import Reaction
from shared.topics import Topic

Positions = Mapping[tuple[str, int], int]
"""Next offset to apply, by topic (without prefix) and partition."""

HandleBatch = Callable[[Sequence[Heard[Any]], Positions], Awaitable[Iterable[Event]]]
E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A topic whose records are handled several at a time.

    Attributes:
        topic: all its types are handled.
        handle: gets records of one partition in order, none of them seen before, and the
            positions that hold once they are applied; everything it saves is in one transaction.
            It is called again for the same records, fewer at a time, when it failed.
        together: so many records share a transaction at most.
        beside: so many transactions, each of its own partition, run beside each other. More than
            one only where the handler keeps nothing in memory that a transaction may undo.
        about: the subjects that a record may have something said about: what is said of one of
            them is caused by the last record about it, and by nobody else's.
    """

    topic: Topic
    handle: HandleBatch
    together: int = 100
    beside: int = 1
    about: Callable[[Any], Iterable[str]] = lambda event: (event.subject,)


class Carried(Protocol):
    """A record in the hands of the library that carries it."""

    @property
    def offset(self) -> int:
        """Its place in its partition."""
        ...

    def acknowledge(self) -> None:
        """Its work is committed; the library may commit its offset."""
        ...


C = TypeVar("C", bound=Carried)
Place = tuple[str, int]
"""Topic (without prefix) and partition."""
Hold = Callable[[Place, bool], None]
"""Asks the broker for no more records of a partition, or for them again."""


@dataclass(slots=True)
class _Lane(Generic[C]):
    """One partition: its worker, and the records not acknowledged yet."""

    worker: Worker
    room: asyncio.Event
    full: int = FULL
    unacknowledged: deque[C] = field(default_factory=deque)

    @property
    def is_full(self) -> bool:
        return self.worker.queued > self.full

    @property
    def has_room(self) -> bool:
        return self.worker.queued < max(LOW, self.full // 2)

    def acknowledge(self) -> None:
        position = self.worker.position
        while self.unacknowledged and position and self.unacknowledged[0].offset < position:
            self.unacknowledged.popleft().acknowledge()


class Lanes(Generic[C]):
    """Takes carried records into the unit of work, and acknowledges them in order after it.

    One transaction at a time, but for streams that say otherwise: a handler may keep state in
    memory without locking it.
    """

    def __init__(
        self,
        database: Database,
        consumer: str,
        reactions: Sequence[Reaction],
        streams: Sequence[Stream],
        limits: Limits | None = None,
        hold: Hold | None = None,
    ) -> None:
        self._hold = hold or (lambda _place, _held: None)
        self._streams = {stream.topic.name: stream for stream in streams}
        rows = [
            Reaction(kind, _not_called, stream.together)
            for stream in streams
            for kind in stream.topic.types
        ]
        self._inbox = Inbox(
            database, consumer, [*reactions, *rows], limits=limits, react=self._react
        )
        self._slot = asyncio.Semaphore(1)
        self._own_slots = {
            stream.topic.name: asyncio.Semaphore(stream.beside)
            for stream in streams
            if stream.beside > 1
        }
        self._lanes: dict[Place, _Lane[C]] = {}
        self._is_blocked = False
        self._free_since = time.monotonic()

    async def put(self, record: Record, carried: C) -> None:
        """Queue a record; waits while its partition works and has too many.

        A partition that waits for something else would keep all others waiting. The broker is
        asked for no more of it instead; what is on its way is still queued.
        """
        place = (record.topic, record.partition)
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = self._lane(place)
        lane.worker.check()
        lane.unacknowledged.append(carried)
        lane.worker.put([record])
        if lane.is_full and not lane.worker.waits_for:
            await self._until_room(lane)
        if lane.is_full and lane.worker.waits_for and self._lanes.get(place) is lane:
            self._hold(place, True)

    def is_asking(self, seconds: float) -> bool:
        """Whether for so long no partition has kept the records of the others from coming."""
        return not self._is_blocked and time.monotonic() - self._free_since > seconds

    async def let_go(self, places: Iterable[Place], seconds: float) -> None:
        """Finish what is in work on these partitions, forget the rest: it is delivered again."""
        mine = {place: lane for place in places if (lane := self._lanes.pop(place, None))}
        lanes = list(mine.values())
        for place in mine:
            self._hold(place, False)
        await asyncio.gather(*(lane.worker.drain(seconds) for lane in lanes))
        for lane in lanes:
            lane.acknowledge()
            lane.room.set()

    async def drain(self, seconds: float) -> None:
        """Let all partitions go."""
        await self.let_go(list(self._lanes), seconds)

    def check(self) -> None:
        """Raise what ended a worker, if something did."""
        for lane in list(self._lanes.values()):
            lane.worker.check()

    def workers(self) -> dict[Place, Worker]:
        """The worker of every partition that has had a record; any thread may ask."""
        return {place: lane.worker for place, lane in self._lanes.copy().items()}

    async def _until_room(self, lane: _Lane[C]) -> None:
        """Until its queue is half empty, or it has to wait itself, or it is let go."""
        lane.room.clear()
        self._is_blocked = True
        try:
            await lane.room.wait()
        finally:
            self._is_blocked, self._free_since = False, time.monotonic()

    def _lane(self, place: Place) -> _Lane[C]:
        slots = self._own_slots.get(place[0], self._slot)
        worker = Worker(self._inbox, slots, lambda: self._acknowledge(place))
        stream = self._streams.get(place[0])
        # As many as share a transaction wait while that of those before them runs.
        return _Lane(worker, asyncio.Event(), max(FULL, stream.together if stream else 0))

    def _acknowledge(self, place: Place) -> None:
        lane = self._lanes.get(place)
        if lane is None:
            return
        lane.acknowledge()
        if lane.has_room:
            self._hold(place, False)
        if lane.has_room or lane.worker.waits_for:
            lane.room.set()

    async def _react(
        self, transaction: Transaction, letters: Sequence[Letter]
    ) -> Sequence[tuple[Cause, Event]]:
        if not letters or letters[0].topic.name not in self._streams:
            return await react_in_turn(transaction, letters)
        stream, last = self._streams[letters[0].topic.name], letters[-1].record
        lane = self._lanes.get((last.topic, last.partition))
        if lane is not None:
            lane.worker.live()
        heards = [letter.heard for letter in letters if letter.heard]
        transaction.cause = Cause.of(heards[-1])
        transaction.causes = cache(partial(_causes, stream, heards))  # of most nothing is said
        positions = {(last.topic, last.partition): last.offset + 1}
        events = await stream.handle(heards, positions)
        return [(transaction.cause_of(event.subject), event) for event in events]


def _causes(stream: Stream, heards: Sequence[Heard[Any]]) -> dict[str, Cause]:
    """The last of these records about each subject."""
    last = {subject: heard for heard in heards for subject in stream.about(heard.event)}
    return {subject: Cause.of(heard) for subject, heard in last.items()}


async def _not_called(_: Heard[Any]) -> Iterable[Event]:
    """Marks the types of a stream; the stream's own handler is what is called."""
    raise AssertionError("a stream's records go to its handler")
