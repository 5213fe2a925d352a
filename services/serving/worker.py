"""What goes on beside answering: sending the spool, measuring, announcing, following, tidying."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

import orjson

from services.serving.handlers.deployments import Deployments
from services.serving.handlers.log import joined
from services.serving.handlers.predictions import Predictions
from services.serving.handlers.voice import SOURCE, Voice, measure_slot
from services.serving.store.disk import Disk
from services.serving.store.spool import Sealed, Spool
from shared import codec, faults, telemetry
from shared.broker import Message, Publisher
from shared.clock import Clock
from shared.errors import BrokerUnavailable, StoreUnavailable, Unavailable
from shared.events import (
    DeploymentDesired,
    Event,
    Heard,
    PredictionsLogged,
)
from shared.ids import derived
from shared.patience import Patience
from shared.topics import DEPLOYMENT, PREDICTIONS

SEND_TOGETHER: Final = 30
"""Messages, and batches, that are sent before their acknowledgement is waited for."""
FLUSH_SECONDS: Final = 2.0
"""What a graceful stop grants the spool."""
TIDY_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 3600.0
FORGIVE_SECONDS: Final = 60.0
"""A process that has lived so long was ended by no version that it asked at once."""


@dataclass(slots=True, kw_only=True)
class Sender:
    """Brings the spool to the broker, in order, at least once."""

    spool: Spool
    publisher: Publisher
    replica: str
    now: Clock
    batch_rows: int
    batch_seconds: float
    is_connected: bool | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _waits_since: float | None = None

    def wake(self) -> None:
        """Something was put into the spool."""
        if self._waits_since is None and self.spool.waiting_rows:
            self._waits_since = time.monotonic()
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled."""
        patience = Patience()
        while True:
            try:
                sent = await self.send_some()
            except Unavailable as error:
                if isinstance(error, BrokerUnavailable):
                    self.is_connected = False
                telemetry.log("spool_not_sent", level="warning", reason=str(error))
                await asyncio.sleep(patience.next_seconds())
                continue
            if sent:
                patience.reset()
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Until a batch is full or old enough, or another message waits."""
        self._woken.clear()
        if self.spool.outgoing_messages or self.spool.sealed_batches:
            return
        seconds: float | None = None
        if self.spool.waiting_rows:
            since = self._waits_since or time.monotonic()
            seconds = max(0.001, since + self.batch_seconds - time.monotonic())
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def send_some(self, *, at_once: bool = False) -> bool:
        """Seal what is due and send the oldest messages; False when there was nothing to send.

        Raises:
            BrokerUnavailable: they stay in the spool.
            StoreUnavailable: the own disk is full or broken; they stay in the spool.
        """
        self._seal_due(at_once=at_once)
        messages = self.spool.outgoing(SEND_TOGETHER)
        batches = self.spool.batches(SEND_TOGETHER)
        if not messages and not batches:
            return False
        waiting = [one.message for one in messages] + [self.message_of(one) for one in batches]
        await self.publisher.send_messages(waiting)
        self.is_connected = True
        faults.reach("after_publish_before_offset", *_labels(waiting))
        self.spool.forget(messages, batches)
        return True

    def _seal_due(self, *, at_once: bool) -> None:
        spool = self.spool
        while spool.sealed_batches < SEND_TOGETHER:
            # While the broker is away the others wait unsealed, and make full batches later.
            is_due = spool.waiting_rows >= self.batch_rows or at_once or self._is_old()
            if not is_due or not spool.seal(most_rows=self.batch_rows):
                break
        if not spool.waiting_rows:
            self._waits_since = None

    def _is_old(self) -> bool:
        # Rows of an earlier process have no known age: they have waited long enough.
        return self._waits_since is None or (
            time.monotonic() - self._waits_since >= self.batch_seconds
        )

    def message_of(self, batch: Sealed) -> Message:
        """A batch as it goes over the wire, the same however often it is made."""
        columns, rows = joined(batch.rows)
        event = PredictionsLogged(
            replica=self.replica, batch=batch.number, columns=columns, rows=(), gaps=batch.gaps
        )
        batch_id = derived(None, "predictions", self.replica, batch.number)
        heard: Heard[Event] = Heard(
            event=event,
            id=batch_id,
            source=f"{SOURCE}/{self.replica}",
            time=batch.at,
            correlation=batch_id,
        )
        message = Message.of(PREDICTIONS, heard)
        # The rows are JSON already. Quotes within a name are escaped, so this stands there once.
        value = (message.value or b"").replace(_NO_ROWS, b'"rows":' + rows, 1)
        return replace(message, value=value)

    async def finish(self) -> None:
        """Send what is left, as far as the broker answers in time; the rest stays on the disk."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                while await self.send_some(at_once=True):
                    pass
        except (TimeoutError, Unavailable) as error:
            telemetry.log(
                "spool_left", level="warning", bytes=self.spool.size_bytes, why=str(error)
            )
        await self.publisher.close()


