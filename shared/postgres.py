"""A service's own database: one transaction holds the effect of an event and what is said of it.

A store asks the `Database` for rows and needs not know whether a transaction is open: inside one,
the same task's calls run in it.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from shared import clock, codec
from shared.errors import StoreUnavailable
from shared.events import Event, Heard
from shared.ids import derived, uuid7
from shared.topics import topic_of

Row = asyncpg.Record

PASSING: Final = (
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DiskFullError,
)
"""Failures that pass by themselves; the same transaction is worth another try."""

_current: ContextVar["Transaction | None"] = ContextVar("transaction", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why something is said: the event behind it and the cascade that it belongs to."""

    id: UUID | None
    correlation: UUID
    traceparent: str | None = None

    @classmethod
    def of(cls, heard: Heard[Event]) -> "Cause":
        """The event that is being reacted to."""
        return cls(id=heard.id, correlation=heard.correlation, traceparent=heard.traceparent)

    @classmethod
    def outside(cls, correlation: UUID | None = None) -> "Cause":
        """Somebody outside asked; a new cascade begins unless one is named."""
        return cls(id=None, correlation=correlation or uuid7())


@dataclass(slots=True, kw_only=True)
class Transaction:
    """An open transaction of one task, with the cause of what is said in it."""

    connection: Any
    service: str
    cause: Cause
    said: list[Heard[Event]] = field(default_factory=list)

    async def say(
        self, events: Iterable[Event], *, cause: Cause | None = None, step: str = ""
    ) -> list[Heard[Event]]:
        """Put events into the outbox; they leave when, and only when, this transaction commits.

        Args:
            events: what became true, in order.
            cause: instead of the transaction's own.
            step: tells repeated sayings of one cause apart, so that each keeps its id.

        Raises:
            InvalidEvent: one of them cannot be published; the transaction must not commit.
        """
        spoken = [await self._say(event, cause or self.cause, step) for event in events]
        self.said.extend(spoken)
        return spoken

    async def _say(self, event: Event, cause: Cause, step: str) -> Heard[Event]:
        topic = topic_of(type(event), self.service)
        sequence = await self._next_sequence(topic.name, event.subject) if topic.sequenced else None
        event_id = (
            derived(cause.id, event.TYPE, event.subject, step, len(self.said))
            if cause.id
            else uuid7()
        )
        heard = Heard(
            event=event,
            id=event_id,
            source=f"//tidewheel/{self.service}",
            time=clock.now(),
            correlation=cause.correlation,
            causation=cause.id,
            sequence=sequence,
            traceparent=cause.traceparent,
        )
        await self._enqueue(topic.name, heard, codec.encode(heard))
        return heard

    async def _next_sequence(self, topic: str, subject: str) -> int:
        value = await self.connection.fetchval(
            "insert into stream_head as h (topic, subject, sequence) values ($1, $2, 1) "
            "on conflict (topic, subject) do update set sequence = h.sequence + 1 "
            "returning sequence",
            topic,
            subject,
        )
        return int(value)

    async def _enqueue(self, topic: str, heard: Heard[Event], payload: bytes) -> None:
        await self.connection.execute(
            "with s as (insert into said (event_id, topic, subject, sequence, digest, payload) "
            "values ($1, $2, $3, $4, $5, $6) returning event_id) "
            "insert into outbox (event_id) select event_id from s",
            heard.id,
            topic,
            heard.event.subject,
            heard.sequence,
            hashlib.sha256(payload).digest(),
            payload,
        )


