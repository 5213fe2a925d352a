"""Streams: several records in one transaction, together with the offset they were applied up to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from shared import clock, codec
from shared.broker import Reach, TopicPartition, reach_of
from shared.bus import Publisher, ensure_topics, list_parked
from shared.errors import StoreUnavailable
from shared.events import (
    Event,
    GroundTruthObserved,
    Heard,
    ModelName,
    PredictionRow,
    PredictionsLogged,
    RetrainingRequested,
)
from shared.faust_streams import FaustStreams, _Watch
from shared.inbox import Inbox
from shared.letters import Record
from shared.partitions import Starving, Worker, lag_of, standing_still
from shared.postgres import Database
from shared.streams import Lanes, Place, Positions, Stream
from shared.topics import FEEDBACK, PREDICTIONS
from tests.conftest import OpenDatabase
from tests.support.bus_kit import heard
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def a_batch(number: int, rows: int = 3, replica: str = "r", *, long: int = 1) -> Heard[Any]:
    return heard(
        PredictionsLogged(
            replica=replica,
            batch=number,
            columns=(("x" * long,),),
            rows=tuple(
                PredictionRow(
                    id=f"{number}-{row}",
                    model=ModelName("m"),
                    version=1,
                    manifest=None,
                    rung="champion",
                    arm="champion",
                    generation=1,
                    entity=None,
                    columns=0,
                    features=(1.0,),
                    answer=2.0,
                    score=None,
                    at=clock.now(),
                )
                for row in range(rows)
            ),
        )
    )


@dataclass(slots=True)
class Monitor:
    """Counts rows in a table and keeps its applied position beside them."""

    database: Database
    poison: int | None = None
    sizes: list[int] = field(default_factory=list)

    async def handle(
        self, heards: Sequence[Heard[PredictionsLogged]], positions: Positions
    ) -> list[Event]:
        self.sizes.append(len(heards))
        for one in heards:
            await self.database.execute(
                "insert into counted (batch, rows) values ($1, $2)",
                one.event.batch,
                len(one.event.rows),
            )
            if one.event.batch == self.poison:
                raise ValueError("a bug")
        for (topic, partition), position in positions.items():
            await self.database.execute(
                "insert into applied values ($1, $2, $3) on conflict (topic, partition) "
                "do update set position = excluded.position",
                topic,
                partition,
                position,
            )
        return []

    async def batches(self) -> list[int]:
        rows = await self.database.fetch("select batch from counted order by batch")
        return [row["batch"] for row in rows]


@pytest.fixture
async def monitor(open_database: OpenDatabase) -> Monitor:
    database = await open_database("drift_monitor")
    await database.execute("create table counted (batch integer, rows integer)")
    await database.execute(
        "create table applied (topic text, partition integer, position bigint, "
        "primary key (topic, partition))"
    )
    return Monitor(database)


@pytest.fixture
async def publisher(kafka: str, topic_prefix: str) -> AsyncIterator[Publisher]:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    publisher = Publisher(kafka, topic_prefix)
    yield publisher
    await publisher.close()


@pytest.fixture
async def streams(monitor: Monitor, kafka: str, topic_prefix: str) -> AsyncIterator[FaustStreams]:
    streams = FaustStreams(
        monitor.database,
        kafka,
        "drift_monitor",
        streams=[Stream(topic=PREDICTIONS, handle=monitor.handle, together=50)],
        topic_prefix=topic_prefix,
        session_seconds=2.0,
        drain_seconds=2.0,
    )
    running = asyncio.create_task(streams.run())
    yield streams
    await streams.stop()
    await running


async def send(publisher: Publisher, batches: Sequence[Heard[Any]]) -> None:
    await publisher.send([(PREDICTIONS, one) for one in batches])


async def until_position(monitor: Monitor, position: int) -> None:
    async def is_applied() -> bool:
        found = await monitor.database.fetchval("select max(position) from applied")
        return bool(found == position)

    await eventually(is_applied, what=f"position {position}")


@pytest.mark.usefixtures("streams")
async def test_records_share_transactions_and_repeats_count_once(
    monitor: Monitor, publisher: Publisher
) -> None:
    batches = [a_batch(number) for number in range(60)]

    await send(publisher, [*batches, *batches, a_batch(60)])
    await until_position(monitor, 121)

    assert await monitor.batches() == list(range(61))
    assert max(monitor.sizes) > 1


@pytest.mark.usefixtures("streams")
async def test_a_poison_among_many_is_parked_alone(monitor: Monitor, publisher: Publisher) -> None:
    monitor.poison = 7

    await send(publisher, [a_batch(number) for number in range(20)])
    await until_position(monitor, 20)

    assert await monitor.batches() == [number for number in range(20) if number != 7]
    assert [one.failure for one in await list_parked(monitor.database)] == ["ValueError"]


@dataclass(slots=True)
class Meeting:
    """Waits in each transaction for so many others, and notes how many were there at once."""

    others: int
    inside: int = 0
    most: int = 0
    handled: int = 0
    met: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, heards: Sequence[Heard[PredictionsLogged]], _: Positions) -> list[Event]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside > self.others:
            self.met.set()
        await self.met.wait()
        self.inside -= 1
        self.handled += len(heards)
        return []

    async def is_over(self) -> bool:
        return self.handled == 24


@pytest.mark.parametrize("beside", [1, 2])
async def test_as_many_transactions_run_beside_each_other_as_the_stream_allows(
    open_database: OpenDatabase, kafka: str, topic_prefix: str, beside: int
) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=4)
    publisher = Publisher(kafka, topic_prefix)
    meeting = Meeting(others=beside - 1)
    stream = Stream(topic=PREDICTIONS, handle=meeting.handle, together=1, beside=beside)
    streams = FaustStreams(
        await open_database("drift_monitor"),
        kafka,
        "drift_monitor",
        streams=[stream],
        topic_prefix=topic_prefix,
        session_seconds=2.0,
        drain_seconds=2.0,
    )
    running = asyncio.create_task(streams.run())

    await send(publisher, [a_batch(number, replica=f"r{number}") for number in range(24)])
    await eventually(meeting.is_over, what="all batches to be handled")
    await streams.stop()
    await running
    await publisher.close()

    assert meeting.most == beside


@asynccontextmanager
async def carried(
    database: Database,
    kafka: str,
    prefix: str,
    stream: Stream,
    *,
    stalled_seconds: float = 60.0,
    stalled: Callable[[], None] = lambda: None,
) -> AsyncIterator[FaustStreams]:
    """One stream at work; a standstill is told instead of ending this process."""
    streams = FaustStreams(
        database,
        kafka,
        "drift_monitor",
        streams=[stream],
        topic_prefix=prefix,
        session_seconds=2.0,
        drain_seconds=0.5,
        stalled_seconds=stalled_seconds,
        stalled=stalled,
    )
    running = asyncio.create_task(streams.run())
    try:
        yield streams
    finally:
        await streams.stop()
        await running


async def test_a_turn_without_end_is_told_as_a_standstill(
    open_database: OpenDatabase, kafka: str, topic_prefix: str
) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)
    publisher = Publisher(kafka, topic_prefix)
    gate, stalled = asyncio.Event(), threading.Event()

    async def handle(_: Sequence[Heard[PredictionsLogged]], __: Positions) -> list[Event]:
        await gate.wait()
        return []

    async def is_told() -> bool:
        return stalled.is_set()

    stream = Stream(topic=PREDICTIONS, handle=handle, together=1)
    async with carried(
        await open_database("drift_monitor"),
        kafka,
        topic_prefix,
        stream,
        stalled_seconds=1.0,
        stalled=stalled.set,
    ):
        await send(publisher, [a_batch(n, rows=0, replica=f"r{n}") for n in range(4)])
        await eventually(is_told, what="the standstill to be told")
        gate.set()
    await publisher.close()


async def test_only_what_a_new_process_might_help_stands_still(
    open_database: OpenDatabase,
) -> None:
    inbox = Inbox(await open_database("drift_monitor"), "a test", [])
    turns, others = asyncio.Semaphore(0), asyncio.Semaphore(0)

    def a_worker(turn: asyncio.Semaphore, *, silent: float, records: int = 0) -> Worker:
        worker = Worker(inbox, turn, lambda: None)
        worker.put([Record(topic=PREDICTIONS.name, partition=0, offset=n, key=b"", value=b"")
                    for n in range(records)])  # fmt: skip
        worker.alive_at -= silent
        return worker

    def found(is_starved: bool = False, **workers: Worker) -> str | None:
        return standing_still(workers, 60.0, lambda _: is_starved)

    waits_for_turn = a_worker(turns, silent=61, records=1)
    idle = a_worker(turns, silent=61)
    lively, lively_elsewhere = a_worker(turns, silent=1), a_worker(others, silent=1)
    knows = a_worker(turns, silent=61, records=1)
    knows.waits_for = "a database"
    has_turn = a_worker(turns, silent=61, records=1)
    has_turn.has_slot, has_turn.waits_for = True, "a database"

    assert found(a=waits_for_turn, b=lively_elsewhere) == "a"
    assert found(a=waits_for_turn, b=lively) is None
    assert found(a=knows) is None
    assert found(a=lively, b=has_turn) == "b"
    assert (found(a=idle), found(a=idle, is_starved=True)) == (None, "a")
    for worker in (waits_for_turn, idle, lively, lively_elsewhere, knows, has_turn):
        await worker.drain(0)


async def test_only_what_does_not_come_for_long_is_starved(open_database: OpenDatabase) -> None:
    """The end of a partition is told before its records, and markers are no records."""
    worker = Worker(
        Inbox(await open_database("drift_monitor"), "a test", []), asyncio.Semaphore(), lambda: None
    )
    starving: Starving[str] = Starving()

    def looked(*reaches: Reach | None) -> bool:
        for reach in reaches:
            starving.look({"a": reach})
        return starving.for_longer_than(0.0, "a")

    idle, on_its_way, behind_a_marker = Reach(10, 10), Reach(10, 11), Reach(11, 11)

    assert not starving.for_longer_than(0.0, "a")
    assert not looked(idle)
    assert not (looked(on_its_way) and starving.for_longer_than(60.0, "a"))
    assert not looked(behind_a_marker, idle)
    assert looked(on_its_way, Reach(10, 12))
    assert not looked(None)
    assert lag_of(worker, on_its_way) == lag_of(None, on_its_way) == 0
    worker.put([Record(topic=PREDICTIONS.name, partition=0, offset=9, key=b"", value=b"")])
    worker._done = 9
    assert (lag_of(worker, idle), lag_of(worker, behind_a_marker)) == (1, 2)
    worker._done = 10
    assert (lag_of(worker, idle), lag_of(worker, behind_a_marker)) == (0, 0)
    assert (lag_of(worker, behind_a_marker, is_taken=False), lag_of(worker, Reach(11, 14))) == (
        1,
        3,
    )
    await worker.drain(0)


@dataclass(slots=True)
class Log:
    """What a consumer of a partition knows."""

    highwater: int
    lso: int | None
    _position: int | None


@dataclass(slots=True)
class Partitions:
    """As the library keeps them; the watch asks nothing else."""

    log: Log

    @property
    def consumer(self) -> Any:
        assignment = SimpleNamespace(state_value=lambda part: self.log if part[1] == 0 else None)
        return SimpleNamespace(
            _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
        )


async def test_a_quiet_partition_is_none_that_stands_still(open_database: OpenDatabase) -> None:
    inbox_of = await open_database("drift_monitor")
    lanes: Lanes[Any] = Lanes(inbox_of, "a test", [], [Stream(topic=FEEDBACK, handle=not_called)])
    place = (FEEDBACK.name, 0)
    lane = lanes._lanes[place] = lanes._lane(place)
    log = Log(10, 10, 10)
    app = SimpleNamespace(
        consumer=SimpleNamespace(_thread=SimpleNamespace(_consumer=Partitions(log).consumer))
    )
    watch = _Watch(app, lanes, 60.0, lambda: None)

    def an_hour_passes() -> Place | None:
        lane.worker.alive_at -= 3600
        lanes._free_since -= 3600
        since = watch._starving._since
        watch._starving._since = {one: (at, when - 3600) for one, (at, when) in since.items()}
        return watch.stands()

    assert an_hour_passes() is None
    log.highwater = log.lso = 11  # the very instant at which a record is on its way
    assert an_hour_passes() is None
    log._position = 11
    assert an_hour_passes() is None
    log.highwater = 20  # a transaction of somebody else is open
    assert an_hour_passes() is None
    assert an_hour_passes() is None
    log.lso = 20
    assert an_hour_passes() is None
    lanes._is_blocked = True
    assert an_hour_passes() is None
    lanes._is_blocked = False
    assert an_hour_passes() == place
    log._position = None
    assert an_hour_passes() is None
    await lane.worker.drain(0)


async def not_called(_: Sequence[Heard[Any]], __: Positions) -> list[Event]:
    raise AssertionError


async def test_a_producers_transactions_are_no_standstill_and_what_it_takes_back_is_not_heard(
    monitor: Monitor, kafka: str, topic_prefix: str
) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    part = TopicPartition(topic_prefix + PREDICTIONS.name, 0)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic_prefix + "another")
    stream = Stream(topic=PREDICTIONS, handle=monitor.handle)

    async def send_one(number: int) -> None:
        one = a_batch(number)
        await producer.begin_transaction()
        await producer.send_and_wait(part.topic, codec.encode(one), key=b"r", partition=0)

    async with carried(monitor.database, kafka, topic_prefix, stream) as streams:

        def consumer() -> Any:
            return streams._app.consumer._thread._consumer if streams._app is not None else None

        async def are_read() -> bool:
            is_there = consumer() is not None and reach_of(consumer(), part) == Reach(6, 6)
            return is_there and await monitor.batches() == [0, 2]

        async def is_open() -> bool:
            return bool(consumer().highwater(part) == 7)

        await producer.start()
        for number in range(3):
            await send_one(number)
            await (producer.abort_transaction if number == 1 else producer.commit_transaction)()
        await eventually(are_read, what="what was committed, and the marker behind it")
        worker = streams._lanes.workers()[PREDICTIONS.name, 0]
        lag = lag_of(worker, reach_of(consumer(), part))
        heard_up_to = worker.heard
        await send_one(3)
        await eventually(is_open, what="a record that is not committed")
        reach = reach_of(consumer(), part)
        await producer.abort_transaction()
        await producer.stop()

    assert (heard_up_to, lag) == (5, 0)
    assert reach == Reach(6, 6)
    assert await monitor.batches() == [0, 2]


@dataclass(slots=True)
class Waiting:
    """What one replica sends cannot be written for a while; all else can."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    tries: int = 0
    handled: dict[str, int] = field(default_factory=dict)

    async def handle(self, heards: Sequence[Heard[PredictionsLogged]], _: Positions) -> list[Event]:
        replica = heards[0].event.replica
        if replica == "waits" and not self.gate.is_set():
            self.tries += 1
            raise StoreUnavailable("too much is parked")
        self.handled[replica] = self.handled.get(replica, 0) + len(heards)
        return []


