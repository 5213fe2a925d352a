"""The only door to Faust: carries streams of telemetry into the kernel's unit of work.

Six rules keep Faust from losing events: one agent instance without isolated partitions; records
are acknowledged by hand and after the database has committed; the agent's body never raises;
nothing is sent through Faust and it makes no topics and opens no port; no tables and no windows;
and a thread outside of it looks after its group errors and its progress.
"""

# ruff: noqa: SLF001 - the rules need what Faust and aiokafka keep to themselves

import asyncio
import contextlib
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared import telemetry
from shared.broker import Admin, Reach, reach_of
from shared.errors import BrokerUnavailable
from shared.inbox import Limits
from shared.letters import Record, stamped
from shared.partitions import Starving, lag_of, standing_still
from shared.patience import Patience
from shared.postgres import Database
from shared.reactions import Reaction, topics_heard
from shared.streams import Lanes, Place, Stream

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import faust
    from faust.app.base import BootStrategy
    from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
    from faust.types import TP

LOOK_EVERY_SECONDS: Final = 2.0
STALLED_SECONDS: Final = 60.0
EXIT_STALLED: Final = 70
FETCH_WAIT_MILLISECONDS: Final = 100
HELD_WAIT_SECONDS: Final = 0.5
"""Partitions that are asked for again may wait so long for a poll to end."""


class _Boot(BootStrategy):  # type: ignore[misc] # the library has no types
    """Neither a web server nor a producer: nothing listens, nothing is sent past the outbox."""

    enable_web = False
    enable_kafka_producer = False