class Database:
    """A pool of connections to one service's database."""

    def __init__(self, pool: Any, service: str, url: str) -> None:
        self._pool = pool
        self.service = service
        self.url = url
        self.committed = asyncio.Event()
        """Set after every commit that said something; wakes the relay."""

    @classmethod
    async def open(
        cls, url: str, service: str, *, size: int = 8, migrations: Sequence[Path] = ()
    ) -> "Database":
        """Connect, and bring the schema up to date first.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        database = await cls.lazily(url, service, size=size)
        await database.prepare(migrations)
        return database

    @classmethod
    async def lazily(cls, url: str, service: str, *, size: int = 8) -> "Database":
        """A pool that connects when it is first used, so that a service starts without it."""
        return cls(await _pool(url, service, size, least=0), service, url)

    async def prepare(self, migrations: Sequence[Path] = ()) -> None:
        """Bring the schema up to date: the kernel's tables, then the service's own.

        Raises:
            StoreUnavailable: the database does not answer; the same call is worth another try.
        """
        try:
            await migrate(self.url, [Path(__file__).parent / "migrations", *migrations])
        except PASSING as error:
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Give every connection back; waits for those in use for at most five seconds."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def transaction(self, cause: Cause | None = None) -> AsyncIterator[Transaction]:
        """One transaction; inside an open one of the same task, that one.

        Raises:
            StoreUnavailable: the database failed in a way that passes; nothing was committed
                unless the connection broke during the commit itself.
        """
        outer = _current.get()
        if outer is not None:
            yield outer
            return
        try:
            async with self._pool.acquire(timeout=10) as connection, connection.transaction():
                transaction = Transaction(
                    connection=connection,
                    service=self.service,
                    cause=cause or Cause.outside(),
                )
                token = _current.set(transaction)
                try:
                    yield transaction
                finally:
                    _current.reset(token)
        except PASSING as error:
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
        if transaction.said:
            self.committed.set()

    async def fetch(self, sql: str, *arguments: Any) -> list[Row]:
        """All rows of a query."""
        return list(await self._run("fetch", sql, arguments))

    async def fetchrow(self, sql: str, *arguments: Any) -> Row | None:
        """The first row of a query, if there is one."""
        row: Row | None = await self._run("fetchrow", sql, arguments)
        return row

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        """The first column of the first row, or None."""
        return await self._run("fetchval", sql, arguments)

    async def execute(self, sql: str, *arguments: Any) -> int:
        """Run a statement; how many rows it touched."""
        status = str(await self._run("execute", sql, arguments))
        last = status.rsplit(" ", 1)[-1]
        return int(last) if last.isdigit() else 0

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once per row of arguments."""
        await self._run("executemany", sql, (list(rows),))

    async def _run(self, method: str, sql: str, arguments: Sequence[Any]) -> Any:
        current = _current.get()
        if current is not None:
            return await getattr(current.connection, method)(sql, *arguments)
        try:
            async with self._pool.acquire(timeout=10) as connection:
                return await getattr(connection, method)(sql, *arguments)
        except PASSING as error:
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


async def _pool(url: str, service: str, size: int, *, least: int) -> Any:
    return await asyncpg.create_pool(
        url,
        min_size=least,
        max_size=size,
        init=_speak_json,
        command_timeout=30,
        server_settings={"application_name": f"tidewheel-{service}", "jit": "off"},
    )


async def _speak_json(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", encoder=_dump_json, decoder=json.loads, schema="pg_catalog", format="text"
    )


def _dump_json(value: Any) -> str:
    # default=str: ids and moments inside plain structures are written as text.
    return json.dumps(value, allow_nan=False, default=str)


async def migrate(url: str, folders: Sequence[Path]) -> None:
    """Bring a database up to date: every numbered file once, in order, under one lock.

    Raises:
        RuntimeError: a file that was applied has changed since.
    """
    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute("select pg_advisory_lock(7434)")
        await connection.execute(
            "create table if not exists schema_version (folder text, name text, checksum text, "
            "applied_at timestamptz not null default now(), primary key (folder, name))"
        )
        rows = await connection.fetch("select folder, name, checksum from schema_version")
        applied = {(row["folder"], row["name"]): row["checksum"] for row in rows}
        for folder in folders:
            for file in sorted(folder.glob("*.sql")):
                await _apply(connection, folder.parent.name, file, applied)
    finally:
        await connection.close()


async def _apply(
    connection: Any, folder: str, file: Path, applied: Mapping[tuple[str, str], str]
) -> None:
    text = await asyncio.to_thread(file.read_text, encoding="utf-8")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    known = applied.get((folder, file.name))
    if known == checksum:
        return
    if known is not None:
        raise RuntimeError(f"{folder}/{file.name} was changed after it was applied; add a new file")
    async with connection.transaction():
        await connection.execute(text)
        await connection.execute(
            "insert into schema_version (folder, name, checksum) values ($1, $2, $3)",
            folder,
            file.name,
            checksum,
        )
