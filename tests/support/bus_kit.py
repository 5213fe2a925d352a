"""One small service to try a bus with, and the buses it is tried on.

The service hears dataset versions (sequenced) and offers (not sequenced). Its effect is a line in
a list or a row in a table; what it says is that nothing is trained.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from shared import clock
from shared.broker import Message, Publisher
from shared.bus import Bus, Timing, drop_parked, ensure_topics, list_parked, retry_parked
from shared.codec import decode
from shared.errors import BrokerUnavailable
from shared.events import (
    DatasetName,
    DatasetOffered,
    DatasetPublished,
    DatasetRefused,
    Digest,
    Event,
    Heard,
    ModelName,
    Reason,
    TrainingSkipped,
)
from shared.faust_streams import FaustStreams
from shared.ids import uuid7
from shared.inbox import Limits
from shared.memory import Member, MemoryBus
from shared.outbox import Relay
from shared.postgres import Database
from shared.reactions import Reaction, on
from shared.topics import DATASETS, TRAINING, Topic, topic_of
from shared.turned_away import count_turned_away
from tests.support.waiting import eventually

MARKER = "zz-marker"
QUICK = Timing(session_seconds=2.0, drain_seconds=2.0, commit_seconds=0.1, unassigned_seconds=5.0)
FEW = Limits(ready_tries=4, ready_seconds=20.0, parked=12)
EFFECTS = (
    "create table effect (id bigserial primary key, subject text not null, number integer not null)"
)


def a_version(dataset: str, version: int) -> DatasetPublished:
    return DatasetPublished(
        dataset=DatasetName(dataset),
        version=version,
        digest=Digest("0" * 64),
        format="csv",
        size_bytes=1,
        rows=10,
        columns={"a": "number"},
        profile=Digest("0" * 64),
        published_by="a test",
    )


def an_offer(dataset: str, number: int) -> DatasetOffered:
    return DatasetOffered(dataset=DatasetName(dataset), uri=f"lake:{number}")


def a_refusal(dataset: str) -> DatasetRefused:
    return DatasetRefused(
        dataset=DatasetName(dataset), reasons=(Reason(pointer="", detail="no"),), offered_by="x"
    )


def heard(event: Event, sequence: int | None = None, *, event_id: UUID | None = None) -> Heard[Any]:
    """An event in its envelope, as another service would have sent it."""
    chosen = event_id or uuid7()
    return Heard(
        event=event,
        id=chosen,
        source="//tidewheel/registry",
        time=clock.now(),
        correlation=chosen,
        sequence=sequence,
    )


def versions(dataset: str, *numbers: int) -> list[Heard[Any]]:
    """Versions of a dataset whose sequence is their number."""
    return [heard(a_version(dataset, number), number) for number in numbers]


@dataclass(slots=True)
class Script:
    """What the reaction does: fails as told, waits as told, then has its effect."""

    poison: dict[tuple[str, int], Exception] = field(default_factory=dict)
    """Raised each time."""
    failures: dict[tuple[str, int], list[Exception]] = field(default_factory=dict)
    """Raised one after the other, then no more."""
    gates: dict[tuple[str, int], asyncio.Event] = field(default_factory=dict)
    started: list[tuple[str, int]] = field(default_factory=list)

    def fail(self, subject: str, number: int, *errors: Exception) -> None:
        self.failures[subject, number] = list(errors)

    def tries(self, subject: str, number: int) -> int:
        return self.started.count((subject, number))

    def hold(self, subject: str, number: int) -> asyncio.Event:
        """The reaction to this event waits until the returned gate is opened."""
        self.gates[subject, number] = asyncio.Event()
        return self.gates[subject, number]


class Effects(Protocol):
    async def add(self, subject: str, number: int) -> None: ...
    async def all(self) -> list[tuple[str, int]]: ...


@dataclass(slots=True)
class EffectsInMemory:
    lines: list[tuple[str, int]] = field(default_factory=list)

    async def add(self, subject: str, number: int) -> None:
        self.lines.append((subject, number))

    async def all(self) -> list[tuple[str, int]]:
        return [line for line in self.lines if line[0] != MARKER]


@dataclass(frozen=True, slots=True)
class EffectsInDatabase:
    database: Database

    async def add(self, subject: str, number: int) -> None:
        await self.database.execute(
            "insert into effect (subject, number) values ($1, $2)", subject, number
        )

    async def all(self) -> list[tuple[str, int]]:
        rows = await self.database.fetch(
            "select subject, number from effect where subject <> $1 order by id", MARKER
        )
        return [(row["subject"], row["number"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Skipper:
    """The service: every version and every offer has its effect; versions are answered."""

    effects: Effects
    script: Script
    together: int = 1

    def reactions(self) -> list[Reaction]:
        return [
            on(DatasetPublished, self.skip, together=self.together),
            on(DatasetOffered, self.note, together=self.together),
        ]

    async def skip(self, heard: Heard[DatasetPublished]) -> list[Event]:
        event = heard.event
        await self._play(event.dataset, event.version)
        return [
            TrainingSkipped(
                model=ModelName(event.dataset),
                dataset=event.dataset,
                dataset_version=event.version,
                trigger="dataset",
                reason="nothing_new",
                detail="",
            )
        ]

    async def note(self, heard: Heard[DatasetOffered]) -> list[Event]:
        await self._play(heard.event.dataset, int(heard.event.uri.partition(":")[2]))
        return []

    async def _play(self, subject: str, number: int) -> None:
        self.script.started.append((subject, number))
        await self.effects.add(subject, number)
        gate = self.script.gates.get((subject, number))
        if gate is not None:
            await gate.wait()
        if (subject, number) in self.script.poison:
            raise self.script.poison[subject, number]
        failures = self.script.failures.get((subject, number))
        if failures:
            raise failures.pop(0)


class Delivery(Protocol):
    """A bus with the service on it, as the contract sees it."""

    script: Script
    tries_together: int
    """How often an event may be tried with others before it is tried alone."""

    async def put(self, *heards: Heard[Any]) -> None:
        """Put events on their topics as they are."""
        ...

    async def put_bytes(self, topic: Topic, key: bytes | None, value: bytes | None) -> None: ...

    async def settle(self) -> None:
        """Everything put so far is finished, or stands still for good."""
        ...

    async def effects(self) -> list[tuple[str, int]]: ...

    async def said(self) -> list[tuple[str, int]]:
        """What the service answered: subject and version."""
        ...

    async def parked(self) -> list[tuple[str, int | None, str]]:
        """Dead letters in order: subject, sequence, what failed."""
        ...

    async def turned_away(self) -> int:
        """How many outsiders' records found no room among the dead letters."""
        ...

    async def retry(self, subject: str, topic: Topic = DATASETS) -> int: ...

    async def drop(self, subject: str, *, by: str, second: str) -> int: ...

    async def close(self) -> None: ...


