"""Reads whole topics without a group, for a service that keeps its own place on its own disk."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from shared import telemetry
from shared.broker import KafkaError, TopicPartition, close_consumer, make_consumer, start_client
from shared.codec import decode
from shared.errors import Unavailable, Unprocessable
from shared.events import Event, Heard
from shared.patience import Patience
from shared.topics import Topic

Handle = Callable[[Heard[Event], int, int], Awaitable[None]]


async def follow(
    bootstrap: str,
    topics: Sequence[Topic],
    *,
    prefix: str = "",
    handle: Handle,
    positions: Mapping[tuple[str, int], int] | None = None,
    caught_up: asyncio.Event | None = None,
) -> None:
    """Hand every event of the topics to `handle`, each partition in order, until cancelled.

    It starts while the broker is dead, outlives its restarts and never raises. After a break the
    next event is the one after the last that was handled.

    Args:
        bootstrap: where the broker is.
        topics: all partitions of them are read.
        prefix: before every name.
        handle: gets the event, its partition and its offset. What it raises as `Unavailable` is
            tried again in place; any other error is logged and the event is passed over.
        positions: first offset to read, by topic (without prefix) and partition; otherwise from
            the beginning.
        caught_up: set once everything that was there at the start has been handled.
    """
    reached = dict(positions or {})
    patience = Patience(longest_seconds=2.0)
    while True:
        consumer = make_consumer(bootstrap)
        try:
            await _read(consumer, topics, prefix, handle, reached, caught_up, patience)
        except (KafkaError, OSError, TimeoutError) as error:
            telemetry.log("follow_interrupted", level="warning", reason=f"{error!r}")
        finally:
            await close_consumer(consumer)
        await asyncio.sleep(patience.next_seconds())


async def _read(
    consumer: Any,
    topics: Sequence[Topic],
    prefix: str,
    handle: Handle,
    reached: dict[tuple[str, int], int],
    caught_up: asyncio.Event | None,
    patience: Patience,
) -> None:
    await start_client(consumer, 30)
    async with asyncio.timeout(30):
        parts = [part for topic in topics for part in await _parts(consumer, prefix + topic.name)]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
    _seek(consumer, parts, prefix, reached)
    missing = {part for part in parts if ends[part] > reached.get(_place(part, prefix), 0)}
    while True:
        _notice(missing, ends, prefix, reached, caught_up)
        for part, records in (await consumer.getmany(timeout_ms=500)).items():
            patience.reset()
            for record in records:
                await _hand_over(record, handle)
                reached[_place(part, prefix)] = record.offset + 1


async def _parts(consumer: Any, name: str) -> list[Any]:
    await consumer._client._wait_on_metadata(name)  # noqa: SLF001 - no public way to wait for it
    return [TopicPartition(name, number) for number in consumer.partitions_for_topic(name) or ()]


def _seek(
    consumer: Any, parts: Sequence[Any], prefix: str, reached: Mapping[tuple[str, int], int]
) -> None:
    for part in parts:
        if _place(part, prefix) in reached:
            consumer.seek(part, reached[_place(part, prefix)])


def _place(part: Any, prefix: str) -> tuple[str, int]:
    return part.topic.removeprefix(prefix), part.partition


def _notice(
    missing: set[Any],
    ends: Mapping[Any, int],
    prefix: str,
    reached: Mapping[tuple[str, int], int],
    caught_up: asyncio.Event | None,
) -> None:
    """Forget the partitions whose end at the start has been reached."""
    missing -= {part for part in missing if reached.get(_place(part, prefix), 0) >= ends[part]}
    if not missing and caught_up is not None:
        caught_up.set()


async def _hand_over(record: Any, handle: Handle) -> None:
    try:
        heard = decode(record.value, record.headers)
    except Unprocessable as error:
        telemetry.log("event_passed_over", level="error", topic=record.topic, reason=str(error))
        return
    patience = Patience()
    while True:
        try:
            await handle(heard, record.partition, record.offset)
        except Unavailable as error:
            telemetry.log("event_retried", level="warning", reason=str(error))
            await asyncio.sleep(patience.next_seconds())
        except Exception as error:  # noqa: BLE001 - following must go on; the line says what was lost
            telemetry.log("event_passed_over", level="error", type=heard.event.TYPE, exc_info=error)
            return
        else:
            return
