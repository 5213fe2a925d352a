"""Killed at any moment, and with partitions that change hands, every row of the log counts once.

What is counted is compared with brute force over the full log: the sketches of all windows are, to
the last bit, those of the rows that were sent.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest

from services.drift_monitor.app import MIGRATIONS
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.events import Event, Heard, PredictionsLogged
from shared.postgres import Database
from shared.reference import read_reference
from shared.topics import MODELS, PREDICTIONS
from tests.conftest import OpenDatabase
from tests.drift_monitor.building import (
    Serving,
    a_profile,
    a_spec,
    autoregressive,
    registered,
)
from tests.drift_monitor.child import Child
from tests.drift_monitor.conftest import heard_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)
LAYOUT = read_reference(PROFILE).layout
SERIES = autoregressive(0.3, 1200, 3, seed=2)
WINDOW = 70
FAULTS = (
    "before_commit@tidewheel.predictions.logged.v1:2",
    "after_commit_before_publish@tidewheel.predictions.logged.v1:1",
    "before_commit@tidewheel.window.evaluated.v1:1",
    "after_commit_before_publish@tidewheel.window.evaluated.v1:2",
)


@dataclass
class Log:
    """Everything that replicas have sent, in batches whose number and content never change."""

    replicas: list[Serving] = field(
        default_factory=lambda: [Serving(f"serving-{n}") for n in range(5)]
    )
    sent: list[Heard[Event]] = field(default_factory=list)

    def batches(self, start: int, end: int) -> list[Heard[Event]]:
        """New batches of these rows, each replica's in its order, some of them sent twice."""
        fresh = []
        for place, row in enumerate(range(start, end, 10)):
            replica = self.replicas[place % len(self.replicas)]
            fresh.append(heard_of(replica.batch(SERIES[row : row + 10])))
        self.sent += fresh
        # Once more under its own id, and once more under another one.
        twice = [*fresh, *random.sample(self.sent, 8)]
        return [*twice, *(heard_of(one.event) for one in random.sample(self.sent, 8))]

    def values(self) -> dict[str, tuple[Any, ...]]:
        """The watched values of every row by its id."""
        return {
            row.id: (*row.features, row.answer)
            for heard in self.sent
            if isinstance(heard.event, PredictionsLogged)
            for row in heard.event.rows
        }


@dataclass
class Stand:
    """A broker with topics, an empty database, and monitors beside them."""

    kafka: str
    prefix: str
    database: Database
    artifacts: ArtifactStore
    children: list[Child]

    async def send(self, heards: Sequence[Heard[Event]]) -> None:
        await publish(self.kafka, self.prefix, PREDICTIONS, list(heards))

    async def counted(self) -> int:
        return int(await self.database.fetchval("select coalesce(sum(rows), 0) from window_sketch"))

    async def wait_for_rows(self, rows: int) -> None:
        async def is_done() -> bool:
            return await self.counted() >= rows

        await self.children[0].wait(is_done, what=f"{rows} rows", seconds=120)

    async def wait_for_death(self, child: Child) -> None:
        async def is_gone() -> bool:
            return child.is_gone()

        await child.wait(is_gone, what="the process to die at its fault point")

    async def assert_exact(self, log: Log) -> None:
        """Each row of the log is in one window, and windows hold what brute force counts."""
        values = log.values()
        kept = await self.database.fetch('select id, "window" from prediction order by place')
        assert sorted(row["id"] for row in kept) == sorted(values)
        own: dict[int, list[tuple[Any, ...]]] = {}
        for row in kept:
            own.setdefault(row["window"], []).append(values[row["id"]])
        windows = await self.database.fetch("select * from window_sketch order by number")
        assert [row["rows"] for row in windows[:-1]] == [WINDOW] * (len(windows) - 1)
        for row in windows:
            assert LAYOUT.read(row["counts"]) == _sketch(own[row["number"]])
        whole = reduce(add, (LAYOUT.read(row["counts"]) for row in windows))
        assert whole == _sketch(list(values.values()))
        assert await self.database.fetchval("select count(*) from dead_letter") == 0
        said = await self.database.fetch(
            "select payload from said where topic = 'tidewheel.monitoring.v1' order by sequence"
        )
        numbers = [
            json.loads(row["payload"])["data"]["window"]
            for row in said
            if b"window.evaluated" in bytes(row["payload"])
        ]
        assert numbers == list(range(1, sum(row["closed_at"] is not None for row in windows) + 1))


def _sketch(rows: Sequence[tuple[Any, ...]]) -> object:
    return LAYOUT.sketch([list(column) for column in zip(*rows, strict=True)])


@pytest.fixture
async def stand(
    kafka: str,
    topic_prefix: str,
    child_settings: dict[str, str],
    open_database: OpenDatabase,
    artifacts: ArtifactStore,
    tmp_path: Path,
) -> AsyncIterator[Stand]:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=4)
    database = await open_database("drift_monitor", MIGRATIONS)
    told = registered(artifacts, PROFILE, spec=a_spec(window=WINDOW))
    await publish(kafka, topic_prefix, MODELS, [replace(heard_of(told), sequence=1)])
    with (
        Child(tmp_path, {**child_settings, "REPLICA": "0"}) as one,
        Child(tmp_path, {**child_settings, "REPLICA": "1"}) as other,
    ):
        yield Stand(kafka, topic_prefix, database, artifacts, [one, other])


async def test_killed_at_one_point_after_the_other_every_row_counts_once(stand: Stand) -> None:
    log, child = Log(), stand.children[0]
    await stand.send(log.batches(0, 200))

    for turn, fault in enumerate(FAULTS, start=1):
        child.start(fault)
        await stand.send(log.batches(turn * 200, turn * 200 + 200))
        await stand.wait_for_death(child)
    child.start()
    await stand.wait_for_rows(1000)

    await stand.assert_exact(log)


async def test_partitions_change_hands_and_every_row_counts_once(stand: Stand) -> None:
    log = Log()
    one, other = stand.children
    one.start()
    await stand.send(log.batches(0, 200))
    await stand.wait_for_rows(50)

    other.start()
    await stand.send(log.batches(200, 600))
    await stand.wait_for_rows(300)
    one.terminate()
    await stand.send(log.batches(600, 1000))

    await stand.wait_for_rows(1000)
    await stand.assert_exact(log)


async def test_killed_twice_wherever_it_is_every_row_counts_once(stand: Stand) -> None:
    log, (child, _) = Log(), stand.children
    child.start()

    for start in (0, 100):
        await stand.send(log.batches(start, start + 100))
        # It is busy with these rows, at any place, when it dies.
        await stand.wait_for_rows(start + random.randint(0, 90))
        kill(child)
        child.start()

    await stand.wait_for_rows(200)
    await stand.assert_exact(log)


@pytest.mark.nightly
async def test_killed_whenever_it_pleases_beside_another_every_row_counts_once(
    stand: Stand,
) -> None:
    log = Log()
    for child in stand.children:
        child.start()

    for start in range(0, 1200, 100):
        await stand.send(log.batches(start, start + 100))
        victim = random.choice(stand.children)
        await stand.wait_for_rows(random.randint(0, start + 50))
        kill(victim)
        victim.start()

    await stand.wait_for_rows(1200)
    await stand.assert_exact(log)


def kill(child: Child) -> None:
    child.kill()
    assert child.process is not None
    child.process.wait()
