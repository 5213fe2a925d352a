"""What a monitor hears one after the other, told to a process that dies or to one that does not.

Ids and sequences of a story never change, so what comes of it can be compared to the last byte but
for moments.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from local.stack import Infrastructure
from services.drift_monitor.app import MIGRATIONS
from services.drift_monitor.brake import Limits
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.events import Event, Heard, ModelName
from shared.postgres import Database
from shared.topics import MONITORING, Topic, topic_of
from tests.drift_monitor.building import PUMP, Floats, Serving
from tests.drift_monitor.child import Child
from tests.drift_monitor.conftest import Site, heard_of
from tests.drift_monitor.test_service import QUIET
from tests.support.stack import fresh_database

CONSUMER = "drift_monitor"
SHIFT = np.array([3.0, 0.0, 0.0])
POINTS = ("before_commit", "after_commit_before_publish", "after_publish_before_offset")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z)?")
_COMPARED = {
    "course": "select model, owner, dataset, version, phase, confirmed_at is null as calm, "
    "refused, due_at is null as waits_for_nothing, body from course order by model",
    "token": "select model, owner, count(*) from token group by model, owner order by model",
    "brake": "select scope, confirmed, watched, lifted_by, reason from brake order by set_at",
    "window_sketch": "select model, version, number, rows, counts, severity, closed_at is null "
    "as open from window_sketch order by model, version, number",
    "version": "select model, version, watch, newest from version order by model, version",
    "prediction": 'select id, "window" from prediction order by id',
    "proposal": "select dataset, tag, model from proposal order by dataset, tag",
}


@dataclass
class Story:
    """Facts and batches in their order, each with the id that it always has.

    Attributes:
        deaths: places in `steps` with the type that the monitor says there as it dies, and a
            name for it.
    """

    steps: list[Heard[Any]] = field(default_factory=list)
    deaths: list[tuple[int, str, str]] = field(default_factory=list)
    _sequences: Counter[tuple[str, str]] = field(default_factory=Counter)

    def tell(self, *events: Event) -> None:
        for event in events:
            topic, heard = topic_of(type(event)), heard_of(event)
            if topic.sequenced:
                self._sequences[topic.name, event.subject] += 1
                heard = replace(heard, sequence=self._sequences[topic.name, event.subject])
            self.steps.append(heard)

    def dies_at(self, said: str, name: str) -> None:
        """The monitor dies as it says this because of what was told last."""
        self.deaths.append((len(self.steps) - 1, f"tidewheel.{said}.v1", name))

    def dying_only_at(self, *names: str) -> Self:
        """The same story with fewer deaths."""
        self.deaths = [death for death in self.deaths if death[2] in names]
        return self

    def windows(
        self,
        serving: Serving,
        count: int,
        shift: Floats | float = 0.0,
        models: Sequence[ModelName] = (PUMP,),
    ) -> None:
        """So many full windows of these models, each time one batch for all of them."""
        for turn in range(count):
            start = turn % 8 * 50
            batch = serving.batch(np.tile(QUIET[start : start + 50], (len(models), 1)) + shift)
            rows = tuple(replace(row, model=models[n // 50]) for n, row in enumerate(batch.rows))
            self.tell(replace(batch, rows=rows))

    async def undisturbed(self, site: Site) -> list[list[str]]:
        """Let a monitor that never dies hear all of it; the types that it says at each step."""
        return [[event.TYPE for event in await site.hear_as(heard)] for heard in self.steps]

    def faults(self, points: Sequence[str], said: Sequence[Sequence[str]]) -> list[str]:
        """The fault point of each life in its turn, counted so that it dies where it is to die."""
        found: list[str] = []
        born_at, before = 0, ""
        for (place, kind, _), point in zip(self.deaths, points, strict=True):
            times = sum(kind in said[step] for step in range(born_at, place + 1))
            # What was not committed is done once more, what was not deleted is published once more.
            again = before == "before_commit" or (before and point == "after_publish_before_offset")
            if again and kind in said[born_at - 1]:
                times += 1
            found.append(f"{point}@{kind}:{times}")
            born_at, before = place + 1, point
        return found


@dataclass
class Player:
    """Tells a story to a monitor in a process of its own, and starts it again when it has died."""

    kafka: str
    prefix: str
    database: Database
    child: Child
    faults: list[str] = field(default_factory=list)
    deaths: int = 0

    async def play(self, story: Story) -> None:
        """All of it, batch by batch, and facts of one topic together."""
        self._start()
        for topic, together in groupby(story.steps, key=lambda one: topic_of(type(one.event))):
            heards = list(together)
            for some in [heards] if topic.sequenced else [[one] for one in heards]:
                await publish(self.kafka, self.prefix, topic, some)
                for heard in some:
                    done = partial(self._is_done, heard, topic)
                    await self.until(done, f"{heard.event}")

    async def until(self, condition: Any, what: str, seconds: float = 180.0) -> None:
        """Wait, and give the monitor its next life whenever it has died."""

        async def met() -> bool:
            if self.child.is_gone():
                self.deaths += 1
                self._start()
            return bool(await condition())

        await self.child.wait(met, what=what[:200], seconds=seconds)

    def _start(self) -> None:
        self.child.start(self.faults[self.deaths] if self.deaths < len(self.faults) else "")

    async def _is_done(self, heard: Heard[Any], topic: Topic) -> bool:
        if topic.sequenced:
            done = await self.database.fetchval(
                "select true from watermark where consumer = $1 and topic = $2 "
                "and subject = $3 and sequence >= $4",
                CONSUMER,
                topic.name,
                heard.event.subject,
                heard.sequence,
            )
        else:
            done = await self.database.fetchval(
                "select true from inbox where consumer = $1 and event_id = $2",
                CONSUMER,
                heard.id,
            )
        return bool(done) and await self.is_silent()

    async def is_silent(self) -> bool:
        """Whether all that was said has left, and the process lives."""
        waiting = await self.database.fetchval("select count(*) from outbox")
        return waiting == 0 and not self.child.is_gone()


@dataclass
class Stand:
    """A monitor that is told of everything and never dies, and one in a process that does."""

    site: Site
    player: Player

    @property
    def database(self) -> Database:
        """What the process keeps."""
        return self.player.database

    async def outcomes(self, *, with_ids: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
        """What either says and keeps, and what of it is on the broker: these two are the same."""
        one, other = (
            await _outcome(self.database, with_ids),
            await _outcome(self.site.database, with_ids),
        )
        on_the_bus = await published(self.player.kafka, self.player.prefix)
        one["published"] = on_the_bus == await _ids(self.database)
        return one, {**other, "published": True}


@asynccontextmanager
async def open_stand(
    child_settings: Mapping[str, str],
    infrastructure: Infrastructure,
    artifacts: ArtifactStore,
    folder: Path,
    limits: Limits,
) -> AsyncIterator[Stand]:
    """Two monitors with these limits, each with an empty database of its own."""
    kafka, prefix = child_settings["KAFKA"], child_settings["TOPIC_PREFIX"]
    await ensure_topics(kafka, prefix=prefix, partitions=1)
    with (
        fresh_database(infrastructure) as url,
        Child(folder, {**child_settings, **_settings_of(limits)}) as child,
    ):
        one = await Database.open(child_settings["DATABASE"], CONSUMER, migrations=[MIGRATIONS])
        other = await Database.open(url, CONSUMER, migrations=[MIGRATIONS])
        try:
            yield Stand(Site(other, artifacts, limits), Player(kafka, prefix, one, child))
        finally:
            await one.close()
            await other.close()


def _settings_of(limits: Limits) -> dict[str, str]:
    return {
        "RETRAININGS_PER_HOUR": str(limits.budget),
        "BRAKE_LEAST_MODELS": str(limits.least_confirmed),
        "BRAKE_LEAST_WATCHED": str(limits.least_watched),
        "SETTLE_SECONDS": str(limits.settle.total_seconds()),
        "LOOK_SECONDS": "0.1",
    }


async def tables(database: Database) -> dict[str, list[dict[str, Any]]]:
    """What a monitor keeps, without moments."""
    return {
        name: [_plain(dict(row)) for row in await database.fetch(query)]
        for name, query in _COMPARED.items()
    }


async def told(database: Database, with_ids: bool = True) -> list[dict[str, Any]]:
    """Everything that was said, in the order of each subject and without moments."""
    rows = await database.fetch("select payload from said order by topic, subject, sequence")
    found: list[dict[str, Any]] = [_plain(json.loads(row["payload"])) for row in rows]
    if with_ids:
        return found
    return [{name: one[name] for name in ("type", "subject", "data")} for one in found]


async def published(kafka: str, prefix: str, topic: Topic = MONITORING) -> dict[str, list[str]]:
    """Ids on a topic by subject, in the order of the broker, each where it came first."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        name = f"{prefix}{topic.name}"
        parts = [TopicPartition(name, n) for n in await _partitions(consumer, name)]
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        ends = await consumer.end_offsets(parts)
        found: dict[str, list[str]] = {}
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    ids = found.setdefault(record.key.decode(), [])
                    chosen = json.loads(record.value)["id"]
                    if chosen not in ids:
                        ids.append(chosen)
        return found
    finally:
        await consumer.stop()


async def _outcome(database: Database, with_ids: bool) -> dict[str, Any]:
    return {"told": await told(database, with_ids), **await tables(database)}


async def _ids(database: Database) -> dict[str, list[str]]:
    rows = await database.fetch(
        "select event_id, subject from said where topic = $1 order by subject, sequence",
        MONITORING.name,
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["subject"], []).append(str(row["event_id"]))
    return found


async def _partitions(consumer: AIOKafkaConsumer, name: str) -> Iterable[int]:
    while not (found := consumer.partitions_for_topic(name)):
        await consumer._client.force_metadata_update()
        consumer._client.add_topic(name)
        await asyncio.sleep(0.02)
    return sorted(found)


def _plain(value: Any) -> Any:
    """Moments are those of a run; that there is one is all that is compared."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in ("time", "traceparent")}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _MOMENT.sub("<moment>", value) if isinstance(value, str) else value
