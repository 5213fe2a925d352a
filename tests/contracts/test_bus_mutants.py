"""Four checks of the contract, each passed by the bus and failed by the mutant it was made for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.bus import Bus, Publisher, follow
from shared.events import DatasetPublished, Event, Heard, ModelName, TrainingSkipped
from shared.inbox import Inbox
from shared.outbox import Relay
from shared.partitions import Worker
from shared.postgres import Database, Transaction
from shared.reactions import on
from shared.topics import DATASETS, TRAINING
from tests.support.bus_kit import QUICK, BusDelivery, a_version, an_offer, heard, versions
from tests.support.bus_mutants import (
    InboxWithoutMemory,
    RelayWithCursor,
    TransactionThatPublishesAtOnce,
    WorkerThatAcknowledgesFirst,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.real
WRITERS = 8


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Enough connections for all writers at once."""
    database = await Database.open(database_url, "registry", size=WRITERS + 4)
    yield database
    await database.close()


@pytest.fixture
async def idle(database: Database, kafka: str, topic_prefix: str) -> AsyncIterator[BusDelivery]:
    delivery = BusDelivery(database, kafka, topic_prefix)
    await delivery.prepare()
    yield delivery
    await delivery.close()


async def arrivals_of_concurrent_writers(delivery: BusDelivery, relay: Relay) -> set[str]:
    """Transactions that say in one order and commit in another; the subjects that arrived."""
    database = delivery.database
    heard: list[str] = []
    gates = [asyncio.Event() for _ in range(WRITERS)]
    has_said: list[asyncio.Event] = [asyncio.Event() for _ in range(WRITERS)]

    async def keep(one: Heard[Event], _partition: int, _offset: int) -> None:
        heard.append(one.event.subject)

    async def write(number: int) -> None:
        async with database.transaction() as transaction:
            await transaction.say([a_version(f"w{number}", 1)])
            has_said[number].set()
            await gates[number].wait()

    async def until(subject: str) -> None:
        async def has_arrived() -> bool:
            return subject in heard

        await eventually(has_arrived, what=f"arrival of {subject}")

    tasks = [
        asyncio.create_task(relay.run()),
        asyncio.create_task(
            follow(delivery.kafka, [DATASETS], prefix=delivery.prefix, handle=keep)
        ),
    ]
    writing = []
    for number in range(WRITERS):
        writing.append(asyncio.create_task(write(number)))
        await has_said[number].wait()
    gates[-1].set()
    await until(f"w{WRITERS - 1}")
    for gate in gates:
        gate.set()
    await asyncio.gather(*writing)
    async with database.transaction() as transaction:
        await transaction.say([a_version("last", 1)])
    await until("last")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return set(heard)


async def test_every_committed_event_is_sent_whatever_the_order_of_commits(
    idle: BusDelivery,
) -> None:
    relay = Relay(idle.database, idle.kafka, idle.prefix)

    arrived = await arrivals_of_concurrent_writers(idle, relay)

    assert arrived == {*(f"w{number}" for number in range(WRITERS)), "last"}


async def test_a_relay_with_a_cursor_is_caught_losing_events(idle: BusDelivery) -> None:
    mutant = RelayWithCursor(idle.database, idle.kafka, idle.prefix)

    arrived = await arrivals_of_concurrent_writers(idle, mutant)

    assert arrived == {f"w{WRITERS - 1}", "last"}


async def effects_after_a_stop_midway(delivery: BusDelivery, worker: type[Worker]) -> list[int]:
    """A bus is stopped while it works on an event, and a sound one takes over."""
    await delivery.put(*versions("a", 1))
    delivery.script.hold("a", 1)
    bus = a_bus(delivery)
    bus.worker_class = worker
    running = asyncio.create_task(bus.run())
    await delivery.until_started("a", 1)

    async def has_measured() -> bool:
        return bus._measured_at > 0

    await eventually(has_measured, what="the first commit of offsets")
    await bus.stop()
    await running

    delivery.script.gates.clear()
    await delivery.start()
    await delivery.settle()
    return [number for _, number in await delivery.effects()]


