"""The relay: what a service said in its database goes to the broker, in order, at least once.

Rows are deleted after the broker has acknowledged them. There is no cursor: ids are given before
their transaction commits, so a reader that remembers the last id misses what commits late.
"""

import asyncio
import time
from typing import Any, Final

import asyncpg
import orjson

from shared import faults, telemetry
from shared.broker import Message, Publisher
from shared.errors import BrokerUnavailable, StoreUnavailable
from shared.patience import Patience
from shared.postgres import PASSING, SESSION, Database

RELAY_LOCK: Final = 7435
"""Advisory lock of the one relay per database that publishes."""

BATCH: Final = 500
POLL_SECONDS: Final = 0.25
"""How often other replicas' rows are looked for; own commits wake the relay at once."""

_WAITING: Final = (
    "select o.id, s.topic, s.subject, s.payload from outbox o join said s using (event_id) "
    "order by o.id limit $1"
)
_DELETE: Final = "delete from outbox where id = any($1::bigint[])"
_PENDING: Final = (
    "select count(*) as pending, coalesce(extract(epoch from now() - min(said_at)), 0)::float8 "
    "as oldest from (select said_at from outbox order by id limit 100000) as o"
)


class Relay:
    """Publishes one database's outbox while it holds the lock; otherwise waits for the lock."""

    def __init__(self, database: Database, bootstrap: str, topic_prefix: str = "") -> None:
        self._database = database
        self._bootstrap = bootstrap
        self._prefix = topic_prefix
        self._looked_at = 0.0
        self._quiet = asyncio.Event()
        self.leader = False
        self.pending = 0
        self.oldest_seconds = 0.0

    async def run(self) -> None:
        """Relay until cancelled; after any failure everything is built anew."""
        patience = Patience()
        while True:
            try:
                await self._lead(patience)
            except (OSError, BrokerUnavailable, StoreUnavailable, *PASSING) as error:
                telemetry.log("relay_interrupted", level="warning", reason=str(error))
                await asyncio.sleep(patience.next_seconds())

    async def settle(self) -> None:
        """Wait until nothing that this process said is left to send."""
        self._quiet.clear()
        self._database.committed.set()
        if self.leader:
            await self._quiet.wait()

    async def _lead(self, patience: Patience) -> None:
        connection: Any = await asyncpg.connect(
            self._database.url,
            command_timeout=30,
            timeout=10,
            server_settings={
                **SESSION,
                "application_name": f"tidewheel-{self._database.service}-relay",
            },
        )
        publisher = Publisher(self._bootstrap, self._prefix)
        try:
            # A lost deletion only repeats what readers drop, so it need not wait for the disk.
            await connection.execute("set synchronous_commit = off")
            while not await connection.fetchval("select pg_try_advisory_lock($1)", RELAY_LOCK):
                patience.reset()
                await asyncio.sleep(POLL_SECONDS)
            self._set_leader(leader=True)
            while True:
                await self._turn(connection, publisher)
                patience.reset()
        finally:
            self._set_leader(leader=False)
            # Without its connection the lock is free; a broken one has to be cut, not closed.
            connection.terminate()
            await publisher.close()

    async def _turn(self, connection: Any, publisher: Publisher) -> None:
        """Publish what waits, or wait until something does."""
        self._database.committed.clear()
        if time.monotonic() - self._looked_at > 5:
            await self._measure(connection)
        rows = await self._next(connection)
        if rows:
            await self._publish(publisher, rows)
            await self._forget(connection, rows)
            return
        self._quiet.set()
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._database.committed.wait()
        except TimeoutError:
            return

    async def _next(self, connection: Any) -> list[Any]:
        return list(await connection.fetch(_WAITING, BATCH))

    async def _forget(self, connection: Any, rows: list[Any]) -> None:
        await connection.execute(_DELETE, [row["id"] for row in rows])

    async def _publish(self, publisher: Publisher, rows: list[Any]) -> None:
        await publisher.send_messages(
            [
                Message(
                    topic=row["topic"], key=row["subject"].encode(), value=bytes(row["payload"])
                )
                for row in rows
            ]
        )
        faults.reach("after_publish_before_offset", *_labels(rows))

    async def _measure(self, connection: Any) -> None:
        row = await connection.fetchrow(_PENDING)
        self._looked_at = time.monotonic()
        self.pending, self.oldest_seconds = row["pending"], row["oldest"]
        telemetry.gauge("tidewheel_outbox_pending", self.pending)
        telemetry.gauge("tidewheel_outbox_oldest_seconds", self.oldest_seconds)

    def _set_leader(self, *, leader: bool) -> None:
        self.leader = leader
        telemetry.gauge("tidewheel_relay_leader", int(leader))


def _labels(rows: list[Any]) -> list[str]:
    """Types and topics, for a fault point; looked into the bytes only where one is armed."""
    if not faults.awaits("after_publish_before_offset"):
        return []
    types = [str(orjson.loads(row["payload"])["type"]) for row in rows]
    return types + [row["topic"] for row in rows]
