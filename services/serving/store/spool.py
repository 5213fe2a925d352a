"""What is to be said and has not been acknowledged, kept until it is.

Rows of predictions lie in a journal, one write per answer. `seal` fixes which rows a batch has,
and its number, before anybody sends it: sending it twice is the same. Messages wait in a database
beside. All of it survives kill -9 of the process; what a power cut takes is what was answered since
the last sync. Rows that were answered and will never be in the log are counted, by reason, and the
next batch tells how many.
"""

import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import orjson

from services.serving.store.disk import closed_with, open_database, transaction
from services.serving.store.journal import Journal, Reader, Segment
from services.serving.store.totals import Totals
from shared import faults, telemetry
from shared.broker import Message
from shared.clock import Clock
from shared.errors import Saturated, StoreUnavailable
from shared.events import PredictionsLogged

Reason = Literal["full", "old", "damaged"]
"""Why a row that was answered is not in the log: there was no room, it waited too long, its file
was damaged."""

OWN_SHARE: Final = 1.05
"""The replica's own events may go beyond the cap by so much: they are few and the deployer waits
for them, while predictions can fill any disk."""

MOST_BATCH_BYTES: Final = 120_000
"""Of the rows as they wait; an event may have twice as much once it is written."""

MOST_SEGMENT_BYTES: Final = 8 * 2**20
SEGMENTS: Final = 16
"""A segment is at most such a part of the spool, in bytes and in age: what is acknowledged of it
takes room until all of it is."""

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
create table if not exists sealed (
    number integer primary key,
    first integer not null,
    next integer not null,
    at real not null,
    rows integer not null,
    gaps integer not null
) strict;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message that waits for its acknowledgement."""

    position: int
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A batch that waits for its acknowledgement.

    Attributes:
        first, next: the numbers of its rows, `next` without.
        at: when it was sealed.
        gaps: rows that were answered and are in no batch, since the batch before.
    """

    number: int
    first: int
    next: int
    at: datetime
    gaps: int
    rows: Sequence[bytes]


