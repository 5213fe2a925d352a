"""A service's own database: one transaction holds the effect of an event and what is said of it.

A store asks the `Database` for rows and needs not know whether a transaction is open: inside one,
the same task's calls run in it.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from shared import clock, codec, faults
from shared.errors import StoreUnavailable
from shared.events import Event, Heard
from shared.ids import id_said, uuid7
from shared.topics import Topic, topic_of

Row = asyncpg.Record
Sign = Callable[[Heard[Event]], Heard[Event]]
"""Returns an event with its signature."""

PASSING: Final = (
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server went away in the middle of an exchange
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidCachedStatementError,  # a newer release has just changed the table
)
"""Failures that may pass by themselves; `passes` decides."""


def passes(error: BaseException) -> bool:
    """Whether the same transaction is worth another try, for as long as it takes.

    asyncpg reports a lost connection and a wrong argument by one class; only the first passes.
    """
    if isinstance(error, asyncpg.InterfaceError):
        text = str(error)
        return not isinstance(error, asyncpg.DataError) and ("clos" in text or "released" in text)
    return isinstance(error, PASSING)


SESSION: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "idle_in_transaction_session_timeout": "60000",
}
"""A machine that vanished keeps its locks, the relay's too, for half a minute and not for hours;
a process that was frozen inside a transaction keeps them for a minute and not for ever."""

_NO_SEQUENCE: Final = b'"sequence":"0"'
_SAY: Final = """
    with one as (
        select * from unnest(
            $1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bytea[]
        ) with ordinality as o (event_id, topic, subject, followers, head, tail, place)
    ), heads as (
        insert into stream_head as h (topic, subject, sequence)
        select topic, subject, count(*) from one where followers is not null
        group by topic, subject order by topic, subject
        on conflict (topic, subject) do update set sequence = h.sequence + excluded.sequence
        returning topic, subject, sequence
    ), numbered as (
        select one.*, heads.sequence - one.followers as sequence
        from one left join heads on one.followers is not null
            and heads.topic = one.topic and heads.subject = one.subject
    ), kept as (
        insert into said (event_id, topic, subject, sequence, digest, payload)
        select event_id, topic, subject, sequence, sha256(bytes), bytes from (
            select *, case when sequence is null then head
                else head || convert_to(sequence::text, 'UTF8') || tail end as bytes
            from numbered
        ) as whole
    ), queued as (
        insert into outbox (event_id) select event_id from numbered order by place
    )
    select sequence from numbered order by place
"""
"""Locks the heads that it is given in one order, before the outbox gives its ids: so the ids of one
subject follow the order of commits. Who says several things one after the other in a transaction
holds a lock of its own on all but the last, or is tried again where two wait for each other."""

_current: ContextVar["Transaction | None"] = ContextVar("transaction", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why something is said: the event behind it and the cascade that it belongs to.

    Attributes:
        base: what ids are derived from where the event's own id may be anybody's.
    """

    id: UUID | None
    correlation: UUID
    traceparent: str | None = None
    base: UUID | None = None

    @classmethod
    def of(cls, heard: Heard[Event]) -> "Cause":
        """The event that is being reacted to."""
        return cls(
            id=heard.id,
            correlation=heard.correlation,
            traceparent=heard.traceparent,
            base=heard.key,
        )

    @classmethod
    def outside(cls, correlation: UUID | None = None) -> "Cause":
        """Somebody outside asked; a new cascade begins unless one is named."""
        return cls(id=None, correlation=correlation or uuid7())


