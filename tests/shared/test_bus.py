"""Topics, publishing and following: what stands around the consumer loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from local.ports import free_ports
from local.stack import Infrastructure
from shared import telemetry
from shared.broker import Admin, Message
from shared.bus import (
    Bus,
    Publisher,
    Stalled,
    Timing,
    TopicsDiffer,
    check_topics,
    ensure_topics,
    follow,
    publish,
)
from shared.errors import BrokerUnavailable, StoreUnavailable, Unprocessable
from shared.events import DatasetOffered, DatasetPublished, Event, Heard
from shared.postgres import Database
from shared.provisioning import declared_config
from shared.reactions import on
from shared.topics import ALL, DATASETS, OFFERS, PREDICTIONS, TRAINING
from tests.support.bus_kit import an_offer, heard, versions
from tests.support.waiting import eventually


def test_topics_that_keep_for_ever_have_no_limit_and_streams_have_both() -> None:
    assert declared_config(DATASETS, 3) == {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "min.insync.replicas": "2",
    }
    assert declared_config(PREDICTIONS, 1)["retention.ms"] == str(7 * 24 * 3600 * 1000)


def test_what_outsiders_write_is_stamped_by_the_broker() -> None:
    stamped = {
        topic.name
        for topic in ALL
        if declared_config(topic, 1).get("message.timestamp.type") == "LogAppendTime"
    }

    assert stamped == {topic.name for topic in ALL if topic.outsiders}


@pytest.mark.real
async def test_a_topic_of_a_release_before_is_stamped_and_keeps_what_else_it_was_told(
    kafka: str, topic_prefix: str
) -> None:
    name = topic_prefix + OFFERS.name
    before = {k: v for k, v in declared_config(OFFERS, 1).items() if not k.startswith("message.")}
    async with Admin(kafka) as admin:
        await admin.create({name: (2, {**before, "segment.bytes": "50000000"})}, replication=1)

        await ensure_topics(kafka, prefix=topic_prefix, partitions=2)

        own = (await admin.configuration([name], own=True))[name]
    assert own == {**declared_config(OFFERS, 1), "segment.bytes": "50000000"}


@pytest.mark.real
async def test_all_topics_are_created_as_declared_and_repeating_it_changes_nothing(
    kafka: str, topic_prefix: str
) -> None:
    for _ in range(2):
        await ensure_topics(kafka, prefix=topic_prefix)

    async with Admin(kafka) as admin:
        found = await admin.partitions([topic_prefix + topic.name for topic in ALL])
    assert found == {topic_prefix + topic.name: topic.partitions for topic in ALL}
    assert await check_topics(kafka, prefix=topic_prefix) == []


@pytest.mark.real
async def test_a_topic_that_differs_is_refused_and_the_difference_named(
    kafka: str, topic_prefix: str
) -> None:
    name = topic_prefix + TRAINING.name
    async with Admin(kafka) as admin:
        await admin.create({name: (3, {"retention.ms": "1000"})}, replication=1)

    with pytest.raises(TopicsDiffer) as caught:
        await ensure_topics(kafka, prefix=topic_prefix)

    assert caught.value.differences == (
        f"{name} has 3 partitions, 12 are declared",
        f"{name} has retention.ms=1000, -1 is declared",
    )


@pytest.mark.real
async def test_a_missing_topic_is_named(kafka: str, topic_prefix: str) -> None:
    assert f"{topic_prefix}{OFFERS.name} does not exist" in await check_topics(
        kafka, prefix=topic_prefix
    )


async def test_a_dead_broker_is_told_within_the_time_limit() -> None:
    nowhere = f"127.0.0.1:{free_ports(['kafka'])['kafka']}"
    publisher = Publisher(nowhere, timeout_seconds=1)

    with pytest.raises(BrokerUnavailable):
        await publisher.send([(OFFERS, heard(an_offer("a", 1)))])
    with pytest.raises(BrokerUnavailable):
        await ensure_topics(nowhere)

    await publisher.close()


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_publishing_works_again_once_the_broker_is_back(
    kafka: str, topic_prefix: str, infrastructure: Infrastructure
) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    publisher = Publisher(kafka, topic_prefix, timeout_seconds=5)
    await publisher.send([(OFFERS, heard(an_offer("a", 1)))])

    await asyncio.to_thread(infrastructure.stop_broker)
    try:
        with pytest.raises(BrokerUnavailable):
            await publisher.send([(OFFERS, heard(an_offer("a", 2)))])
    finally:
        await asyncio.to_thread(infrastructure.start_broker)

    await eventually(lambda: is_sent(publisher), what="an acknowledgement")
    await publisher.close()


async def is_sent(publisher: Publisher) -> bool:
    try:
        await publisher.send([(OFFERS, heard(an_offer("a", 3)))])
    except BrokerUnavailable:
        return False
    return True


@pytest.mark.real
async def test_following_starts_where_it_was_left_and_passes_over_what_it_cannot_read(
    kafka: str, topic_prefix: str
) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    await publish(kafka, topic_prefix, DATASETS, versions("a", 1, 2))
    publisher = Publisher(kafka, topic_prefix)
    await publisher.send_messages([Message(topic=DATASETS.name, key=b"a", value=b"{")])
    await publisher.send([(DATASETS, one) for one in versions("a", 3)])
    await publisher.close()
    caught_up = asyncio.Event()
    got: list[tuple[int | None, int]] = []

    async def keep(one: Heard[Event], _partition: int, offset: int) -> None:
        if len(got) == 1 and got[0][0] == 2:
            got.append((None, -1))
            raise StoreUnavailable("for a moment")
        got.append((one.sequence, offset))

    following = asyncio.create_task(
        follow(
            kafka,
            [DATASETS],
            prefix=topic_prefix,
            handle=keep,
            positions={(DATASETS.name, 0): 1},
            caught_up=caught_up,
        )
    )
    await asyncio.wait_for(caught_up.wait(), 20)
    following.cancel()
    await asyncio.wait({following})

    assert got == [(2, 1), (None, -1), (3, 3)]


@pytest.mark.real
async def test_following_an_empty_topic_is_caught_up_at_once(kafka: str, topic_prefix: str) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)
    caught_up = asyncio.Event()

    async def keep(_one: Heard[Event], _partition: int, _offset: int) -> None:
        raise AssertionError("there is nothing to hear")

    following = asyncio.create_task(
        follow(kafka, [DATASETS, TRAINING], prefix=topic_prefix, handle=keep, caught_up=caught_up)
    )
    await asyncio.wait_for(caught_up.wait(), 20)
    following.cancel()
    await asyncio.wait({following})


@pytest.mark.real
async def test_the_state_tells_connection_partitions_and_relay(
    database: Database, kafka: str, topic_prefix: str
) -> None:
    async def react(_: Heard[DatasetOffered]) -> list[Event]:
        return []

    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)
    bus = Bus(database, kafka, "registry", [on(DatasetOffered, react)], topic_prefix=topic_prefix)
    before = bus.state()
    running = asyncio.create_task(bus.run())

    async def is_ready() -> bool:
        state = bus.state()
        return bool(state["connected"] and len(state["assigned"]) == 2 and state["relay"]["leader"])

    await eventually(is_ready, what="readiness")
    await bus.stop()
    await running

    assert before["connected"] is False
    assert before["assigned"] == []


@pytest.mark.real
async def test_a_bus_whose_events_do_not_move_ends_with_an_error(
    database: Database, kafka: str, topic_prefix: str
) -> None:
    async def never(_: Heard[DatasetOffered]) -> list[Event]:
        await asyncio.Event().wait()
        return []

    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    await publish(kafka, topic_prefix, OFFERS, [heard(an_offer("a", n)) for n in range(3)])
    timing: dict[str, Any] = {"stalled_seconds": 1.0, "drain_seconds": 0.1, "commit_seconds": 0.1}
    bus = Bus(
        database,
        kafka,
        "registry",
        [on(DatasetOffered, never)],
        topic_prefix=topic_prefix,
        timing=Timing(**timing),
    )

    with pytest.raises(Stalled):
        await asyncio.wait_for(bus.run(), 30)


@pytest.mark.real
@pytest.mark.nightly
async def test_a_bus_that_holds_events_behind_a_missing_one_goes_on(
    database: Database, kafka: str, topic_prefix: str
) -> None:
    async def take(_: Heard[DatasetPublished]) -> list[Event]:
        return []

    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    await publish(kafka, topic_prefix, DATASETS, versions("a", 1, 3))
    timing: dict[str, Any] = {"stalled_seconds": 1.0, "drain_seconds": 0.1}
    bus = Bus(
        database,
        kafka,
        "trainer",
        [on(DatasetPublished, take)],
        topic_prefix=topic_prefix,
        timing=Timing(**timing),
    )
    running = asyncio.create_task(bus.run())

    # Longer than it takes to look at its partitions twice.
    await asyncio.wait({running}, timeout=6)
    missing, ended = bus.state()["missing"], running.done()
    await bus.stop()
    await running

    assert missing == ["a"]
    assert not ended


@pytest.mark.real
async def test_lag_and_dead_letters_are_told_as_metrics(
    database: Database, kafka: str, topic_prefix: str
) -> None:
    let = asyncio.Event()

    async def react(heard: Heard[DatasetOffered]) -> Iterable[Event]:
        if heard.event.dataset == "bad":
            raise Unprocessable("never")
        await let.wait()
        return []

    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    offers = [heard(an_offer(name, n)) for n, name in enumerate(("bad", "a", "b"))]
    await publish(kafka, topic_prefix, OFFERS, offers)
    bus = Bus(database, kafka, "registry", [on(DatasetOffered, react)], topic_prefix=topic_prefix)
    running = asyncio.create_task(bus.run())
    labels = {"group": "registry", "topic": OFFERS.name}
    parked = {"topic": OFFERS.name, "reason": "Unprocessable"}

    def told(name: str, wanted: dict[str, str]) -> float | None:
        """Whatever service this process is, as other tests left it."""
        samples = [s for metric in telemetry.REGISTRY.collect() for s in metric.samples]
        found = [s.value for s in samples if s.name == name and wanted.items() <= s.labels.items()]
        return sum(found) if found else None

    async def is_behind() -> bool:
        return (
            told("tidewheel_consumer_lag_messages", labels) == 2
            and (told("tidewheel_consumer_lag_seconds", labels) or 0) > 0
            and told("tidewheel_dead_letters_pending", parked) == 1
        )

    async def is_done() -> bool:
        return told("tidewheel_consumer_lag_seconds", labels) == 0

    await eventually(is_behind, what="the lag to be told")
    let.set()
    await eventually(is_done, what="the end of the lag")
    await bus.stop()
    await running