class MemoryDelivery:
    tries_together = 0

    def __init__(self) -> None:
        self.script = Script()
        self._effects = EffectsInMemory()
        self.bus = MemoryBus()
        self.member: Member = self.bus.join(
            "trainer", Skipper(self._effects, self.script).reactions(), limits=FEW
        )

    async def put(self, *heards: Heard[Any]) -> None:
        for one in heards:
            self.bus.put(topic_of(type(one.event)), one)

    async def put_bytes(self, topic: Topic, key: bytes | None, value: bytes | None) -> None:
        self.bus.put_bytes(topic, key, value)

    async def settle(self) -> None:
        await self.bus.settle()

    async def effects(self) -> list[tuple[str, int]]:
        return await self._effects.all()

    async def said(self) -> list[tuple[str, int]]:
        skipped = [one.event for one in self.bus.said if isinstance(one.event, TrainingSkipped)]
        return [(event.dataset, event.dataset_version) for event in skipped]

    async def parked(self) -> list[tuple[str, int | None, str]]:
        return [(one.subject, one.sequence, failure) for one, failure in self.member.parked]

    async def turned_away(self) -> int:
        return len(self.member.turned_away)

    async def retry(self, subject: str, topic: Topic = DATASETS) -> int:
        return await self.member.retry_parked(topic.name, subject)

    async def drop(self, subject: str, *, by: str, second: str) -> int:
        return self.member.drop_parked(DATASETS.name, subject, by=by, second=second)

    async def close(self) -> None:
        """Nothing is open."""