@dataclass(slots=True, kw_only=True)
class Transaction:
    """An open transaction of one task, with the cause of what is said in it.

    Attributes:
        causes: tells them by subject, where several events are reacted to at once.
    """

    connection: Any
    service: str
    cause: Cause
    causes: Callable[[], Mapping[str, Cause]] = dict
    said: list[Heard[Event]] = field(default_factory=list)
    hearing: list[str] = field(default_factory=list)
    """Types of the events being reacted to; fault points know the transaction by them."""
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    _deferred: dict[str, list[Sequence[Any]]] = field(default_factory=dict)
    _spoken: Counter[UUID] = field(default_factory=Counter)

    def cause_of(self, subject: str) -> Cause:
        """Why something is said about a subject in this transaction."""
        return self.causes().get(subject, self.cause)

    async def say(
        self,
        events: Iterable[Event],
        *,
        cause: Cause | None = None,
        step: str = "",
        base: UUID | None = None,
        sign: Sign | None = None,
    ) -> list[Heard[Event]]:
        """Put events into the outbox; they leave when, and only when, this transaction commits.

        Args:
            events: what became true, in order.
            cause: instead of the transaction's own for their subjects.
            step: tells sayings of one cause in several transactions apart; each keeps its id.
            base: what the events' ids are derived from, instead of the cause.
            sign: puts a signature on each event, over everything but its sequence.

        Raises:
            InvalidEvent: one of them cannot be published; the transaction must not commit.
        """
        said = [(cause or self.cause_of(event.subject), event) for event in events]
        return await self.say_each(said, step=step, base=base, sign=sign)

    async def say_each(
        self,
        said: Sequence[tuple[Cause, Event]],
        *,
        step: str = "",
        base: UUID | None = None,
        sign: Sign | None = None,
    ) -> list[Heard[Event]]:
        """Like `say` for events of several causes: one round trip, however many there are."""
        if not said:
            return []
        topics = [topic_of(type(event), self.service) for _, event in said]
        unnumbered = [
            Heard(
                event=event,
                id=self._id(event, base or cause.base or cause.id, step),
                source=f"//tidewheel/{self.service}",
                time=clock.now(),
                correlation=cause.correlation,
                causation=cause.id,
                sequence=0 if topic.sequenced else None,
                traceparent=cause.traceparent,
            )
            for topic, (cause, event) in zip(topics, said, strict=True)
        ]
        if sign is not None:
            unnumbered = [sign(heard) for heard in unnumbered]
        numbers = await self._enqueue(topics, unnumbered)
        spoken = [
            replace(heard, sequence=number)
            for heard, number in zip(unnumbered, numbers, strict=True)
        ]
        self.said.extend(spoken)
        return spoken

    def _id(self, event: Event, base: UUID | None, step: str) -> UUID:
        """A function of its base and its place among what came of it, so that repeats repeat it."""
        if base is None:
            return uuid7()
        place, self._spoken[base] = self._spoken[base], self._spoken[base] + 1
        return id_said(base, event.TYPE, event.subject, step, place)

    async def _enqueue(
        self, topics: Sequence[Topic], heards: Sequence[Heard[Event]]
    ) -> list[int | None]:
        """One round trip for the sequences, what is said, and the outbox; the sequences."""
        cut = [_cut(codec.encode(heard), heard.sequence) for heard in heards]
        rows = await self.connection.fetch(
            _SAY,
            [heard.id for heard in heards],
            [topic.name for topic in topics],
            [heard.event.subject for heard in heards],
            _followers(topics, heards),
            [head for head, _ in cut],
            [tail for _, tail in cut],
        )
        return [row["sequence"] for row in rows]

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[None]:
        """What fails in here is undone by itself; the transaction goes on without it.

        Not after a lost connection: then the error of the connection is what comes out.
        """
        deferred = {sql: list(rows) for sql, rows in self._deferred.items()}
        said, callbacks, spoken = len(self.said), len(self.after_commit), self._spoken.copy()
        try:
            async with self.connection.transaction():
                yield
        except BaseException:
            self._deferred, self._spoken = deferred, spoken
            del self.said[said:], self.after_commit[callbacks:]
            raise

    def defer(self, sql: str, *arguments: Any) -> None:
        """Run a statement just before the commit, together with all others of the same text."""
        self._deferred.setdefault(sql, []).append(arguments)

    async def flush(self) -> None:
        """Run what was deferred; the commit does this by itself."""
        deferred, self._deferred = self._deferred, {}
        for sql, rows in deferred.items():
            await self.connection.executemany(sql, rows)

    def labels(self) -> tuple[str, ...]:
        """What fault points know this transaction by: what it heard and what it says."""
        return (*self.hearing, *(heard.event.TYPE for heard in self.said))