async def test_a_partition_that_waits_holds_up_no_other_and_grows_no_further(
    open_database: OpenDatabase, kafka: str, topic_prefix: str
) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)
    publisher = Publisher(kafka, topic_prefix)
    state, stalled = Waiting(), threading.Event()
    stream = Stream(topic=PREDICTIONS, handle=state.handle, together=50)
    waiting = [a_batch(n, rows=0, replica="waits", long=3_000) for n in range(3_000)]
    others = [a_batch(n, rows=0, replica="works") for n in range(600)]

    def have(waits: int, works: int) -> Callable[[], Any]:
        async def so_many() -> bool:
            known = state.handled
            return (known.get("waits", 0), known.get("works", 0)) == (waits, works)

        return so_many

    async def has_tried() -> bool:
        return state.tries >= 5

    await send(publisher, waiting)
    async with carried(
        await open_database("drift_monitor"),
        kafka,
        topic_prefix,
        stream,
        stalled_seconds=5.0,
        stalled=stalled.set,
    ) as streams:
        await eventually(has_tried, what="some tries")
        await send(publisher, others)
        await eventually(have(0, 600), what="the other partition")
        told = streams.state()
        state.gate.set()
        await eventually(have(3_000, 600), what="what had waited")
    await publisher.close()

    assert list(told["waiting"].values()) == ["a part of the system that does not answer"]
    assert told["queued"] < 2_500
    assert not stalled.is_set()


