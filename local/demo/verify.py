"""Lost and doubled, counted from the broker's own log against what was accepted."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from local.demo.live import MODEL
from local.demo.log import Event
from local.demo.tally import Tally
from shared import topics
from shared.codec import decode
from shared.events import GroundTruthObserved, Heard, PredictionsLogged
from tidewheel.narrate import data_of, ends_with, short_type

_OUTSIDE = (topics.OFFERS, topics.PREDICTIONS, topics.FEEDBACK, topics.SERVING)
_STREAMS = (topics.PREDICTIONS, topics.FEEDBACK)
FACTS = tuple(t.name for t in topics.ALL if t.sequenced and t not in _OUTSIDE)
"""Topics whose events are numbered per subject and kept for ever."""
_BESIDE_THE_LOG = (topics.AUDIT.name,)
"""What is said about the registry's log, every few minutes, stands beside it."""


@dataclass(slots=True)
class Found:
    """What the log holds, and what is wrong with it.

    Attributes:
        lost: what should be there and is not, each in words.
        doubled: what is there twice with effect, each in words.
        repeats: the same bytes again, as every at-least-once delivery may; readers drop them.
    """

    events: int = 0
    rows: int = 0
    truths: int = 0
    repeats: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)


def read_log(bootstrap: str) -> dict[str, list[bytes]]:
    """Every record of every topic."""
    return asyncio.run(_read_all(bootstrap))


async def _read_all(bootstrap: str) -> dict[str, list[bytes]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        partitions = [
            TopicPartition(topic.name, number)
            for topic in topics.ALL
            for number in range(topic.partitions)
        ]
        return await _until_the_end(consumer, partitions)
    finally:
        await consumer.stop()


async def _until_the_end(consumer: Any, partitions: list[TopicPartition]) -> dict[str, list[bytes]]:
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends: Mapping[TopicPartition, int] = await consumer.end_offsets(partitions)
    records: dict[str, list[bytes]] = defaultdict(list)
    while open_ones := [p for p in partitions if await consumer.position(p) < ends[p]]:
        batches: Mapping[TopicPartition, list[ConsumerRecord[bytes, bytes]]]
        batches = await consumer.getmany(*open_ones, timeout_ms=500)
        for partition, batch in batches.items():
            records[partition.topic] += [record.value for record in batch if record.value]
    return records


def check(
    records: Mapping[str, list[bytes]], heard_by_registry: list[Event], tally: Tally
) -> Found:
    """Compare what is on the broker with what was said, asked and folded."""
    found = Found(events=sum(map(len, records.values())))
    for topic, values in records.items():
        events = _distinct(topic, values, found)
        if topic in FACTS:
            _check_sequences(topic, events, found)
            if topic not in _BESIDE_THE_LOG:
                _check_folded(topic, events, heard_by_registry, found)
    _check_predictions(records, tally, found)
    _check_truths(records, tally, found)
    return found


def _distinct(topic: str, values: list[bytes], found: Found) -> list[Heard[Any]]:
    """Events by id; an id with two contents is a doubled event."""
    bodies: dict[tuple[str, str], bytes] = {}
    events = []
    for value in values:
        event = decode(value)
        key = (event.source, str(event.id))
        if key not in bodies:
            bodies[key] = value
            events.append(event)
        elif bodies[key] == value or topic in {t.name for t in _STREAMS}:
            found.repeats += 1
        else:
            found.doubled.append(f"{topic}: {event.id} with two contents")
    return events


def _check_sequences(topic: str, events: list[Heard[Any]], found: Found) -> None:
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in events:
        numbers[event.event.subject].append(event.sequence or 0)
    for subject, given in numbers.items():
        counted = Counter(given)
        missing = set(range(1, max(given) + 1)) - counted.keys()
        found.lost += [f"{topic}/{subject}: sequence {number}" for number in sorted(missing)]
        twice = [number for number, count in counted.items() if count > 1]
        found.doubled += [f"{topic}/{subject}: sequence {number}" for number in twice]


def _check_folded(topic: str, events: list[Heard[Any]], heard: list[Event], found: Found) -> None:
    """The registry's own log has each of them once."""
    folded = Counter(str(event["id"]) for event in heard)
    for event in events:
        count = folded[str(event.id)]
        if count == 0:
            found.lost.append(f"{topic}: {event.id} is not in the registry's log")
        elif count > 1:
            found.doubled.append(f"{topic}: {event.id} is {count} times in the registry's log")


def _check_predictions(records: Mapping[str, list[bytes]], tally: Tally, found: Found) -> None:
    batches: dict[tuple[str, int], PredictionsLogged] = {}
    for value in records.get(topics.PREDICTIONS.name, ()):
        batch = decode(value).event
        if isinstance(batch, PredictionsLogged):
            batches[batch.replica, batch.batch] = batch
    rows = Counter(row.id for batch in batches.values() for row in batch.rows)
    found.rows = len(rows)
    found.lost += [f"prediction {one}" for one in tally.asked if one not in rows]
    found.doubled += [f"prediction {one}" for one, count in rows.items() if count > 1]


def _check_truths(records: Mapping[str, list[bytes]], tally: Tally, found: Found) -> None:
    truths = set()
    for value in records.get(topics.FEEDBACK.name, ()):
        event = decode(value).event
        if isinstance(event, GroundTruthObserved):
            truths.add((event.prediction, event.revision))
    found.truths = len(truths)
    if len(truths) < tally.observed:
        found.lost.append(f"{tally.observed - len(truths)} ground truths")


def check_outcomes(accepted: list[dict[str, Any]], log: list[Event], found: Found) -> str:
    """Each accepted dataset version ends, for the model, in exactly one outcome of its cascade."""
    told = []
    for receipt in accepted:
        ends = _ends(str(receipt["cascade"]), log)
        name = f"v{receipt['version']}"
        if not ends:
            found.lost.append(f"the outcome of {name}")
        if len(ends) > 1:
            found.doubled.append(f"the outcome of {name}: {', '.join(ends)}")
        told.append(f"{name} {'/'.join(ends) or 'none'}")
    return ", ".join(told)


_OUTCOMES = {
    "model.promoted": "promoted",
    "evaluation.completed": "rejected",
    "rollout.aborted": "aborted",
    "rollout.superseded": "superseded",
    "candidate.superseded": "superseded",
    "training.skipped": "withheld",
    "training.failed": "failed",
}


def _ends(cascade: str, log: list[Event]) -> list[str]:
    return [
        _OUTCOMES[short_type(event)]
        for event in log
        if event.get("correlation") == cascade
        and data_of(event).get("model") == MODEL
        and short_type(event) in _OUTCOMES
        and ends_with(event) is not None
    ]
