"""The bus in one process: the same rules of order, repetition and parking, no broker, no database.

For tests of reactions and of whole cascades of them. It cannot take back what a reaction did
before it failed; everything else behaves as on the real bus and passes the same contract suite.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from shared import clock, codec
from shared.errors import Conflict, InvalidInput, NotFound, NotReady, Unavailable
from shared.events import Event, EventParked, Heard
from shared.ids import derived, uuid7
from shared.inbox import Limits, place_of
from shared.letters import Letter, Reader, Record
from shared.parking import ParkingFull
from shared.postgres import Cause
from shared.reactions import Reaction, topics_heard
from shared.topics import Topic, topic_of

BETWEEN_TRIES_SECONDS: Final = 0.001
_PARTITION: Final = 0


@dataclass(slots=True)
class MemoryBus:
    """Carries what is said to every member that hears its topic, in the order of saying."""

    members: list["Member"] = field(default_factory=list)
    log: dict[str, list[Record]] = field(default_factory=dict)
    """Everything ever said, by topic; the offset is the index."""
    said: list[Heard[Event]] = field(default_factory=list)
    _heads: dict[tuple[str, str], int] = field(default_factory=dict)
    _waiting: deque[Record] = field(default_factory=deque)

    def join(
        self,
        service: str,
        reactions: Iterable[Reaction],
        *,
        limits: Limits | None = None,
    ) -> "Member":
        """A service that reacts from now on, from the beginning of its topics."""
        member = Member(self, service, tuple(reactions), limits or Limits())
        self.members.append(member)
        return member

    def say(
        self, service: str, events: Iterable[Event], cause: Cause | None = None, step: str = ""
    ) -> list[Heard[Event]]:
        """What a service says; it is delivered by `settle`."""
        why = cause or Cause.outside()
        spoken = [
            self._envelope(service, event, why, derived_from(why, event, step, place))
            for place, event in enumerate(events)
        ]
        for heard in spoken:
            self.said.append(heard)
            self.put(topic_of(type(heard.event), service), heard)
        return spoken

    def put(self, topic: Topic, heard: Heard[Event]) -> Record:
        """Append an event as it is, as any client could, and queue it for its readers."""
        return self.put_bytes(topic, heard.event.subject.encode(), codec.encode(heard))

    def put_bytes(self, topic: Topic, key: bytes | None, value: bytes | None) -> Record:
        """Append any bytes at all."""
        records = self.log.setdefault(topic.name, [])
        record = Record(
            topic=topic.name, partition=_PARTITION, offset=len(records), key=key, value=value
        )
        records.append(record)
        self._waiting.append(record)
        return record

    async def settle(self) -> None:
        """Deliver until nothing waits: everything that was said has had its consequences."""
        while self._waiting:
            record = self._waiting.popleft()
            for member in self.members:
                if record.topic in member.topics:
                    await member.deliver(record)

    def _envelope(self, service: str, event: Event, cause: Cause, event_id: UUID) -> Heard[Event]:
        topic = topic_of(type(event), service)
        sequence = None
        if topic.sequenced:
            sequence = self._heads.get((topic.name, event.subject), 0) + 1
            self._heads[topic.name, event.subject] = sequence
        return Heard(
            event=event,
            id=event_id,
            source=f"//tidewheel/{service}",
            time=clock.now(),
            correlation=cause.correlation,
            causation=cause.id,
            sequence=sequence,
            traceparent=cause.traceparent,
        )


def derived_from(cause: Cause, event: Event, step: str, place: int) -> UUID:
    """The id that the outbox would give."""
    base = cause.base or cause.id
    return derived(base, event.TYPE, event.subject, step, place) if base else uuid7()


@dataclass(slots=True)
class Member:
    """One service on the bus, with its watermarks and its dead letters."""

    bus: MemoryBus
    service: str
    reactions: tuple[Reaction, ...]
    limits: Limits
    topics: frozenset[str] = frozenset()
    parked: list[tuple[Letter, str]] = field(default_factory=list)
    """Dead letters with the name of what failed, oldest first."""
    turned_away: list[Letter] = field(default_factory=list)
    """The newest of outsiders' records for which there was no room."""
    missing: list[Letter] = field(default_factory=list)
    """Events that cannot be taken because one before them is missing."""
    _marks: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    _heard: set[UUID] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.topics = frozenset(topic.name for topic in topics_heard(self.reactions, self.service))

    async def deliver(self, record: Record) -> None:
        """Take one record; a missing event that comes at last brings those behind it along."""
        await self._take(Reader(self.reactions).read(record))
        held, self.missing = self.missing, []
        for letter in sorted(held, key=lambda one: one.sequence or 0):
            await self._take(letter)

    async def retry_parked(self, topic: str, subject: str) -> int:
        """React to a subject's dead letters in order; nothing changes when one fails.

        Where there is no order, those that do not fail are done.
        """
        mine = self._parked_of(topic, subject)
        if not mine[0][0].topic.sequenced:
            return await self._retry_each(mine)
        said: list[tuple[Cause, list[Event]]] = []
        for letter, _ in mine:
            again = Reader(self.reactions).read(letter.record)
            if again.failure is not None:
                raise again.failure
            said += await _react(again)
        self._release(topic, subject)
        for cause, events in said:
            self.bus.say(self.service, events, cause)
        return len(mine)

    async def _retry_each(self, mine: Sequence[tuple[Letter, str]]) -> int:
        failed: Exception | None = None
        done = 0
        for one in mine:
            again = Reader(self.reactions).read(one[0].record)
            try:
                said = await self._attempt(again)
            except Exception as error:  # noqa: BLE001 - told when nothing at all could be done
                failed = failed or error
                continue
            self.parked = [kept for kept in self.parked if kept is not one]
            done += 1
            for cause, events in said:
                self.bus.say(self.service, events, cause)
        if failed is not None and not done:
            raise failed
        return done

    def drop_parked(self, topic: str, subject: str, *, by: str, second: str) -> int:
        """Give a subject's dead letters up; two people have to agree."""
        if not by or not second:
            raise InvalidInput("dropping events needs the names of two people")
        if by == second:
            raise Conflict("the second person has to be somebody else")
        mine = self._parked_of(topic, subject)
        self._release(topic, subject)
        return len(mine)

    async def _take(self, letter: Letter) -> None:
        place = self._place(letter)
        if place == "repeat":
            return
        if place == "gap":
            self.missing.append(letter)
        elif place == "behind":
            self._park(letter, "Behind", "an earlier event of this subject is parked")
        else:
            await self._react_or_park(letter)

    def _place(self, letter: Letter) -> str:
        if letter.sequence is not None:
            mark = self._marks.get((letter.topic.name, letter.subject))
            return place_of(letter.sequence, mark, letter.topic)
        return "repeat" if letter.id in self._heard else "next"

    async def _react_or_park(self, letter: Letter) -> None:
        for tries in range(1, 1_000_000):
            try:
                said = await self._attempt(letter)
            except Unavailable:
                await asyncio.sleep(BETWEEN_TRIES_SECONDS)
            except NotReady as error:
                if tries >= self.limits.ready_tries:
                    return self._park(letter, "NotReady", str(error))
                await asyncio.sleep(BETWEEN_TRIES_SECONDS)
            except Exception as error:  # noqa: BLE001 - the unforeseen counts as unprocessable
                return self._park(letter, type(error).__name__, str(error))
            else:
                self._advance(letter, parked=False)
                for cause, events in said:
                    self.bus.say(self.service, events, cause)
                return None
        return None

    async def _attempt(self, letter: Letter) -> list[tuple[Cause, list[Event]]]:
        if letter.failure is not None:
            raise letter.failure
        return await _react(letter)

    def _park(self, letter: Letter, failure: str, reason: str) -> None:
        if letter.topic.outsiders:
            if not self._has_room(letter):
                self.turned_away = [*self.turned_away, letter][-self.limits.turned_away :]
                return
        elif (parked := len(self._own_parked())) >= self.limits.parked:
            raise ParkingFull(self.service, parked)
        self._advance(letter, parked=True)
        self.parked.append((letter, failure))
        if letter.type == EventParked.TYPE:
            return
        announcement = EventParked(
            parked_subject=letter.subject,
            service=self.service,
            consumer=self.service,
            topic=letter.topic.name,
            partition=letter.record.partition,
            offset=letter.record.offset,
            event=letter.type,
            event_sequence=letter.sequence,
            failure=failure,
            reason=reason,
            trace="",
            payload="",
        )
        cause = Cause.of(letter.heard) if letter.heard else None
        self.bus.say(self.service, [announcement], cause, "parked")

    def _own_parked(self) -> list[Letter]:
        return [letter for letter, _ in self.parked if not letter.topic.outsiders]

    def _has_room(self, letter: Letter) -> bool:
        of_topic = [1 for one, _ in self.parked if one.topic == letter.topic]
        fits = letter.record.size_bytes <= codec.MAX_EVENT_BYTES
        return fits and len(of_topic) < self.limits.parked

    def _advance(self, letter: Letter, *, parked: bool) -> None:
        if letter.sequence is not None:
            self._marks[letter.topic.name, letter.subject] = (letter.sequence, parked)
        elif letter.id is not None:
            self._heard.add(letter.id)

    def _parked_of(self, topic: str, subject: str) -> list[tuple[Letter, str]]:
        mine = [
            one for one in self.parked if (one[0].topic.name, one[0].subject) == (topic, subject)
        ]
        if not mine:
            raise NotFound(f"nothing of {subject!r} on {topic} is parked")
        return mine

    def _release(self, topic: str, subject: str) -> None:
        mine = self._parked_of(topic, subject)
        self.parked = [one for one in self.parked if one not in mine]
        if (topic, subject) in self._marks:
            self._marks[topic, subject] = (self._marks[topic, subject][0], False)


async def _react(letter: Letter) -> list[tuple[Cause, list[Event]]]:
    if letter.reaction is None or letter.heard is None:
        return []
    events: Sequence[Event] = list(await letter.reaction.react(letter.heard))
    return [(Cause.of(letter.heard), list(events))] if events else []