def a_label(model: str) -> Heard[Any]:
    return heard(
        GroundTruthObserved(
            model=ModelName(model), prediction="p", value=1.0, observed_at=clock.now()
        )
    )


async def test_what_is_said_of_a_model_belongs_to_the_cascade_of_its_own_record(
    open_database: OpenDatabase, kafka: str, topic_prefix: str
) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    publisher = Publisher(kafka, topic_prefix)
    database = await open_database("drift_monitor")
    labels = [a_label("a"), a_label("a"), a_label("b")]
    gate = asyncio.Event()

    async def ask(heards: Sequence[Heard[Any]], _: Positions) -> list[Event]:
        if heards[0].event.model == "first":
            await gate.wait()
            return []
        return [
            RetrainingRequested(
                model=ModelName(model), version=1, reason="drift", window=len(heards), detail=""
            )
            for model in ("a", "b", "c")
        ]

    async def are_said() -> bool:
        return bool(await database.fetchval("select count(*) = 3 from said"))

    await publisher.send([(FEEDBACK, one) for one in (a_label("first"), *labels)])
    stream = Stream(topic=FEEDBACK, handle=ask)
    async with carried(database, kafka, topic_prefix, stream) as streams:

        async def are_queued() -> bool:
            return bool(streams.state()["queued"] == 4)

        await eventually(are_queued, what="all labels behind the first")
        gate.set()
        await eventually(are_said, what="three requests")
    await publisher.close()

    rows = await database.fetch("select payload from said order by subject")
    said: list[Heard[Any]] = [codec.decode(bytes(row["payload"])) for row in rows]
    assert {one.event.window for one in said} == {len(labels)}
    assert [(one.causation, one.correlation) for one in said] == [
        (labels[1].id, labels[1].correlation),
        (labels[2].id, labels[2].correlation),
        (labels[2].id, labels[2].correlation),
    ]
    assert len({one.id for one in said}) == 3


async def test_no_port_is_opened(
    streams: FaustStreams, monitor: Monitor, publisher: Publisher
) -> None:
    await send(publisher, [a_batch(0)])
    await until_position(monitor, 1)

    assert streams.state()["running"] is True
    assert listening_sockets() == []


def listening_sockets() -> list[str]:
    """Addresses on which this process accepts connections."""
    mine = {
        str(link.readlink()).removeprefix("socket:[").removesuffix("]")
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink() and str(link.readlink()).startswith("socket:[")
    }
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
    ]
    return [fields[1] for fields in lines if fields[3] == "0A" and fields[9] in mine]