class _Thread(AIOKafkaConsumerThread):  # type: ignore[misc] # the library has no types
    """Hears what is committed only: what a producer has taken back was never said."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no setting for it but one that makes it send transactions of its own.
        consumer._isolation_level = "read_committed"
        return consumer


class _Consumer(Consumer):  # type: ignore[misc] # the library has no types
    """Asks the broker for no records of partitions that wait and have too many already.

    What Faust itself calls pausing drops records that are on their way.
    """

    def on_init(self) -> None:
        super().on_init()
        self.held: set[Any] = set()

    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        asked = active_partitions - self.held
        if asked:
            longest = min(timeout, HELD_WAIT_SECONDS) if self.held else timeout
            return await super()._getmany(asked, longest)
        # Without this the group would take whoever asks for nothing for dead.
        with self._thread._consumer._fetcher._subscriptions.fetch_context():
            await self.sleep(FETCH_WAIT_MILLISECONDS / 1000)
        return {}


class _App(faust.App):  # type: ignore[misc] # the library has no types
    BootStrategy = _Boot

    def _new_transport(self) -> Any:
        transport = super()._new_transport()
        transport.Consumer = _Consumer
        return transport

    def _create_directories(self) -> None:
        """It keeps no tables, so it needs no folders."""


@dataclass(frozen=True, slots=True)
class _Carried:
    """A record of Faust."""

    event: Any

    @property
    def offset(self) -> int:
        return int(self.event.message.offset)

    def acknowledge(self) -> None:
        self.event.ack()


class FaustStreams:
    """The streams of one service, on Faust."""

    def __init__(
        self,
        database: Database,
        bootstrap: str,
        service: str,
        reactions: Sequence[Reaction] = (),
        *,
        streams: Sequence[Stream] = (),
        topic_prefix: str = "",
        replica: str = "0",
        session_seconds: float = 10.0,
        drain_seconds: float = 10.0,
        limits: Limits | None = None,
        stalled_seconds: float = STALLED_SECONDS,
        stalled: Callable[[], None] = lambda: os._exit(EXIT_STALLED),
    ) -> None:
        self._bootstrap = bootstrap
        self._prefix = topic_prefix
        self._service = service
        self._instance = f"{topic_prefix}{service}-streams-{replica}"
        self._session = session_seconds
        self._drain = drain_seconds
        self._stalled_seconds = stalled_seconds
        self._stalled = stalled
        self._topics = [*topics_heard(reactions, service), *(stream.topic for stream in streams)]
        self._lanes: Lanes[_Carried] = Lanes(
            database, service, reactions, streams, limits, self._hold
        )
        self._app: Any = None
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._told_at = 0.0

    async def run(self) -> None:
        """Carry until stopped or cancelled; Faust is built anew whenever it has ended itself."""
        # Faust and mode use what Python 3.14 will drop; that is theirs to mend.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(faust|mode)\b.*")
        patience = Patience()
        try:
            while not self._stopping.is_set():
                await self._carry(patience)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience.next_seconds()):
                        await self._stopping.wait()
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        """Finish what is in work, commit the offsets, leave."""
        self._stopping.set()
        await self._stopped.wait()

    def state(self) -> dict[str, Any]:
        """How the streams stand, for `/ready` and for people."""
        workers = self._lanes.workers()
        return {
            "running": self._app is not None and self._app.started and not self._app.should_stop,
            "assigned": sorted(f"{topic}/{number}" for topic, number in workers),
            "queued": sum(worker.queued for worker in workers.values()),
            "waiting": {f"{t}/{n}": w.waits_for for (t, n), w in workers.items() if w.waits_for},
        }

    async def _carry(self, patience: Patience) -> None:
        """One life of a Faust app: from an answering broker until it ends or is told to."""
        try:
            async with Admin(self._bootstrap) as admin:
                names = [self._prefix + topic.name for topic in self._topics]
                known = await admin.partitions(names)
        except BrokerUnavailable as error:
            telemetry.log("streams_wait", level="warning", reason=str(error))
            return
        if len(known) < len(set(names)):
            telemetry.log("streams_wait", level="warning", reason="a topic does not exist yet")
            return
        app = self._app = self._build(names)
        watch = _Watch(app, self._lanes, self._stalled_seconds, self._stalled, self._prefix)
        try:
            await self._live(app, watch)
            patience.reset()
        finally:
            watch.end()
            self._app = None
            await self._lanes.drain(self._drain)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await app.stop()

    async def _live(self, app: Any, watch: "_Watch") -> None:
        app.finalize()
        app.loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(30):
                await app.maybe_start()
        except TimeoutError:
            telemetry.log("streams_interrupted", level="warning", reason="it did not start")
            return
        _shorten_polls(app)
        watch.begin()
        told = asyncio.create_task(self._stopping.wait())
        try:
            while not (self._stopping.is_set() or app.should_stop or watch.broken):
                self._lanes.check()
                self._tell_lag(watch)
                await asyncio.wait({told}, timeout=0.2)
        finally:
            told.cancel()
        if not self._stopping.is_set():
            reason = repr(app.crash_reason or watch.broken)
            telemetry.log("streams_interrupted", level="warning", reason=reason)

    def _tell_lag(self, watch: "_Watch") -> None:
        """Over the partitions of each topic that are here: how many wait, and the oldest's age."""
        if time.monotonic() - self._told_at < LOOK_EVERY_SECONDS:
            return
        self._told_at = time.monotonic()
        waiting = {topic.name: [0.0, 0.0] for topic in self._topics}
        is_taken = self._lanes.is_asking(0.0)
        for place, worker in self._lanes.workers().items():
            messages = lag_of(worker, watch.reach(place), is_taken=is_taken)
            known = waiting[place[0]]
            known[0] += messages
            known[1] = max(known[1], worker.oldest_seconds if messages else 0.0)
        for topic, (number_waiting, seconds) in waiting.items():
            labels = {"group": f"{self._service}.streams", "topic": topic}
            telemetry.gauge("tidewheel_consumer_lag_messages", number_waiting, **labels)
            telemetry.gauge("tidewheel_consumer_lag_seconds", seconds, **labels)

    def _build(self, names: Sequence[str]) -> Any:
        app = _App(
            f"{self._prefix}tidewheel.{self._service}.streams",
            broker=f"aiokafka://{self._bootstrap}",
            autodiscover=False,
            datadir=tempfile.gettempdir(),
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            reply_create_topic=False,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=self._instance,
            broker_commit_interval=0.5,
            broker_session_timeout=self._session,
            broker_heartbeat_interval=self._session / 3,
            broker_request_timeout=max(15.0, self._session),
            broker_rebalance_timeout=max(30.0, self._session),
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
            stream_buffer_maxsize=1000,
        )
        topic = app.topic(
            *names,
            key_type=None,
            value_type=None,
            key_serializer="raw",
            value_serializer="raw",
            acks=True,
        )
        app.on_partitions_revoked.connect(self._on_revoked)
        app.agent(topic, name=f"{self._service}-streams", concurrency=1)(self._agent)
        return app

    def _hold(self, place: Place, held: bool) -> None:
        consumer = self._app.consumer if self._app is not None else None
        if consumer is not None:
            part = TP(self._prefix + place[0], place[1])
            (consumer.held.add if held else consumer.held.discard)(part)

    async def _on_revoked(self, _sender: Any, revoked: Any, **_: Any) -> None:
        places = [(part.topic.removeprefix(self._prefix), part.partition) for part in revoked]
        await self._lanes.let_go(places, self._drain)

    async def _agent(self, stream: Any) -> None:
        """Never raises: what is wrong with a record is the unit of work's to deal with."""
        async for event in stream.noack().events():
            message = event.message
            record = Record(
                topic=message.topic.removeprefix(self._prefix),
                partition=message.partition,
                offset=message.offset,
                key=message.key,
                value=message.value,
                headers=tuple(_headers(message.headers)),
                sent_at=message.timestamp,
                came_at=stamped(message.timestamp, message.timestamp_type),
            )
            await self._lanes.put(record, _Carried(event))


