"""How many events the kernel takes, one by one and together, beside a loop that does nothing.

Broker and database run as `make up` runs them: every commit waits for the disk. The kernel hears,
moves the watermark, has an effect of one row, says one event of each and relays it. Together, a
hundred events share a transaction and their effects one round trip. The bare loop is aiokafka
alone: it polls, counts and commits offsets. Faust carries batches of a hundred prediction rows,
decoded and validated, several batches to a transaction.

The figures go to the screen; the last line is one JSON object. Nothing is asserted.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from local.stack import Infrastructure
from shared import clock, telemetry
from shared.broker import close_consumer, make_consumer
from shared.bus import Bus, Publisher, ensure_topics
from shared.events import (
    DatasetName,
    DatasetPublished,
    Digest,
    Event,
    Heard,
    ModelName,
    PredictionRow,
    PredictionsLogged,
    TrainingSkipped,
)
from shared.faust_streams import FaustStreams
from shared.ids import uuid7
from shared.postgres import Database
from shared.reactions import on
from shared.streams import Stream
from shared.topics import DATASETS, PREDICTIONS

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
SINGLE = int(6_000 * SCALE)
TOGETHER = int(40_000 * SCALE)
BATCHES = int(2_000 * SCALE)
ROWS = 100
SUBJECTS = 48
HOPS = 100
EFFECT = "insert into effect (subject, number) values ($1, $2)"
screen = Console(stderr=True)


@dataclass(slots=True)
class Stopwatch:
    """Counts events, from the first on, until all are there."""

    expected: int
    seen: int = 0
    began_at: float = 0.0
    ended_at: float = 0.0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, n: int = 1) -> None:
        self.began_at = self.began_at or time.perf_counter()
        self.seen += n
        if self.seen >= self.expected:
            self.ended_at = time.perf_counter()
            self.done.set()

    @property
    def per_second(self) -> float:
        return self.seen / (self.ended_at - self.began_at)


@dataclass(slots=True)
class Place:
    """A broker and databases of a run."""

    infrastructure: Infrastructure

    @property
    def kafka(self) -> str:
        return self.infrastructure.kafka

    async def database(self, service: str) -> Database:
        name = f"bench_{uuid.uuid4().hex[:10]}"
        url = await asyncio.to_thread(self.infrastructure.create_database, name)
        database = await Database.open(url, service)
        await database.execute("create table effect (subject text, number integer)")
        return database


def a_version(number: int) -> DatasetPublished:
    return DatasetPublished(
        dataset=DatasetName(f"dataset-{number % SUBJECTS}"),
        version=number // SUBJECTS + 1,
        digest=Digest("0" * 64),
        format="parquet",
        size_bytes=1_000_000,
        rows=10_000,
        columns={"flow": "number", "level": "number", "at": "time"},
        profile=Digest("1" * 64),
        published_by="a bench",
    )


def a_batch(number: int, at: datetime) -> PredictionsLogged:
    return PredictionsLogged(
        replica=f"replica-{number % 4}",
        batch=number,
        columns=(("flow", "level"),),
        rows=tuple(
            PredictionRow(
                id=str(uuid7()),
                model=ModelName("water"),
                version=3,
                manifest=None,
                rung="champion",
                arm="champion",
                generation=7,
                entity=None,
                columns=0,
                features=(0.25 * row, 1.5),
                answer=12.5 + row,
                score=None,
                at=at,
            )
            for row in range(ROWS)
        ),
    )


def in_envelope(event: Event, sequence: int | None) -> Heard[Any]:
    event_id = uuid7()
    return Heard(
        event=event,
        id=event_id,
        source="//tidewheel/bench",
        time=clock.now(),
        correlation=event_id,
        sequence=sequence,
    )


async def fill(place: Place, prefix: str, count: int) -> None:
    """Put dataset versions on the topic before anything is timed."""
    await ensure_topics(place.kafka, prefix=prefix)
    publisher = Publisher(place.kafka, prefix, timeout_seconds=60)
    for start in range(0, count, 2_000):
        numbers = range(start, min(count, start + 2_000))
        await publisher.send(
            [(DATASETS, in_envelope(e, e.version)) for e in map(a_version, numbers)]
        )
    await publisher.close()


async def kernel(place: Place, prefix: str, count: int, together: int) -> float:
    """Events per second from the first reaction to the last commit, the relay at work beside."""
    database = await place.database("trainer")
    watch = Stopwatch(count)

    async def react(heard: Heard[DatasetPublished]) -> list[Event]:
        event = heard.event
        if together == 1:
            await database.execute(EFFECT, event.dataset, event.version)
        else:
            await database.defer(EFFECT, event.dataset, event.version)
        async with database.transaction() as transaction:
            transaction.after_commit.append(watch.add)
        return [] if together > 1 else [a_skip(event)]

    bus = Bus(
        database,
        place.kafka,
        "trainer",
        [on(DatasetPublished, react, together=together)],
        topic_prefix=prefix,
    )
    running = asyncio.create_task(bus.run())
    await watch.done.wait()
    await bus.stop()
    await running
    effects = await database.fetchval("select count(*) from effect")
    await database.close()
    if effects != count:
        raise SystemExit(f"{effects} effects of {count} events")
    return watch.per_second


def a_skip(event: DatasetPublished) -> TrainingSkipped:
    return TrainingSkipped(
        model=ModelName(event.dataset),
        dataset=event.dataset,
        dataset_version=event.version,
        trigger="dataset",
        reason="no_material_change",
        detail="",
    )


async def bare(place: Place, prefix: str, count: int) -> float:
    """Aiokafka alone on the same records."""
    watch = Stopwatch(count)
    consumer = make_consumer(place.kafka, group=f"{prefix}bare")
    consumer.subscribe([prefix + DATASETS.name])
    await consumer.start()
    try:
        while not watch.done.is_set():
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                watch.add(len(records))
            await consumer.commit()
    finally:
        await close_consumer(consumer)
    return watch.per_second


async def faust_rows(place: Place, count: int) -> float:
    """Prediction rows per second through Faust into saved checkpoints."""
    prefix = a_prefix()
    await ensure_topics(place.kafka, prefix=prefix)
    publisher = Publisher(place.kafka, prefix, timeout_seconds=60)
    at = clock.now()
    for start in range(0, count, 200):
        batches = [a_batch(number, at) for number in range(start, min(count, start + 200))]
        await publisher.send([(PREDICTIONS, in_envelope(batch, None)) for batch in batches])
    await publisher.close()
    database = await place.database("drift_monitor")
    watch = Stopwatch(count * ROWS)

    async def handle(heards: Any, positions: Any) -> list[Event]:
        for (topic, partition), position in positions.items():
            await database.execute(EFFECT, f"{topic}/{partition}", position)
        rows = sum(len(heard.event.rows) for heard in heards)
        async with database.transaction() as transaction:
            transaction.after_commit.append(lambda: watch.add(rows))
        return []

    streams = FaustStreams(
        database,
        place.kafka,
        "drift_monitor",
        streams=[Stream(topic=PREDICTIONS, handle=handle)],
        topic_prefix=prefix,
    )
    running = asyncio.create_task(streams.run())
    await watch.done.wait()
    await streams.stop()
    await running
    await database.close()
    return watch.per_second


async def hops(place: Place) -> list[float]:
    """Seconds from one service's saying to the next one's reaction, one event at a time."""
    prefix = a_prefix()
    await ensure_topics(place.kafka, prefix=prefix)
    registry, trainer = await place.database("registry"), await place.database("trainer")
    heard_at: asyncio.Queue[float] = asyncio.Queue()

    async def react(_: Heard[DatasetPublished]) -> list[Event]:
        async with trainer.transaction() as transaction:
            transaction.after_commit.append(lambda: heard_at.put_nowait(time.perf_counter()))
        return []

    buses = [
        Bus(registry, place.kafka, "registry", [], topic_prefix=prefix),
        Bus(trainer, place.kafka, "trainer", [on(DatasetPublished, react)], topic_prefix=prefix),
    ]
    running = [asyncio.create_task(bus.run()) for bus in buses]
    seconds = []
    for number in range(HOPS + 10):
        began = time.perf_counter()
        async with registry.transaction() as transaction:
            await transaction.say([a_version(number)])
        seconds.append(await heard_at.get() - began)
    for bus in buses:
        await bus.stop()
    await asyncio.gather(*running)
    await registry.close()
    await trainer.close()
    return seconds[10:]


def a_prefix() -> str:
    return f"b{uuid.uuid4().hex[:8]}."


async def measure(place: Place) -> dict[str, float]:
    single, many = a_prefix(), a_prefix()
    await fill(place, single, SINGLE)
    await fill(place, many, TOGETHER)
    one_by_one = await timed("kernel, one by one", kernel(place, single, SINGLE, 1))
    batched = await timed("kernel, 100 together", kernel(place, many, TOGETHER, 100))
    alone = await timed("bare aiokafka", bare(place, many, TOGETHER))
    rows = await timed("faust, rows", faust_rows(place, BATCHES))
    seconds = sorted(await hops(place))
    screen.print(
        f"said → broker → committed by the next service: p50 "
        f"{statistics.median(seconds) * 1000:.1f} ms, p99 {seconds[-2] * 1000:.1f} ms"
    )
    return {
        "kernel_per_s": round(one_by_one),
        "batched_per_s": round(batched),
        "bare_per_s": round(alone),
        "faust_rows_per_s": round(rows),
    }


async def timed(what: str, measuring: Any) -> float:
    figure = float(await measuring)
    screen.print(f"{what}: {figure:,.0f}/s")
    return figure


def main() -> None:
    # Topics are made while clients look on; that they try again is not worth a line here.
    telemetry.configure("bench", "error")
    screen.print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {SINGLE} events one by one, "
        f"{TOGETHER} together, {BATCHES} batches of {ROWS} rows, durable commits"
    )
    with tempfile.TemporaryDirectory(prefix="tidewheel-bench-") as folder:
        Path(folder).chmod(0o711)  # the database runs under another user
        infrastructure = Infrastructure(Path(folder) / "stack", durable=True)
        try:
            found = asyncio.run(measure(Place(infrastructure.start())))
        finally:
            infrastructure.delete()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
