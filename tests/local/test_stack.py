from __future__ import annotations

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from local.stack import Infrastructure

pytestmark = pytest.mark.real


async def test_a_message_sent_is_received(kafka: str, topic_prefix: str) -> None:
    topic = topic_prefix + "echo"
    await _create_topic(kafka, topic)

    await _send(kafka, topic, b"hello")

    assert await _receive(kafka, topic, 1) == [b"hello"]


async def test_a_restarted_broker_keeps_its_address_and_messages(
    infrastructure: Infrastructure, topic_prefix: str
) -> None:
    topic, address = topic_prefix + "kept", infrastructure.kafka
    await _create_topic(address, topic)
    await _send(address, topic, b"before")

    infrastructure.restart_broker()
    await _send(address, topic, b"after")

    assert infrastructure.kafka == address
    assert await _receive(address, topic, 2) == [b"before", b"after"]


async def test_a_killed_broker_returns_with_what_it_acknowledged(
    infrastructure: Infrastructure, topic_prefix: str
) -> None:
    topic = topic_prefix + "killed"
    await _create_topic(infrastructure.kafka, topic)
    await _send(infrastructure.kafka, topic, b"acknowledged")

    infrastructure.kill_broker()

    assert await _receive(infrastructure.kafka, topic, 1) == [b"acknowledged"]


async def test_a_killed_database_returns_with_what_it_committed(
    infrastructure: Infrastructure, database_url: str
) -> None:
    await _run(database_url, "create table fact (id int)", "insert into fact values (7)")

    infrastructure.kill_postgres()

    assert await _ask(database_url, "select id from fact") == 7


async def test_each_test_gets_an_empty_database(database_url: str) -> None:
    tables = "select count(*) from pg_tables where schemaname = 'public'"

    assert await _ask(database_url, tables) == 0


async def test_a_role_enters_its_own_database_and_no_other(infrastructure: Infrastructure) -> None:
    server = infrastructure.database
    server.give_each_a_database({"role_one": "first", "role_two": "second"})

    own = await _ask(server.url_for("role_one", "first", "role_one"), "select current_user")

    assert own == "role_one"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _ask(server.url_for("role_one", "first", "role_two"), "select 1")


async def test_nobody_enters_without_the_password(infrastructure: Infrastructure) -> None:
    guessed = infrastructure.database.url_for("postgres", "postgres", "postgres")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await _ask(guessed, "select 1")


async def _create_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def _send(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, value)


async def _receive(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def _run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def _ask(url: str, question: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()
