"""Streams: several records in one transaction, together with the offset they were applied up to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared import clock
from shared.bus import Publisher, ensure_topics, list_parked
from shared.events import Event, Heard, ModelName, PredictionRow, PredictionsLogged
from shared.faust_streams import FaustStreams
from shared.postgres import Database
from shared.streams import Positions, Stream
from shared.topics import PREDICTIONS
from tests.conftest import OpenDatabase
from tests.support.bus_kit import heard
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def a_batch(number: int, rows: int = 3, replica: str = "r") -> Heard[Any]:
    return heard(
        PredictionsLogged(
            replica=replica,
            batch=number,
            columns=(("x",),),
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