async def test_an_event_in_work_at_a_stop_is_delivered_again(idle: BusDelivery) -> None:
    assert await effects_after_a_stop_midway(idle, Worker) == [1]


async def test_a_worker_that_acknowledges_before_the_work_is_caught(idle: BusDelivery) -> None:
    assert await effects_after_a_stop_midway(idle, WorkerThatAcknowledgesFirst) == []


async def effects_of_a_repeat(delivery: BusDelivery, inbox: type[Inbox]) -> list[int]:
    bus = a_bus(delivery)
    bus._inbox = inbox(delivery.database, "trainer", delivery.skipper.reactions())
    delivery.run(bus.run, bus.stop)
    # An offer, because nothing is said of it: else the ids of what is said would be a second net.
    one = heard(an_offer("a", 1))
    await delivery.put(one, one)
    await delivery.settle()
    return [number for _, number in await delivery.effects()]


async def test_a_repeated_event_has_one_effect(idle: BusDelivery) -> None:
    assert await effects_of_a_repeat(idle, Inbox) == [1]


async def test_a_bus_that_forgets_what_it_heard_is_caught(idle: BusDelivery) -> None:
    assert await effects_of_a_repeat(idle, InboxWithoutMemory) == [1, 1]


async def sent_by_a_failing_reaction(delivery: BusDelivery, kind: type[Transaction]) -> list[str]:
    """The reaction says something and then fails; what of it lies on the broker."""
    database = delivery.database
    database.service = "trainer"
    database.transaction_class = kind

    async def say_and_fail(heard: Heard[DatasetPublished]) -> list[Event]:
        async with database.transaction() as transaction:
            await transaction.say([a_skip(heard.event)])
        raise ValueError("a bug")

    bus = Bus(
        database,
        delivery.kafka,
        "trainer",
        [on(DatasetPublished, say_and_fail)],
        topic_prefix=delivery.prefix,
        timing=QUICK,
    )
    delivery.run(bus.run, bus.stop)
    await delivery.put(*versions("a", 1))

    async def is_parked() -> bool:
        return bool(await delivery.parked())

    await eventually(is_parked, what="the dead letter")
    return await subjects_on_training(delivery)


async def subjects_on_training(delivery: BusDelivery) -> list[str]:
    found: list[str] = []
    caught_up = asyncio.Event()

    async def keep(heard: Heard[Event], _partition: int, _offset: int) -> None:
        found.append(heard.event.subject)

    reading = asyncio.create_task(
        follow(delivery.kafka, [TRAINING], prefix=delivery.prefix, handle=keep, caught_up=caught_up)
    )
    await asyncio.wait_for(caught_up.wait(), 30)
    reading.cancel()
    await asyncio.wait({reading})
    return found


async def test_nothing_is_sent_of_a_transaction_that_was_rolled_back(idle: BusDelivery) -> None:
    assert await sent_by_a_failing_reaction(idle, Transaction) == []


async def test_a_transaction_that_publishes_before_its_commit_is_caught(
    idle: BusDelivery,
) -> None:
    publisher = Publisher(idle.kafka, idle.prefix)

    class Mutant(TransactionThatPublishesAtOnce):
        pass

    Mutant.publisher = publisher
    sent = await sent_by_a_failing_reaction(idle, Mutant)
    await publisher.close()

    assert "a" in sent


def a_bus(delivery: BusDelivery) -> Bus:
    return Bus(
        delivery.database,
        delivery.kafka,
        "trainer",
        delivery.skipper.reactions(),
        topic_prefix=delivery.prefix,
        timing=QUICK,
    )


def a_skip(event: DatasetPublished) -> TrainingSkipped:
    return TrainingSkipped(
        model=ModelName(event.dataset),
        dataset=event.dataset,
        dataset_version=event.version,
        trigger="dataset",
        reason="nothing_new",
        detail="",
    )
