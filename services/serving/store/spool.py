"""What is to be said and has not been acknowledged, kept until it is.

Rows of predictions wait for company; `seal` fixes number and content of a batch before anybody
sends it, so that sending it twice is the same. All of it survives kill -9 of the process. After a
power cut the last moments may be missing: syncing each answer to the disk would cost more than
answering it.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.serving.store.disk import open_database, transaction
from shared import faults, telemetry
from shared.broker import Message
from shared.clock import Clock
from shared.errors import Saturated, StoreUnavailable
from shared.events import PredictionsLogged

OWN_SHARE: Final = 1.05
"""The replica's own events may go beyond the cap by so much: they are few and the deployer waits
for them, while predictions can fill any disk."""

MOST_BATCH_BYTES: Final = 120_000
"""Of the rows as they wait; an event may have twice as much once it is written."""

_TABLES: Final = """
create table if not exists waiting (
    position integer primary key autoincrement,
    value blob not null
) strict;
create table if not exists outgoing (
    position integer primary key autoincrement,
    topic text not null,
    key blob,
    value blob not null,
    slot text unique
) strict;
create table if not exists counters (
    name text primary key,
    value integer not null
) strict;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message that waits for its acknowledgement."""

    position: int
    message: Message


class Spool:
    """A bounded queue on disk. Writes take some microseconds: they go to the page cache."""

    def __init__(self, path: Path, *, cap_bytes: int, now: Clock) -> None:
        self._path = path
        self._cap = cap_bytes
        self._connection = open_database(path, _TABLES, synchronous="normal")
        # A checkpoint syncs to disk; `checkpoint` does it in a thread, not in some answer.
        self._connection.execute("pragma wal_autocheckpoint = 0")
        # A replica that lost its disk must not repeat numbers that readers have seen.
        self._first_number = int(now().timestamp() * 1000)
        self.waiting_rows, waiting_bytes = self._sizes("waiting")
        self.outgoing_messages, outgoing_bytes = self._sizes("outgoing")
        self.size_bytes = waiting_bytes + outgoing_bytes

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._connection.close()

    def _sizes(self, table: str) -> tuple[int, int]:
        row = self._connection.execute(
            f"select count(*), coalesce(sum(length(value)), 0) from {table}"  # noqa: S608 - our own name
        ).fetchone()
        return int(row[0]), int(row[1])

    # --- filling

    def has_room(self, more_bytes: int = 0) -> bool:
        """Whether more predictions may be kept."""
        return self.size_bytes + more_bytes <= self._cap

    def keep_rows(self, rows: Sequence[bytes]) -> None:
        """Keep rows of predictions, all or none.

        Raises:
            Saturated: there is no room for them.
        """
        size = sum(map(len, rows))
        if not self.has_room(size):
            raise _full()
        faults.reach("before_commit", PredictionsLogged.TYPE)
        try:
            with transaction(self._connection):
                self._connection.executemany(
                    "insert into waiting (value) values (?)", [(row,) for row in rows]
                )
        except StoreUnavailable as error:
            raise _full() from error
        faults.reach("after_commit_before_publish", PredictionsLogged.TYPE)
        self.waiting_rows += len(rows)
        self.size_bytes += size

    def keep_messages(
        self, messages: Sequence[Message], *, slot: str | None = None, own: bool = False
    ) -> None:
        """Keep messages, all or none.

        Args:
            slot: a message that makes an older one of the same slot worthless takes its place.
            own: an event of the replica itself, for which some room is set apart.

        Raises:
            Saturated: there is no room for them.
        """
        size = sum(map(_size, messages))
        if self.size_bytes + size > self._cap * (OWN_SHARE if own else 1):
            raise _full()
        replaced = 0
        topics = {message.topic for message in messages}
        faults.reach("before_commit", *topics)
        try:
            with transaction(self._connection):
                if slot is not None:
                    replaced = self._clear(slot)
                for message in messages:
                    self._append(message, slot)
        except StoreUnavailable as error:
            raise _full() from error
        faults.reach("after_commit_before_publish", *topics)
        self.outgoing_messages += len(messages) - (1 if replaced else 0)
        self.size_bytes += size - replaced

    def _append(self, message: Message, slot: str | None = None) -> None:
        self._connection.execute(
            "insert into outgoing (topic, key, value, slot) values (?, ?, ?, ?)",
            (message.topic, message.key, message.value, slot),
        )

    def _clear(self, slot: str) -> int:
        """Bytes of the message that waited in this slot, and waits no longer."""
        row = self._connection.execute(
            "delete from outgoing where slot = ? returning length(value)", (slot,)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def is_taken(self, slot: str) -> bool:
        """Whether a message of this slot is still waiting."""
        row = self._connection.execute("select 1 from outgoing where slot = ?", (slot,))
        return row.fetchone() is not None

    def next_number(self, counter: str) -> int:
        """The next number of a counter, never given twice, also not after a lost disk.

        Raises:
            StoreUnavailable: the disk does not take it.
        """
        with transaction(self._connection):
            return self._counted(counter)

    def _counted(self, counter: str) -> int:
        row = self._connection.execute(
            "insert into counters (name, value) values (?, ?) "
            "on conflict (name) do update set value = value + 1 returning value",
            (counter, self._first_number),
        ).fetchone()
        return int(row[0])

    # --- sealing and sending

    def seal(self, make: Callable[[int, list[bytes]], Message], *, most_rows: int) -> bool:
        """Make one batch of the rows that wait longest; False when none wait.

        Args:
            make: the message of a batch, from its number and its rows.

        Raises:
            StoreUnavailable: the disk does not take it; the rows go on waiting.
        """
        rows = list(self._next_rows(most_rows))
        if not rows:
            return False
        size = sum(len(value) for _, value in rows)
        with transaction(self._connection):
            message = make(self._counted("batch"), [value for _, value in rows])
            self._append(message)
            self._connection.execute("delete from waiting where position <= ?", (rows[-1][0],))
        self.waiting_rows -= len(rows)
        self.outgoing_messages += 1
        self.size_bytes += _size(message) - size
        return True

    def _next_rows(self, most_rows: int) -> Iterator[tuple[int, bytes]]:
        size = 0
        for position, value in self._connection.execute(
            "select position, value from waiting order by position limit ?", (most_rows,)
        ).fetchall():
            size += len(value)
            if size > MOST_BATCH_BYTES and size > len(value):
                return
            yield position, value

    def outgoing(self, most: int) -> list[Outgoing]:
        """The messages that wait longest."""
        rows = self._connection.execute(
            "select position, topic, key, value from outgoing order by position limit ?", (most,)
        ).fetchall()
        return [
            Outgoing(position=position, message=Message(topic=topic, key=key, value=value))
            for position, topic, key, value in rows
        ]

    def forget(self, sent: Sequence[Outgoing]) -> None:
        """Delete what the broker has acknowledged.

        Raises:
            StoreUnavailable: the disk does not take it; the same is sent again.
        """
        with transaction(self._connection):
            gone = [one for one in sent if self._delete(one.position)]
        self.outgoing_messages -= len(gone)
        self.size_bytes -= sum(_size(one.message) for one in gone)

    def _delete(self, position: int) -> bool:
        deleted = self._connection.execute("delete from outgoing where position = ?", (position,))
        return deleted.rowcount > 0

    # --- upkeep

    def checkpoint(self) -> None:
        """Bring the log of the file into the file; for a thread, on a connection of its own."""
        with _CHECKPOINTS:
            connection = sqlite3.connect(self._path)
            try:
                connection.execute("pragma wal_checkpoint(passive)")
            except sqlite3.OperationalError as error:
                telemetry.log("checkpoint_failed", level="warning", reason=str(error))
            finally:
                connection.close()


_CHECKPOINTS: Final = threading.Lock()


def _size(message: Message) -> int:
    return len(message.value or b"")


def _full() -> Saturated:
    return Saturated(
        "The spool of this replica is full because the broker does not answer; try again later.",
        code="spool_full",
    )
