"""The bus of a service: hears its topics, runs its reactions, and sends what they say.

Records are delivered at least once and in order per subject; `shared.inbox` makes that once in
effect. This file keeps the consumer alive and never lets an offset pass an unfinished event.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from shared import faults, telemetry
from shared.broker import (
    CorruptRecordException,
    KafkaError,
    Listener,
    Message,
    Publisher,
    TopicPartition,
    close_consumer,
    is_connected,
    make_consumer,
    reach_of,
    start_client,
)
from shared.errors import TidewheelError, Unavailable
from shared.events import Event, Heard
from shared.inbox import Inbox, Limits
from shared.letters import Record, stamped
from shared.outbox import Relay
from shared.parking import Parked, count_parked, list_parked
from shared.partitions import FULL, LOW, Starving, Worker, lag_of, standing_still
from shared.patience import Patience
from shared.postgres import Database, passes
from shared.provisioning import TopicsDiffer, check_topics, ensure_topics
from shared.reactions import Reaction, topics_heard
from shared.retrying import drop_parked, retry_parked, retry_upgraded
from shared.tail import follow
from shared.topics import Topic

__all__ = [
    "Bus",
    "Limits",
    "Parked",
    "Publisher",
    "Stalled",
    "Timing",
    "TopicsDiffer",
    "check_topics",
    "drop_parked",
    "ensure_topics",
    "follow",
    "list_parked",
    "publish",
    "retry_parked",
]


FORGET_EVERY_SECONDS: Final = 3600.0


class Stalled(TidewheelError):
    """Events wait and none has moved for long; the process ends and is started anew."""


class _Rebuild(Exception):
    """This consumer is of no more use; a consumer cannot be started twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the bus waits for what."""

    session_seconds: float = 10.0
    """After so long without a heartbeat the group gives the partitions to others."""
    drain_seconds: float = 10.0
    """A reaction may finish for so long when the process stops or the partition moves."""
    commit_seconds: float = 0.5
    """Between two commits of offsets; repeats after a crash are dropped by the watermark."""
    unassigned_seconds: float = 60.0
    """A consumer without any partition for so long is built anew."""
    stalled_seconds: float = 300.0
    """The process gives up when events have waited for so long and none has moved."""


class Bus:
    """Consumer and relay of one service."""

    worker_class = Worker

    def __init__(
        self,
        database: Database,
        bootstrap: str,
        service: str,
        reactions: Sequence[Reaction],
        *,
        topic_prefix: str = "",
        replica: str = "0",
        consumer: str | None = None,
        timing: Timing | None = None,
        limits: Limits | None = None,
        carried: Sequence[Reaction] = (),
    ) -> None:
        """Compose it; nothing is opened yet.

        Args:
            carried: reactions to what something else carries to the same consumer: dead letters of
                a type that an older release did not know are retried, and old ids are forgotten.
        """
        self._database = database
        self._bootstrap = bootstrap
        self._prefix = topic_prefix
        self._name = consumer or service
        self._instance = f"{topic_prefix}{self._name}-{replica}"
        self._timing = timing or Timing()
        self._reactions = (*reactions, *carried)
        self._topics = topics_heard(reactions, service)
        self._known = topics_heard(self._reactions, service)
        for topic in self._topics:
            if topic.sequenced:
                telemetry.begin("tidewheel_sequence_gaps_total", topic=topic.name)
        self._inbox = Inbox(database, self._name, reactions, limits=limits)
        self._relay = Relay(database, bootstrap, topic_prefix)
        self._slots = asyncio.Semaphore(max(1, database.size - 2))
        self._workers: dict[Any, Worker] = {}
        self._paused: set[Any] = set()
        self._consumer: Any = None
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._unassigned_since = time.monotonic()
        self._measured_at = 0.0
        self._forgot_at = 0.0
        self._lag: dict[Any, int] = {}
        self._starving: Starving[Any] = Starving()
        self._parked = 0

    async def run(self) -> None:
        """Hear, react and relay until stopped or cancelled; either way what is in work finishes.

        Raises:
            Stalled: events wait and nothing moves; a new process may do better.
        """
        relay = asyncio.create_task(self._relay.run())
        parts = [relay, asyncio.create_task(self._stopping.wait())]
        if self._topics:
            parts.append(asyncio.create_task(self._consume()))
        try:
            ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in ended:
                part.result()
        finally:
            await self._end(relay, parts[1:])
            self._stopped.set()

    async def stop(self) -> None:
        """Finish what is in work, commit the offsets, leave."""
        self._stopping.set()
        await self._stopped.wait()

    def state(self) -> dict[str, Any]:
        """How the bus stands, for `/ready` and for people."""
        consumer = self._consumer
        workers = dict(self._workers)
        waiting = {_name(part): w.waits_for for part, w in workers.items() if w.waits_for}
        return {
            "connected": consumer is not None and is_connected(consumer),
            "assigned": sorted(_name(part) for part in self._assigned()),
            "lag": sum(self._lag.values()),
            "parked": self._parked,
            "waiting": waiting,
            "missing": sorted({s for w in workers.values() for s in w.held_subjects}),
            "relay": {
                "leader": self._relay.leader,
                "pending": self._relay.pending,
                "oldest_seconds": round(self._relay.oldest_seconds, 3),
            },
        }

    async def _end(self, relay: "asyncio.Task[None]", parts: Iterable["asyncio.Task[Any]"]) -> None:
        """Reactions first, so that the relay can still send what the last of them said."""
        for part in parts:
            part.cancel()
        await asyncio.wait(parts := list(parts))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._relay.settle()
        relay.cancel()
        await asyncio.wait({relay})

    async def _consume(self) -> None:
        patience = Patience()
        await self._take_up_unknown()
        while True:
            consumer = make_consumer(
                self._bootstrap,
                group=f"{self._prefix}tidewheel.{self._name}",
                instance=self._instance,
                session_seconds=self._timing.session_seconds,
            )
            try:
                await self._serve(consumer, patience)
            except (KafkaError, OSError, TimeoutError, _Rebuild) as error:
                telemetry.log("consumer_rebuilt", level="warning", reason=_said(error))
            finally:
                await self._leave(consumer)
            await asyncio.sleep(patience.next_seconds())

    async def _take_up_unknown(self) -> None:
        """What an older release could not read and this one can; before anything newer is heard."""
        patience = Patience()
        names = [topic.name for topic in self._known]
        while True:
            try:
                await retry_upgraded(self._database, self._reactions, names, self._name)
            except Exception as error:
                if not (isinstance(error, Unavailable) or passes(error)):
                    raise
                await asyncio.sleep(patience.next_seconds())
            else:
                return

    async def _serve(self, consumer: Any, patience: Patience) -> None:
        """Poll and watch side by side; whichever fails ends both."""
        names = [self._prefix + topic.name for topic in self._topics]
        consumer.subscribe(names, listener=_Moves(self, consumer))
        await start_client(consumer, 30)
        self._consumer = consumer
        self._unassigned_since = time.monotonic()
        patience.reset()
        tasks = {
            asyncio.create_task(self._poll(consumer)),
            asyncio.create_task(self._watch(consumer)),
        }
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _leave(self, consumer: Any) -> None:
        await self.let_go(consumer, set(self._workers))
        self._consumer = None
        await close_consumer(consumer)

    async def _poll(self, consumer: Any) -> None:
        """Never stops polling: group errors come out here and nowhere else."""
        failures = 0
        while True:
            try:
                polled = await consumer.getmany(timeout_ms=200)
            except CorruptRecordException:
                # What the same poll had taken from other partitions is lost in the library.
                raise
            except KafkaError as error:
                failures += 1
                telemetry.log("poll_failed", level="warning", reason=_said(error))
                if failures >= 3:
                    raise
                await asyncio.sleep(0.1)
                continue
            failures = 0
            for part, records in polled.items():
                self._feed(consumer, part, records)

    def _feed(self, consumer: Any, part: Any, records: Sequence[Any]) -> None:
        worker = self._workers.get(part)
        if worker is None:
            worker = self.worker_class(
                self._inbox, self._slots, lambda: self._resume(consumer, part)
            )
            self._workers[part] = worker
        worker.put([self._record(record) for record in records])
        if worker.queued > FULL and part not in self._paused:
            self._paused.add(part)
            consumer.pause(part)

    def _resume(self, consumer: Any, part: Any) -> None:
        worker = self._workers.get(part)
        if worker and worker.queued < LOW and part in self._paused:
            self._paused.discard(part)
            consumer.resume(part)

    def _record(self, record: Any) -> Record:
        sent_at = record.timestamp / 1000 if record.timestamp else None
        return Record(
            topic=record.topic.removeprefix(self._prefix),
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=tuple((name, value or b"") for name, value in record.headers),
            sent_at=sent_at,
            came_at=stamped(sent_at, record.timestamp_type),
        )

    async def _watch(self, consumer: Any) -> None:
        """Commit what is finished, measure, and notice when nothing moves."""
        while True:
            await asyncio.sleep(self._timing.commit_seconds)
            for worker in self._workers.values():
                worker.check()
            await self._commit(consumer)
            now = time.monotonic()
            if consumer.assignment():
                self._unassigned_since = now
            elif now - self._unassigned_since > self._timing.unassigned_seconds:
                raise _Rebuild("the consumer has had no partition for long")
            if now - self._measured_at > 2:
                self._measured_at = now
                await self._measure(consumer)

    async def _commit(self, consumer: Any) -> None:
        """Tell the group how far everything is finished; a refusal costs repeats, no events."""
        if faults.awaits("after_publish_before_offset"):
            return
        ready = {
            part: worker.position
            for part, worker in self._workers.items()
            if worker.position not in (None, worker.committed)
        }
        if not ready:
            return
        try:
            async with asyncio.timeout(5):
                await consumer.commit(ready)
        except (KafkaError, TimeoutError) as error:
            telemetry.log("offsets_refused", level="warning", reason=_said(error))
            return
        for part, position in ready.items():
            if part in self._workers:
                self._workers[part].committed = position

    async def let_go(self, consumer: Any, parts: Iterable[Any]) -> None:
        """Finish what is in work on these partitions, commit, and forget them."""
        mine = {part: self._workers[part] for part in parts if part in self._workers}
        if not mine:
            return
        await asyncio.gather(*(w.drain(self._timing.drain_seconds) for w in mine.values()))
        await self._commit(consumer)
        for part in mine:
            self._workers.pop(part, None)
            self._paused.discard(part)

    def _assigned(self) -> set[Any]:
        return set(self._consumer.assignment()) if self._consumer is not None else set()

    async def _measure(self, consumer: Any) -> None:
        now, longest = time.monotonic(), self._timing.stalled_seconds
        reaches = {part: reach_of(consumer, part) for part in consumer.assignment()}
        self._lag = {part: lag_of(self._workers.get(part), at) for part, at in reaches.items()}
        self._tell_lag()
        self._starving.look(reaches)
        is_starved = partial(self._starving.for_longer_than, longest)
        stands = standing_still(self._workers, longest, is_starved)
        if stands is not None:
            lag = self._lag.get(stands, 0)
            raise Stalled(f"{_name(stands)} has {lag} events and has not moved for {longest:.0f} s")
        with contextlib.suppress(Unavailable):
            parked = await count_parked(self._database, self._name)
            self._parked = sum(parked.values())
            telemetry.gauges(
                "tidewheel_dead_letters_pending",
                [({"topic": t, "reason": why}, n) for (t, why), n in parked.items()],
            )
            if now - self._forgot_at > FORGET_EVERY_SECONDS:
                is_all = await self._inbox.forget_old(self._known)
                self._forgot_at = now if is_all else now - FORGET_EVERY_SECONDS

    def _tell_lag(self) -> None:
        """Over the partitions of each topic that are here: how many wait, and the oldest's age."""
        waiting = {part.topic.removeprefix(self._prefix): [0, 0.0] for part in self._lag}
        for part, lag in self._lag.items():
            worker = self._workers.get(part)
            known = waiting[part.topic.removeprefix(self._prefix)]
            known[0] += lag
            known[1] = max(known[1], worker.oldest_seconds if worker and lag else 0.0)
        for topic, (messages, seconds) in waiting.items():
            labels = {"group": self._name, "topic": topic}
            telemetry.gauge("tidewheel_consumer_lag_messages", messages, **labels)
            telemetry.gauge("tidewheel_consumer_lag_seconds", seconds, **labels)


class _Moves(Listener):  # type: ignore[misc] # the library has no types
    """Partitions come and go with the members of the group."""

    def __init__(self, bus: Bus, consumer: Any) -> None:
        self._bus = bus
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        await self._bus.let_go(self._consumer, revoked)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        telemetry.log("partitions_assigned", count=len(list(assigned)))


def _name(part: TopicPartition) -> str:
    return f"{part.topic}/{part.partition}"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


async def publish(
    bootstrap: str, prefix: str, topic: Topic, heards: Sequence[Heard[Event]]
) -> None:
    """Send a few events and wait for their acknowledgement: for tools and tests.

    Raises:
        BrokerUnavailable: the broker does not answer.
    """
    publisher = Publisher(bootstrap, prefix)
    try:
        await publisher.send_messages([Message.of(topic, heard) for heard in heards])
    finally:
        await publisher.close()