_NO_ROWS: Final = b'"rows":[]'


def _labels(sent: Sequence[Message]) -> set[str]:
    """What fault points are told of messages: their topics, and the type of prediction logs."""
    topics = {message.topic for message in sent}
    return topics | {PredictionsLogged.TYPE} if PREDICTIONS.name in topics else topics


@dataclass(slots=True, kw_only=True)
class Upkeep:
    """Steps that come back: each is short, and does nothing where nothing is due."""

    deployments: Deployments
    predictions: Predictions
    voice: Voice
    spool: Spool
    announce_seconds: float
    sync_seconds: float
    forgive: Callable[[], None]

    async def measure(self) -> None:
        """Look twice a second whether something is to be said or tried again."""
        while True:
            self.say_measures()
            self.predictions.tell_standings()
            self.deployments.retry_due()
            await asyncio.sleep(0.5)

    def say_measures(self, *, all_of_them: bool = False) -> None:
        """Say the measures that are due; one that would queue behind its like waits and grows."""
        now = time.monotonic()
        kept = []
        for measure in self.deployments.measures:
            if measure.is_replaced and measure.is_empty:
                continue
            due = all_of_them or measure.is_due(now)
            if due and not self.spool.is_taken(measure_slot(measure.endpoint)):
                arms = measure.take()
                if arms:
                    self.voice.measured(measure.endpoint, arms, now - measure.since)
                measure.since = now
                if measure.is_replaced:
                    continue
            kept.append(measure)
        self.deployments.measures[:] = kept

    async def announce(self) -> None:
        """Say every few seconds that this replica is alive."""
        while True:
            self.voice.announced(len(self.deployments.endpoints))
            await asyncio.sleep(self.announce_seconds)

    async def sync(self) -> None:
        """Bring the spool to the disk again and again: what came since is what a power cut takes.

        Answers do not wait for it.
        """
        while True:
            await asyncio.to_thread(self.spool.sync)
            await asyncio.sleep(self.sync_seconds or 1.0)

    async def tidy(self) -> None:
        """Give up what is too old, remove old artifacts, forgive versions after a minute."""
        swept_at = float("-inf")
        forgives_at = time.monotonic() + FORGIVE_SECONDS
        while True:
            if time.monotonic() > forgives_at:
                self.forgive()
                forgives_at = float("inf")
            self.tidy_spool()
            if time.monotonic() - swept_at > SWEEP_SECONDS and self.deployments.is_settled:
                swept_at = time.monotonic()
                await self.deployments.sweep()
            await asyncio.sleep(TIDY_SECONDS)

    def tidy_spool(self) -> None:
        """Rows that waited too long are given up, and counted."""
        try:
            self.spool.tidy()
        except StoreUnavailable as error:
            telemetry.log("spool_not_tidied", level="warning", reason=str(error))
        telemetry.gauge("tidewheel_spool_bytes", self.spool.size_bytes)
        telemetry.gauge("tidewheel_spool_oldest_seconds", self.spool.oldest_seconds)


@cache
def _as_read() -> str:
    """The topic, and a digest of how this release reads a desired state."""
    schema = orjson.dumps(codec.json_schema(DeploymentDesired), option=orjson.OPT_SORT_KEYS)
    return f"{DEPLOYMENT.name} {hashlib.sha256(schema).hexdigest()[:16]}"


@dataclass(slots=True, kw_only=True)
class Places:
    """Where this replica stands in the deployment topic.

    Kept a moment after what was heard there: hearing a desired state twice is harmless, missing
    one is not. What could not be read was passed over; so a release that reads desired states
    otherwise than the one before begins at the beginning, while the own disk answers.
    """

    deployments: Deployments
    disk: Disk
    _moved: dict[int, int] = field(default_factory=dict)

    def known(self) -> Mapping[tuple[str, int], int]:
        """The next offsets, as `shared.bus.follow` asks for them."""
        found = self.disk.positions(_as_read())
        return {(DEPLOYMENT.name, part): offset for part, offset in found.items()}

    async def hear(self, heard: Heard[Any], partition: int, offset: int) -> None:
        """Keep a desired state; other facts of the topic only move the position."""
        if isinstance(heard.event, DeploymentDesired):
            await self.deployments.want(heard)
        self._moved[partition] = offset + 1

    async def keep(self) -> None:
        """Write the positions down every second."""
        while True:
            self.write()
            await asyncio.sleep(1.0)

    def write(self) -> None:
        """Write the positions down."""
        if not self._moved:
            return
        try:
            self.disk.keep_positions(_as_read(), self._moved)
            self._moved.clear()
        except StoreUnavailable as error:
            telemetry.log("positions_not_kept", level="warning", reason=str(error))
