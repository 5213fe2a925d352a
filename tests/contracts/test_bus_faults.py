"""What the buses over the real broker do when something breaks around them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from local.stack import Infrastructure
from shared.bus import follow
from shared.events import Event, Heard
from shared.topics import TRAINING
from tests.conftest import OpenDatabase
from tests.support.bus_kit import BrokerDelivery, BusDelivery, FaustDelivery, of, versions
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(180),
    # aiokafka leaves a connection to the collector when the broker dies during its handshake.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["bus", "faust"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def idle(
    kind: str, open_database: OpenDatabase, kafka: str, topic_prefix: str
) -> AsyncIterator[BrokerDelivery]:
    """A service whose topics have two partitions and whose bus has not been started."""
    database = await open_database("trainer")
    made = {"bus": BusDelivery, "faust": FaustDelivery}[kind]
    delivery = made(database, kafka, topic_prefix)
    await delivery.prepare(partitions=2)
    yield delivery
    await delivery.close()


@pytest.fixture
async def delivery(idle: BrokerDelivery) -> BrokerDelivery:
    await idle.start()
    return idle


def consumer_of(delivery: BrokerDelivery) -> Any:
    """The aiokafka consumer at work now, or None."""
    if isinstance(delivery, BusDelivery):
        return delivery.buses[-1]._consumer
    assert isinstance(delivery, FaustDelivery)
    app = delivery.adapters[-1]._app
    return getattr(app.consumer._thread, "_consumer", None) if app is not None else None


def on_its_loop(delivery: BrokerDelivery, consumer: Any, act: Any) -> None:
    """Faust's consumer lives on the loop of another thread."""
    if isinstance(delivery, FaustDelivery):
        consumer._loop.call_soon_threadsafe(act)
    else:
        act()


async def until_working(delivery: BrokerDelivery, subject: str) -> None:
    """Everything of a fresh subject flows."""
    await delivery.put(*versions(subject, 1))
    await delivery.until_effect(subject, 1)


async def assert_once_each(delivery: BrokerDelivery, subject: str, last: int) -> None:
    await delivery.until_effect(subject, last, seconds=60)
    assert of(subject, await delivery.effects()) == list(range(1, last + 1))
    assert of(subject, await delivery.said()) == list(range(1, last + 1))
    assert await delivery.parked() == []


async def test_a_refused_commit_costs_no_event_and_doubles_none(delivery: BrokerDelivery) -> None:
    await until_working(delivery, "w")
    consumer = consumer_of(delivery)

    # The broker refuses what comes from a generation that it does not know.
    on_its_loop(delivery, consumer, lambda: setattr(consumer._coordinator, "generation", 4711))
    await delivery.put(*versions("a", 1, 2, 3), *versions("b", 1, 2, 3))
    await delivery.until_effect("a", 3, seconds=60)
    await delivery.put(*versions("a", 4), *versions("b", 4))

    await assert_once_each(delivery, "a", 4)
    await assert_once_each(delivery, "b", 4)


async def test_a_fatal_group_error_is_noticed_and_healed(delivery: BrokerDelivery) -> None:
    await until_working(delivery, "w")
    consumer = consumer_of(delivery)
    coordinator = consumer._coordinator
    rejoin = coordinator._do_rejoin_group

    async def refuse(*_: object) -> bool:
        coordinator._do_rejoin_group = rejoin
        raise GroupAuthorizationFailedError("injected")

    def inject() -> None:
        coordinator._do_rejoin_group = refuse
        coordinator.request_rejoin()

    on_its_loop(delivery, consumer, inject)

    async def was_refused() -> bool:
        return coordinator._do_rejoin_group is not refuse

    await eventually(was_refused, what="the refused rejoin")
    await delivery.put(*versions("a", 1, 2))

    await assert_once_each(delivery, "a", 2)


async def test_a_reaction_longer_than_the_session_has_one_effect(
    delivery: BrokerDelivery,
) -> None:
    gate = delivery.script.hold("a", 1)
    await delivery.put(*versions("a", 1))
    await delivery.until_started("a", 1)
    longer_than_the_session = asyncio.get_running_loop().time() + 2.5

    async def session_is_over() -> bool:
        return asyncio.get_running_loop().time() > longer_than_the_session

    await eventually(session_is_over, what="the end of the session")
    gate.set()
    await delivery.put(*versions("a", 2))

    await assert_once_each(delivery, "a", 2)
    assert delivery.script.tries("a", 1) == 1


