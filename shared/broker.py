"""The only door to aiokafka: producers, consumers and topics, with bounded waits.

Everything that Kafka can fail with leaves here as `BrokerUnavailable`, except where a consumer's
loop has to tell its errors apart.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener as Listener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    TopicAlreadyExistsError,
)

from shared import codec, record_names
from shared.errors import BrokerUnavailable
from shared.events import Event, Heard
from shared.topics import Topic

__all__ = [
    "Admin",
    "CorruptRecordException",
    "IllegalStateError",
    "KafkaError",
    "Listener",
    "Message",
    "Publisher",
    "TopicPartition",
    "close_consumer",
    "is_connected",
    "make_consumer",
    "start_client",
]

record_names.install()


class Reach(NamedTuple):
    """Where a consumer goes on reading a partition, and where ends what can be had of it."""

    read_to: int
    end: int


Consumer = Any
"""An aiokafka consumer; the library has no types."""

HEADERS: Final = [("content-type", codec.CONTENT_TYPE.encode())]
_FAILURES: Final = (KafkaError, OSError, TimeoutError)
_OF_TOPIC: Final = 1
"""Kafka's number for settings that a topic has of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent: a topic without prefix, the key and the bytes."""

    topic: str
    key: bytes | None
    value: bytes | None

    @classmethod
    def of(cls, topic: Topic, heard: Heard[Event]) -> "Message":
        """An event as it goes over the wire."""
        return cls(topic=topic.name, key=heard.event.subject.encode(), value=codec.encode(heard))


class Publisher:
    """Sends and waits for the acknowledgement of all in-sync replicas.

    After any failure the producer is thrown away and the next send makes a new one: an idempotent
    producer cannot tell which of its batches arrived once one of them failed.
    """

    def __init__(self, bootstrap: str, prefix: str = "", *, timeout_seconds: float = 10.0) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._timeout = timeout_seconds
        self._producer: Any = None
        self._starting = asyncio.Lock()

    async def send(self, heards: Sequence[tuple[Topic, Heard[Any]]]) -> None:
        """Send events and wait until all are acknowledged.

        Raises:
            BrokerUnavailable: some may have arrived; send them again, their ids make it harmless.
            InvalidEvent: one of them cannot be published; none was sent.
        """
        await self.send_messages([Message.of(topic, heard) for topic, heard in heards])

    async def send_messages(self, messages: Sequence[Message]) -> None:
        """Send what is encoded already; otherwise like `send`."""
        producer = None
        try:
            async with asyncio.timeout(self._timeout):
                producer = await self._started()
                futures = [
                    await producer.send(self._prefix + m.topic, m.value, key=m.key, headers=HEADERS)
                    for m in messages
                ]
                await asyncio.gather(*futures)
        except _FAILURES as error:
            await self._discard(producer)
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            await self._discard(producer)
            raise

    async def close(self) -> None:
        """Give the connection back; what is not acknowledged is given up."""
        await self._discard(self._producer)

    async def _started(self) -> Any:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    request_timeout_ms=int(self._timeout * 1000),
                    retry_backoff_ms=50,
                    max_batch_size=512 * 1024,
                )
                try:
                    await start_client(producer, self._timeout)
                except BaseException:
                    await _stop_producer(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self, producer: Any) -> None:
        if producer is None:
            return
        if self._producer is producer:
            self._producer = None
        await _stop_producer(producer)


async def _stop_producer(producer: Any) -> None:
    """A kind stop flushes first and would wait for a dead broker; so it gets one second."""
    try:
        async with asyncio.timeout(1):
            await producer.stop()
    except _FAILURES:
        with suppress(*_FAILURES):
            async with asyncio.timeout(1):
                if producer._sender._sender_task is not None:  # noqa: SLF001
                    await producer._sender.close()  # noqa: SLF001 - stop() gave up before this
                await producer.client.close()


def make_consumer(
    bootstrap: str,
    *,
    group: str | None = None,
    instance: str | None = None,
    session_seconds: float = 10.0,
) -> Consumer:
    """A consumer that commits nothing by itself and reads from the beginning.

    The long poll is short because a partition that resumes is only asked for with the next one;
    records that arrive are answered at once whatever its length.
    """
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=int(session_seconds * 1000),
        heartbeat_interval_ms=int(session_seconds * 1000 / 3),
        rebalance_timeout_ms=max(30_000, int(session_seconds * 1000)),
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        fetch_max_wait_ms=100,
        retry_backoff_ms=100,
        request_timeout_ms=15_000,
        metadata_max_age_ms=30_000,
    )