def _headers(headers: Any) -> list[tuple[str, bytes]]:
    pairs = headers.items() if hasattr(headers, "items") else headers or ()
    return [(str(name), bytes(value or b"")) for name, value in pairs]


def _shorten_polls(app: Any) -> None:
    """Faust polls for 1.5 s; partitions drained meanwhile would not be asked for until its end."""
    consumer = getattr(app.consumer._thread, "_consumer", None)
    if consumer is not None and consumer._fetcher is not None:
        consumer._fetcher._fetch_max_wait_ms = FETCH_WAIT_MILLISECONDS


class _Watch:
    """A thread that looks after the consumer even when the loop of the service stands still.

    Faust reads the consumer's buffer past the place where group errors come out; without somebody
    to ask for them a failed consumer would look alive and hear nothing.
    """

    def __init__(
        self,
        app: Any,
        lanes: Lanes[_Carried],
        seconds: float,
        stalled: Callable[[], None],
        prefix: str = "",
    ) -> None:
        self._app = app
        self._prefix = prefix
        self._starving: Starving[Place] = Starving()
        self._lanes = lanes
        self._seconds = seconds
        self._stalled = stalled
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream-watch", daemon=True)
        self.broken: Exception | None = None

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(min(LOOK_EVERY_SECONDS, self._seconds / 4)):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - nobody else would notice a standstill
                telemetry.log("watch_failed", level="warning", exc_info=error)

    def _look(self) -> None:
        consumer = self._consumer()
        if consumer is None:
            return
        self._app.consumer._thread.thread_loop.call_soon_threadsafe(self._check, consumer)
        if (place := self.stands()) is not None:
            telemetry.log(
                "streams_stalled",
                level="error",
                seconds=self._seconds,
                topic=place[0],
                partition=place[1],
            )
            self._stalled()

    def _consumer(self) -> Any:
        return getattr(self._app.consumer._thread, "_consumer", None)

    def _check(self, consumer: Any) -> None:
        """On the consumer's own loop: take the pending error out, so that the group goes on."""
        coordinator = consumer._coordinator
        if coordinator is None:
            return
        try:
            coordinator.check_errors()
        except Exception as error:  # noqa: BLE001 - any group error at all is told and healed
            telemetry.log("group_error", level="warning", reason=repr(error))
            if coordinator._coordination_task.done():
                self.broken = error

    def stands(self) -> Place | None:
        """Look once for a partition that stands still; None while none does."""
        workers = self._lanes.workers()
        self._starving.look({place: self.reach(place) for place in workers})

        def is_starved(place: Place) -> bool:
            # What does not come because another partition is full will come.
            return self._lanes.is_asking(self._seconds) and (
                self._starving.for_longer_than(self._seconds, place)
            )

        return standing_still(workers, self._seconds, is_starved)

    def reach(self, place: Place) -> Reach | None:
        """How far the consumer has read a partition; None where nobody can tell."""
        consumer = self._consumer()
        if consumer is None:
            return None
        return reach_of(consumer, TP(self._prefix + place[0], place[1]))
