"""The relay: everything committed is sent, in order per subject, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from shared.bus import ensure_topics, follow
from shared.events import Event, Heard
from shared.outbox import Relay
from shared.postgres import Database
from shared.topics import DATASETS
from tests.support.bus_kit import a_version
from tests.support.waiting import eventually

pytestmark = pytest.mark.real
Arrivals = Callable[[int], "asyncio.Future[list[Heard[Event]]]"]


@pytest.fixture
async def topics(kafka: str, topic_prefix: str) -> str:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)
    return topic_prefix


@asynccontextmanager
async def listening(kafka: str, prefix: str) -> AsyncIterator[list[Heard[Event]]]:
    arrived: list[Heard[Event]] = []

    async def keep(heard: Heard[Event], _partition: int, _offset: int) -> None:
        arrived.append(heard)

    task = asyncio.create_task(follow(kafka, [DATASETS], prefix=prefix, handle=keep))
    try:
        yield arrived
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def relaying(*relays: Relay) -> AsyncIterator[None]:
    tasks = {asyncio.create_task(relay.run()) for relay in relays}
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def say(database: Database, subject: str, *versions: int) -> None:
    for version in versions:
        async with database.transaction() as transaction:
            await transaction.say([a_version(subject, version)])


async def until_empty(database: Database) -> None:
    async def is_empty() -> bool:
        return await database.fetchval("select not exists (select from outbox)") is True

    await eventually(is_empty, what="an empty outbox")


async def test_what_was_said_before_and_after_the_start_is_sent_in_order(
    database: Database, kafka: str, topics: str
) -> None:
    await say(database, "a", 1, 2)

    async with relaying(Relay(database, kafka, topics)), listening(kafka, topics) as arrived:
        await say(database, "a", 3, 4)
        await until_empty(database)

        async def all_are_here() -> bool:
            return len(arrived) >= 4

        await eventually(all_are_here, what="four events")

    assert [one.sequence for one in arrived] == [1, 2, 3, 4]
    assert await database.fetchval("select count(*) from said") == 4


async def test_two_replicas_elect_one_leader_and_the_other_takes_over(
    database: Database, kafka: str, topics: str
) -> None:
    first, second = Relay(database, kafka, topics), Relay(database, kafka, topics)

    async with relaying(second):
        async with relaying(first):

            async def one_leads() -> bool:
                return first.leader != second.leader

            await eventually(one_leads, what="a leader")
            await say(database, "a", 1)
            await until_empty(database)

        async def second_leads() -> bool:
            return second.leader

        await eventually(second_leads, what="the succession")
        await say(database, "a", 2)
        await until_empty(database)


async def test_a_relay_whose_connection_is_cut_goes_on(
    database: Database, kafka: str, topics: str
) -> None:
    relay = Relay(database, kafka, topics)
    async with relaying(relay):
        await say(database, "a", 1)
        await until_empty(database)

        await database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'tidewheel-registry-relay' and datname = current_database()"
        )
        await say(database, "a", 2)
        await until_empty(database)


async def test_the_relay_measures_what_waits(database: Database, kafka: str, topics: str) -> None:
    await say(database, "a", 1, 2, 3)
    relay = Relay(database, kafka, topics)

    async with relaying(relay):
        await until_empty(database)

    assert relay.pending == 3
    assert relay.oldest_seconds > 0