def is_connected(consumer: Consumer) -> bool:
    """Whether any connection to a broker stands now."""
    connections = consumer._client._conns.values()  # noqa: SLF001 - not told otherwise
    return any(connection.connected() for connection in connections)


def reach_of(consumer: Consumer, part: TopicPartition) -> Reach | None:
    """How far a consumer has read a partition; None where nobody can tell. Any thread may ask.

    The records that have come do not tell it: markers of transactions have places of their own,
    and what a transaction has not committed yet is on the broker and cannot be had.
    """
    subscription = consumer._subscription.subscription  # noqa: SLF001 - `position` would wait
    assignment = subscription.assignment if subscription is not None else None
    state = assignment.state_value(part) if assignment is not None else None
    if state is None or state._position is None or state.highwater is None:  # noqa: SLF001
        return None
    end = state.highwater if state.lso in (None, -1) else state.lso
    return Reach(read_to=int(state._position), end=int(end))  # noqa: SLF001


async def start_client(client: Any, seconds: float) -> None:
    """Start a client within a time limit.

    It is not cut off in the middle: aiokafka would leave its first connection open.

    Raises:
        TimeoutError: it has not started in time.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        async with asyncio.timeout(seconds):
            await asyncio.shield(starting)
    except (TimeoutError, asyncio.CancelledError):
        await asyncio.wait({starting}, timeout=2)
        starting.cancel()
        with suppress(*_FAILURES, asyncio.CancelledError):
            await starting
        raise


async def close_consumer(consumer: Consumer, seconds: float = 3.0) -> None:
    """Leave; a broker that does not answer is not waited for."""
    with suppress(*_FAILURES):
        async with asyncio.timeout(seconds):
            await consumer.stop()


class Admin:
    """Creates and compares topics."""

    def __init__(self, bootstrap: str) -> None:
        self._client = AIOKafkaAdminClient(
            bootstrap_servers=bootstrap, request_timeout_ms=15_000, retry_backoff_ms=50
        )

    async def __aenter__(self) -> "Admin":
        try:
            await start_client(self._client, 15)
        except _FAILURES as error:
            await self._close()
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        with suppress(*_FAILURES):
            async with asyncio.timeout(2):
                await self._client.close()

    async def create(
        self, topics: Mapping[str, tuple[int, Mapping[str, str]]], *, replication: int
    ) -> None:
        """Create topics of the given partitions and configuration; existing ones stay as they are.

        Raises:
            BrokerUnavailable: the broker did not answer or refused one of them.
        """
        wanted = [
            NewTopic(name, partitions, replication, topic_configs=dict(config))
            for name, (partitions, config) in topics.items()
        ]
        try:
            response = await self._client.create_topics(wanted, timeout_ms=15_000)
        except _FAILURES as error:
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
        for name, code, *rest in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise BrokerUnavailable(f"topic {name} was not created: error {code} {rest}")

    async def partitions(self, names: Iterable[str], *, led: bool = False) -> dict[str, int]:
        """Number of partitions of those topics that exist, or of those fully led."""
        try:
            found = await self._client.describe_topics(list(names))
        except _FAILURES as error:
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
        return {
            topic["topic"]: len(topic["partitions"])
            for topic in found
            if topic["error_code"] == 0
            and (not led or all(part["leader"] >= 0 for part in topic["partitions"]))
        }

    async def configuration(
        self, names: Iterable[str], *, own: bool = False
    ) -> dict[str, dict[str, str]]:
        """All settings of each topic as the broker has them, or those that are the topic's own."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        try:
            responses = await self._client.describe_configs(resources)
        except _FAILURES as error:
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
        return {
            name: {entry[0]: entry[1] for entry in entries if not own or entry[3] == _OF_TOPIC}
            for response in responses
            for _code, _message, _kind, name, entries in response.resources
        }

    async def change(self, name: str, config: Mapping[str, str]) -> None:
        """Change these settings of a topic; the others that it has stay as they are.

        Raises:
            BrokerUnavailable: the broker did not answer or refused.
        """
        # Kafka takes all settings of its own from a topic that are not said again.
        known = (await self.configuration([name], own=True)).get(name, {})
        wanted = ConfigResource(ConfigResourceType.TOPIC, name, {**known, **config})
        try:
            responses = await self._client.alter_configs([wanted])
        except _FAILURES as error:
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
        for code, message, *_ in (one for response in responses for one in response.resources):
            if code:
                raise BrokerUnavailable(f"topic {name} was not changed: error {code} {message}")