class BrokerDelivery:
    """What the buses over the real broker have in common."""

    limits: Limits = FEW

    def __init__(self, database: Database, kafka: str, prefix: str, *, together: int = 1) -> None:
        self.tries_together = int(together > 1)
        self.database = database
        self.kafka = kafka
        self.prefix = prefix
        self.script = Script()
        self.skipper = Skipper(EffectsInDatabase(database), self.script, together)
        self.publisher = Publisher(kafka, prefix)
        self._markers = 0
        self._running: list[asyncio.Task[None]] = []
        self._stops: list[Callable[[], Awaitable[None]]] = []

    async def prepare(self, *, partitions: int = 1) -> None:
        await ensure_topics(self.kafka, prefix=self.prefix, partitions=partitions)
        await self.database.execute(EFFECTS)

    async def open(self) -> None:
        await self.prepare()
        await self.start()

    async def start(self, replica: str = "0") -> None:
        raise NotImplementedError

    def run(self, run: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
        self._running.append(asyncio.ensure_future(run()))
        self._stops.append(stop)

    async def restart(self) -> None:
        """End what runs, and start its successor."""
        for stop in self._stops:
            await stop()
        self._stops.clear()
        await self.start()

    async def put(self, *heards: Heard[Any]) -> None:
        await self.publisher.send([(topic_of(type(one.event)), one) for one in heards])

    async def put_patiently(self, *heards: Heard[Any]) -> None:
        """Like `put`, while the broker may be away: again until it is acknowledged."""
        while True:
            try:
                await self.put(*heards)
            except BrokerUnavailable:
                continue
            else:
                return

    async def put_bytes(self, topic: Topic, key: bytes | None, value: bytes | None) -> None:
        await self.publisher.send_messages([Message(topic=topic.name, key=key, value=value)])

    async def settle(self) -> None:
        """With one partition per topic, a marker that is done has everything before it done."""
        self._markers += 1
        number = self._markers
        await self.put(heard(a_version(MARKER, number), number), heard(an_offer(MARKER, number)))
        await eventually(
            lambda: self._has_effects(MARKER, number, 2), what="the end of what was put"
        )

    async def _has_effects(self, subject: str, number: int, times: int) -> bool:
        found = await self.database.fetchval(
            "select count(*) from effect where subject = $1 and number = $2", subject, number
        )
        return int(found) >= times

    async def until_effect(self, subject: str, number: int, *, seconds: float = 30.0) -> None:
        await eventually(
            lambda: self._has_effects(subject, number, 1),
            what=f"effect {subject}/{number}",
            timeout_seconds=seconds,
        )

    async def until_started(self, subject: str, number: int) -> None:
        async def has_started() -> bool:
            return (subject, number) in self.script.started

        await eventually(has_started, what=f"start of {subject}/{number}")

    async def until_any_started(self, *starts: tuple[str, int]) -> None:
        """Streams take one transaction at a time, so which comes first is the broker's choice."""

        async def has_started() -> bool:
            return any(one in self.script.started for one in starts)

        await eventually(has_started, what=f"start of one of {starts}")

    async def effects(self) -> list[tuple[str, int]]:
        return await self.skipper.effects.all()

    async def said(self) -> list[tuple[str, int]]:
        rows = await self.database.fetch(
            "select payload from said where topic = $1 and subject <> $2 "
            "order by said_at, sequence",
            TRAINING.name,
            MARKER,
        )
        return [_answer(bytes(row["payload"])) for row in rows]

    async def parked(self) -> list[tuple[str, int | None, str]]:
        return [
            (one.subject, one.sequence, one.failure) for one in await list_parked(self.database)
        ]

    async def turned_away(self) -> int:
        return sum((await count_turned_away(self.database)).values())

    async def retry(self, subject: str, topic: Topic = DATASETS) -> int:
        reactions = self.skipper.reactions()
        return await retry_parked(self.database, reactions, topic.name, subject)

    async def drop(self, subject: str, *, by: str, second: str) -> int:
        return await drop_parked(self.database, DATASETS.name, subject, by=by, second=second)

    async def close(self) -> None:
        for stop in self._stops:
            await stop()
        ended = await asyncio.gather(*self._running, return_exceptions=True)
        await self.publisher.close()
        errors = [error for error in ended if isinstance(error, Exception)]
        if errors:
            raise errors[0]


class BusDelivery(BrokerDelivery):
    """On the kernel's own loop."""

    buses: list[Bus]

    async def start(self, replica: str = "0") -> None:
        bus = Bus(
            self.database,
            self.kafka,
            "trainer",
            self.skipper.reactions(),
            topic_prefix=self.prefix,
            replica=replica,
            timing=QUICK,
            limits=self.limits,
        )
        self.buses = [*getattr(self, "buses", []), bus]
        self.run(bus.run, bus.stop)


class FaustDelivery(BrokerDelivery):
    """On Faust; the relay runs beside it."""

    adapters: list[FaustStreams]

    async def start(self, replica: str = "0") -> None:
        streams = FaustStreams(
            self.database,
            self.kafka,
            "trainer",
            self.skipper.reactions(),
            topic_prefix=self.prefix,
            replica=replica,
            session_seconds=2.0,
            drain_seconds=2.0,
            limits=self.limits,
        )
        self.adapters = [*getattr(self, "adapters", []), streams]
        self.run(streams.run, streams.stop)
        relay = Relay(self.database, self.kafka, self.prefix)
        task = asyncio.ensure_future(relay.run())

        async def end_relay() -> None:
            task.cancel()
            await asyncio.wait({task})

        self._stops.append(end_relay)


def _answer(payload: bytes) -> tuple[str, int]:
    event = decode(payload).event
    assert isinstance(event, TrainingSkipped)
    return event.dataset, event.dataset_version


def of(subject: str, pairs: Iterable[tuple[str, int]]) -> list[int]:
    """The numbers of one subject, in order."""
    return [number for name, number in pairs if name == subject]