class Spool:
    """A bounded queue on disk.

    Args:
        path: of the database; the journal is a folder beside it.
        cap_bytes: of everything that waits.
        sync_seconds: how often somebody calls `sync`; 0 syncs every row before it is answered.
        kept: how long rows wait at most, unless their log is required.
    """

    def __init__(
        self,
        path: Path,
        *,
        cap_bytes: int,
        now: Clock,
        sync_seconds: float = 1.0,
        kept: timedelta = timedelta(days=3),
    ) -> None:
        self._path = path
        self._cap = cap_bytes
        self._now = now
        self._kept_seconds = kept.total_seconds()
        self._syncs_at_once = sync_seconds == 0
        self._connection = open_database(path, _TABLES, synchronous="normal")
        closed_with(self, self._connection)
        # A checkpoint syncs to disk; `sync` does it in a thread, not in some answer.
        self._connection.execute("pragma wal_autocheckpoint = 0")
        self._first_number = int(now().timestamp() * 1000)
        self._journal = Journal(
            path.with_suffix(""),
            segment_bytes=min(MOST_SEGMENT_BYTES, cap_bytes // SEGMENTS),
            segment_seconds=self._kept_seconds / SEGMENTS,
            now=now,
        )
        self._totals = Totals(path.with_suffix("") / "totals")
        self.outgoing_messages, self._message_bytes = self._sizes("outgoing")
        self._reopen()

    def close(self) -> None:
        """Close the files; what is in them stays."""
        self._journal.close()
        self._totals.close()
        self._connection.close()

    def _reopen(self) -> None:
        """Go on where the process before stopped."""
        known, segments = self._counter("sealed"), self._journal.segments
        fresh = 0 if known or segments else self._first_number * 1000
        self._journal.next = max(self._journal.next, self._totals.next, known, fresh)
        self._totals.set_next(self._journal.next)
        # Without its database the journal is told from its beginning: twice is better than never.
        start = known or (segments[0].first if segments else self._journal.next)
        self._reader = Reader(self._journal, start)
        self._sealed: dict[int, Sealed] = {}
        try:
            self._sealed |= {batch.number: batch for batch in self._batches_to_send()}
            self._mend_told()
            self._take_over()
        except StoreUnavailable as error:  # the next process does it
            telemetry.log("spool_not_mended", level="error", reason=str(error))

    def _batches_to_send(self) -> list[Sealed]:
        """Batches that were sealed and not acknowledged, with their rows."""
        found = []
        for number, first, following, at, rows, gaps in self._connection.execute(
            "select number, first, next, at, rows, gaps from sealed order by number"
        ).fetchall():
            reader = Reader(self._journal, first)
            taken = reader.peek(max(1, rows), 2 * MOST_BATCH_BYTES, before=following)
            self._note_missing(number, rows - len(taken.rows), len(taken.rows))
            batch = Sealed(
                number=number,
                first=first,
                next=following,
                at=datetime.fromtimestamp(at, tz=self._now().tzinfo),
                gaps=gaps,
                rows=taken.rows,
            )
            found.append(batch)
        return found

    def _mend_told(self) -> None:
        """The page of totals was lost: what was told of it is not told again."""
        if self._counter("told") > self.gaps:
            with transaction(self._connection):
                self._set("told", self.gaps)

    def _note_missing(self, number: int, missing: int, left: int) -> None:
        """Rows of a sealed batch are lost with their file."""
        if missing <= 0:
            return
        with transaction(self._connection):
            self._connection.execute("update sealed set rows = ? where number = ?", (left, number))
            self._add("damaged", missing)

    def _take_over(self) -> None:
        """Rows that an earlier release kept in the database."""
        found = self._connection.execute("select value from waiting order by position").fetchall()
        if found:
            halves = [orjson.loads(value) for (value,) in found]
            rows = [orjson.dumps(names) + b"\n" + orjson.dumps(plain) for names, plain in halves]
            self._journal.append(rows, is_required=True)
            self._totals.set_next(self._journal.next)
            with transaction(self._connection):
                self._connection.execute("delete from waiting")

    def _sizes(self, table: str) -> tuple[int, int]:
        row = self._connection.execute(
            f"select count(*), coalesce(sum(length(value)), 0) from {table}"  # noqa: S608 - our own name
        ).fetchone()
        return int(row[0]), int(row[1])

    def _counter(self, name: str) -> int:
        row = self._connection.execute(
            "select value from counters where name = ?", (name,)
        ).fetchone()
        return 0 if row is None else int(row[0])

    # --- how much there is

    @property
    def size_bytes(self) -> int:
        """What waits, as it lies on the disk."""
        return self._journal.size_bytes + self._message_bytes

    @property
    def waiting_rows(self) -> int:
        """Rows in no batch yet."""
        return self._journal.next - self._reader.position

    @property
    def rows(self) -> int:
        """Rows that the broker has not acknowledged, in a batch or not."""
        return self._journal.next - self._oldest_needed()

    @property
    def sealed_batches(self) -> int:
        """Batches that wait for their acknowledgement."""
        return len(self._sealed)

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest file of rows has been there; 0 without any."""
        segments = self._journal.segments
        return max(0.0, self._now().timestamp() - segments[0].began_at) if segments else 0.0

    @property
    def gaps(self) -> int:
        """Rows that were answered and are lost to the log, ever."""
        return self._totals.unkept + self._counter("old") + self._counter("damaged")

    # --- filling

    def has_room(self, more_bytes: int = 0) -> bool:
        """Whether more predictions may be kept."""
        return self.size_bytes + more_bytes <= self._cap

    def keep_rows(self, rows: Sequence[bytes], *, is_required: bool = False) -> None:
        """Keep rows of predictions, all or none. One write, however many there are.

        Args:
            is_required: they are not given up when they grow old.

        Raises:
            Saturated: there is no room for them.
        """
        if not self.has_room(sum(map(len, rows))):
            raise _full()
        faults.reach("before_commit", PredictionsLogged.TYPE)
        try:
            self._journal.append(rows, is_required=is_required)
            if self._syncs_at_once:
                self._journal.sync()
        except (StoreUnavailable, OSError) as error:
            raise _full() from error
        self._totals.set_next(self._journal.next)
        faults.reach("after_commit_before_publish", PredictionsLogged.TYPE)

    def note_unkept(self, rows: int) -> None:
        """Rows were answered, and `keep_rows` had no room for them."""
        self._totals.add_unkept(rows)
        telemetry.count("tidewheel_prediction_log_gaps_total", rows, reason="full")

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
        self._message_bytes += size - replaced

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
        """The next number of a counter, never given twice.

        Every process begins at the present moment: neither a lost disk nor a power cut that takes
        the last numbers back makes one be given again.

        Raises:
            StoreUnavailable: the disk does not take it.
        """
        with transaction(self._connection):
            return self._counted(counter)

    def _counted(self, counter: str) -> int:
        row = self._connection.execute(
            "insert into counters (name, value) values (?, ?) on conflict (name) "
            "do update set value = max(value + 1, excluded.value) returning value",
            (counter, self._first_number),
        ).fetchone()
        return int(row[0])

    def _set(self, counter: str, value: int) -> None:
        self._connection.execute(
            "insert or replace into counters (name, value) values (?, ?)", (counter, value)
        )

    def _add(self, reason: Reason, rows: int) -> None:
        """Rows are lost; within a transaction."""
        if rows:
            self._set(reason, self._counter(reason) + rows)
            telemetry.count("tidewheel_prediction_log_gaps_total", rows, reason=reason)

    # --- sealing and sending

    def seal(self, *, most_rows: int) -> bool:
        """Make one batch of the rows that wait longest; False when nothing is to be told.

        Raises:
            StoreUnavailable: the disk does not take it; the rows go on waiting.
        """
        taken = self._reader.peek(most_rows, MOST_BATCH_BYTES)
        gaps = self.gaps - self._counter("told") + taken.missing
        if not taken.rows and gaps <= 0:
            return False
        with transaction(self._connection):
            self._add("damaged", taken.missing)
            batch = Sealed(
                number=self._counted("batch"),
                first=taken.first,
                next=taken.next,
                at=self._now(),
                gaps=max(0, gaps),
                rows=taken.rows,
            )
            self._insert(batch)
            self._set("sealed", batch.next)
            self._set("told", self._counter("told") + batch.gaps)
        self._reader.advance(batch.next)
        self._sealed[batch.number] = batch
        return True

    def _insert(self, batch: Sealed) -> None:
        moment = batch.at.timestamp()
        self._connection.execute(
            "insert into sealed (number, first, next, at, rows, gaps) values (?, ?, ?, ?, ?, ?)",
            (batch.number, batch.first, batch.next, moment, len(batch.rows), batch.gaps),
        )

    def batches(self, most: int) -> list[Sealed]:
        """The batches that wait longest."""
        return [batch for _, batch in zip(range(most), self._sealed.values(), strict=False)]

    def outgoing(self, most: int) -> list[Outgoing]:
        """The messages that wait longest."""
        rows = self._connection.execute(
            "select position, topic, key, value from outgoing order by position limit ?", (most,)
        ).fetchall()
        return [
            Outgoing(position=position, message=Message(topic=topic, key=key, value=value))
            for position, topic, key, value in rows
        ]

    def forget(self, sent: Sequence[Outgoing], batches: Sequence[Sealed] = ()) -> None:
        """Delete what the broker has acknowledged.

        Raises:
            StoreUnavailable: the disk does not take it; the same is sent again.
        """
        with transaction(self._connection):
            gone = [one for one in sent if self._delete(one.position)]
            self._unseal(batches)
        self.outgoing_messages -= len(gone)
        self._message_bytes -= sum(_size(one.message) for one in gone)
        self._forget_rows(batches)

    def _delete(self, position: int) -> bool:
        deleted = self._connection.execute("delete from outgoing where position = ?", (position,))
        return deleted.rowcount > 0

    def _unseal(self, batches: Sequence[Sealed]) -> None:
        self._connection.executemany(
            "delete from sealed where number = ?", [(batch.number,) for batch in batches]
        )

    def _forget_rows(self, batches: Sequence[Sealed]) -> None:
        for batch in batches:
            self._sealed.pop(batch.number, None)
        self._journal.forget(self._oldest_needed())

    def _oldest_needed(self) -> int:
        """The number of the first row that is not acknowledged."""
        return min((batch.first for batch in self._sealed.values()), default=self._reader.position)

    # --- upkeep

    def tidy(self) -> None:
        """Give up rows that are too old, and files that nobody needs.

        Raises:
            StoreUnavailable: the disk does not take it; tried again the next time.
        """
        self._journal.forget(self._oldest_needed(), also_open=True)
        oldest = self._now().timestamp() - self._kept_seconds
        for segment in list(self._journal.segments):
            if segment.last_at < oldest and not segment.is_required:
                self._give_up(segment)

    def _give_up(self, segment: Segment) -> None:
        end = self._journal.end_of(segment)
        batches = [b for b in self._sealed.values() if segment.first < b.next and b.first < end]
        unsealed = max(0, end - max(segment.first, self._reader.position))
        lost = unsealed + sum(len(batch.rows) for batch in batches)
        with transaction(self._connection):
            self._unseal(batches)
            self._set("sealed", max(self._reader.position, end))
            # What those batches were to tell is told by the next one.
            self._set("told", self._counter("told") - sum(batch.gaps for batch in batches))
            self._add("old", lost)
        for batch in batches:
            del self._sealed[batch.number]
        self._reader.advance(end)
        self._journal.remove(segment)
        telemetry.log("rows_given_up", level="error", reason="too old", rows=lost)

    def sync(self) -> None:
        """Bring everything to the disk; for a thread, while others go on writing."""
        for handle in self._journal.taken_handles():
            try:
                os.fdatasync(handle)
            except OSError as error:
                telemetry.log("sync_failed", level="error", reason=str(error))
            finally:
                os.close(handle)
        self._checkpoint()

    def _checkpoint(self) -> None:
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
