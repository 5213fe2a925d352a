"""A record of a stranger stops nobody: the names of its headers need not be text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from shared.bus import ensure_topics, follow
from shared.codec import CONTENT_TYPE, encode
from shared.events import Event, Heard
from shared.topics import DATASETS
from tests.conftest import OpenDatabase
from tests.support.bus_kit import BrokerDelivery, BusDelivery, FaustDelivery, of, versions

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
SENT = versions("a", 1, 2, 3)


class NoText(str):
    """A name that goes over the wire as bytes that are not UTF-8."""

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"\xff\xfe"


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder in C would refuse such a name; other clients do not."""
    monkeypatch.setattr(
        message_accumulator, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy
    )


async def send_strangely(kafka: str, topic: str, heards: Sequence[Heard[Any]]) -> None:
    """One batch, whose second record has a header with such a name."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", compression_type="gzip")
    await producer.start()
    try:
        batch = producer.create_batch()
        for place, one in enumerate(heards):
            headers = [("content-type", CONTENT_TYPE.encode())]
            headers += [(NoText("x"), b"1")] if place == 1 else []
            key = one.event.subject.encode()
            assert batch.append(key=key, value=encode(one), timestamp=None, headers=headers)
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()


@pytest.fixture(params=[BusDelivery, FaustDelivery])
async def delivery(
    request: pytest.FixtureRequest, open_database: OpenDatabase, kafka: str, topic_prefix: str
) -> AsyncIterator[BrokerDelivery]:
    made: BrokerDelivery = request.param(await open_database("trainer"), kafka, topic_prefix)
    await made.open()
    yield made
    await made.close()


@pytest.mark.usefixtures("strange")
async def test_a_name_that_is_no_text_stops_neither_its_partition_nor_others(
    delivery: BrokerDelivery,
) -> None:
    await send_strangely(delivery.kafka, delivery.prefix + DATASETS.name, SENT)
    await delivery.put(*versions("b", 1))
    await delivery.settle()

    assert of("a", await delivery.effects()) == [1, 2, 3]
    assert of("b", await delivery.effects()) == [1]


@pytest.mark.usefixtures("strange")
async def test_following_goes_on_behind_such_a_name(kafka: str, topic_prefix: str) -> None:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    await send_strangely(kafka, topic_prefix + DATASETS.name, SENT)
    caught_up = asyncio.Event()
    got: list[tuple[int | None, int]] = []

    async def keep(one: Heard[Event], _partition: int, offset: int) -> None:
        got.append((one.sequence, offset))

    following = asyncio.create_task(
        follow(kafka, [DATASETS], prefix=topic_prefix, handle=keep, caught_up=caught_up)
    )
    await asyncio.wait_for(caught_up.wait(), 20)
    following.cancel()
    await asyncio.wait({following})

    assert got == [(1, 0), (2, 1), (3, 2)]