async def test_a_rebalance_during_a_reaction_doubles_nothing(delivery: BrokerDelivery) -> None:
    subjects = ["a", "b", "c", "d"]
    gates = [delivery.script.hold(subject, 1) for subject in subjects]
    await until_working(delivery, "w")
    await delivery.put(*[one for subject in subjects for one in versions(subject, 1, 2)])
    await delivery.until_any_started(*[(subject, 1) for subject in subjects])

    await delivery.start("1")

    async def second_has_joined() -> bool:
        consumer = consumer_of(delivery)
        return consumer is not None and bool(consumer.assignment())

    await eventually(second_has_joined, what="partitions for the second member")
    for gate in gates:
        gate.set()

    for subject in subjects:
        await assert_once_each(delivery, subject, 2)


async def test_a_killed_broker_is_outlived(
    delivery: BrokerDelivery, infrastructure: Infrastructure
) -> None:
    await until_working(delivery, "w")
    await delivery.put(*versions("a", 1, 2, 3))

    await asyncio.to_thread(infrastructure.kill_broker)
    await delivery.put_patiently(*versions("a", 4, 5))

    await assert_once_each(delivery, "a", 5)
    await until_all_sent(delivery)


async def test_a_killed_database_is_outlived(
    delivery: BrokerDelivery, infrastructure: Infrastructure
) -> None:
    await until_working(delivery, "w")
    await delivery.put(*versions("a", *range(1, 101)))

    await asyncio.to_thread(infrastructure.kill_postgres)

    await assert_once_each(delivery, "a", 100)
    await until_all_sent(delivery)


async def test_it_starts_while_the_broker_is_dead(
    idle: BrokerDelivery, infrastructure: Infrastructure
) -> None:
    await idle.put(*versions("a", 1))
    await asyncio.to_thread(infrastructure.stop_broker)
    try:
        await idle.start()
    finally:
        await asyncio.to_thread(infrastructure.start_broker)

    await assert_once_each(idle, "a", 1)


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("before_commit", 2),
        ("after_commit_before_publish", 2),
        # All three may be published at once.
        ("after_publish_before_offset", 1),
    ],
)
async def test_kill_9_at_each_point_leaves_exactly_one_outcome(
    idle: BrokerDelivery, kind: str, database_url: str, point: str, nth: int
) -> None:
    said_type = "tidewheel.training.skipped.v1"
    await idle.put(*versions("a", 1, 2, 3))

    first = await a_program(idle, kind, database_url, fault=f"{point}@{said_type}:{nth}")
    code = await asyncio.wait_for(first.wait(), 60)
    second = await a_program(idle, kind, database_url)
    try:
        await assert_once_each(idle, "a", 3)
        sent = await until_all_sent(idle)
    finally:
        await end(second)

    assert code == -signal.SIGKILL
    # The broker may have an event twice, but never two events for one cause.
    assert len({one.id for one in sent}) == 3
    assert sorted({one.sequence for one in sent if one.sequence}) == [1, 2, 3]


async def test_sigterm_midway_loses_and_doubles_nothing(
    idle: BrokerDelivery, kind: str, database_url: str
) -> None:
    await idle.put(*versions("a", 1, 2))
    first = await a_program(idle, kind, database_url, hold="yes")
    await eventually(lambda: in_a_transaction(idle), what="a reaction at work")

    first.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(first.wait(), 60)
    effects_of_the_first = await idle.effects()
    second = await a_program(idle, kind, database_url)
    try:
        await assert_once_each(idle, "a", 2)
    finally:
        await end(second)

    assert code == 0
    assert effects_of_the_first == []


async def in_a_transaction(delivery: BrokerDelivery) -> bool:
    found = await delivery.database.fetchval(
        "select count(*) from pg_stat_activity "
        "where datname = current_database() and state = 'idle in transaction'"
    )
    return int(found) > 0


async def a_program(
    delivery: BrokerDelivery, kind: str, url: str, *, fault: str = "", hold: str = ""
) -> asyncio.subprocess.Process:
    arguments = (kind, url, delivery.kafka, delivery.prefix, "0", fault, hold)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.bus_program", *arguments, cwd=ROOT
    )


async def end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await asyncio.wait_for(process.wait(), 60)


async def until_all_sent(delivery: BrokerDelivery) -> list[Heard[Event]]:
    """Wait until the outbox is empty; what then lies on the topic of the answers."""

    async def is_empty() -> bool:
        return await delivery.database.fetchval("select not exists (select from outbox)") is True

    await eventually(is_empty, what="an empty outbox")
    sent: list[Heard[Event]] = []
    caught_up = asyncio.Event()

    async def keep(heard: Heard[Event], _partition: int, _offset: int) -> None:
        sent.append(heard)

    reading = asyncio.create_task(
        follow(delivery.kafka, [TRAINING], prefix=delivery.prefix, handle=keep, caught_up=caught_up)
    )
    await asyncio.wait_for(caught_up.wait(), 30)
    reading.cancel()
    await asyncio.wait({reading})
    return sent