def _cut(payload: bytes, sequence: int | None) -> tuple[bytes, bytes | None]:
    """The bytes before and after the sequence, which only the database knows.

    What comes first is the attribute itself: inside a text its quotes would be escaped.
    """
    if sequence is None:
        return payload, None
    head, _, tail = payload.partition(_NO_SEQUENCE)
    return head + _NO_SEQUENCE[:-2], b'"' + tail


def _followers(topics: Sequence[Topic], heards: Sequence[Heard[Event]]) -> list[int | None]:
    """How many events of the same topic and subject are said after each; None without order."""
    seen: Counter[tuple[str, str]] = Counter()
    counts: list[int | None] = []
    for topic, heard in reversed(list(zip(topics, heards, strict=True))):
        key = (topic.name, heard.event.subject)
        counts.append(seen[key] if topic.sequenced else None)
        seen[key] += 1
    return counts[::-1]


class Database:
    """A pool of connections to one service's database."""

    transaction_class = Transaction

    def __init__(self, pool: Any, service: str, url: str, size: int = 8) -> None:
        self._pool = pool
        self.service = service
        self.url = url
        self.size = size
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
        except (OSError, *PASSING) as error:
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Give every connection back; waits for those in use for at most five seconds."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def now(self) -> datetime:
        """The moment by the clock of the database, which all replicas and most rows have.

        What is dropped for its age is dropped by this one: one replica whose own clock has jumped
        would drop what everybody needs.
        """
        moment: datetime = await self.fetchval("select now()")
        return moment

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call it once the open transaction of this task is committed; at once without one.

        What is undone has not happened: then it is not called.
        """
        open_now = _current.get()
        if open_now is None:
            callback()
        else:
            open_now.after_commit.append(callback)

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
        async with self._connection() as connection, connection.transaction():
            transaction = self.transaction_class(
                connection=connection, service=self.service, cause=cause or Cause.outside()
            )
            token = _current.set(transaction)
            try:
                yield transaction
                await transaction.flush()
            finally:
                _current.reset(token)
            faults.reach("before_commit", *transaction.labels())
        faults.reach("after_commit_before_publish", *transaction.labels())
        if transaction.said:
            self.committed.set()
        for callback in transaction.after_commit:
            callback()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        """A connection of the pool; what fails on it in a way that passes is `StoreUnavailable`."""
        try:
            connection = await self._pool.acquire(timeout=10)
        except (OSError, *PASSING) as error:
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
        try:
            yield connection
        except PASSING as error:
            if not passes(error):
                raise
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
        finally:
            # A connection that cannot be given back is cut by the pool; what was done on it stands.
            with suppress(OSError, *PASSING):
                await self._pool.release(connection)

    async def defer(self, sql: str, *arguments: Any) -> None:
        """Run a statement at the end of the open transaction, with all of the same text at once.

        For effects that nothing in the transaction reads; without a transaction it runs now.
        """
        current = _current.get()
        if current is None:
            await self.execute(sql, *arguments)
        else:
            current.defer(sql, *arguments)

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

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add many rows to a table at once; jsonb has no place among their columns."""
        async with self.transaction() as transaction:
            await transaction.connection.copy_records_to_table(
                table, columns=list(columns), records=rows
            )

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once per row of arguments."""
        await self._run("executemany", sql, (list(rows),))

    async def _run(self, method: str, sql: str, arguments: Sequence[Any]) -> Any:
        current = _current.get()
        if current is not None:
            return await getattr(current.connection, method)(sql, *arguments)
        async with self._connection() as connection:
            return await getattr(connection, method)(sql, *arguments)


async def _pool(url: str, service: str, size: int, *, least: int) -> Any:
    return await asyncpg.create_pool(
        url,
        min_size=least,
        max_size=size,
        init=_speak_json,
        command_timeout=30,
        server_settings={**SESSION, "application_name": f"tidewheel-{service}", "jit": "off"},
    )


async def _keep(_: Any) -> None:
    """A connection goes back into the pool as it is."""


async def _speak_json(connection: Any) -> None:
    # jsonb writes 1e40 as an integer of 41 digits; orjson reads what 64 bits cannot hold as the
    # float that it was.
    await connection.set_type_codec(
        "jsonb", encoder=_dump_json, decoder=orjson.loads, schema="pg_catalog", format="text"
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
