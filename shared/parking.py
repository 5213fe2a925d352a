"""Dead letters: events set aside with their reason, kept in order, tried again from here.

A parked event is never sent to its topic again: other services have heard it already.
"""

import base64
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared import telemetry
from shared.errors import Conflict, InvalidInput, NotFound, Unavailable
from shared.events import Event, EventParked
from shared.letters import Letter, Reader, Record, plain
from shared.postgres import Cause, Database, Row
from shared.reactions import Reaction

COPIED_BYTES: Final = 100_000
"""A larger record is copied to the dead-letter topic without its bytes; the table has them."""
BEHIND: Final = "Behind"

_MOVE: Final = (
    "insert into watermark as w (consumer, topic, subject, sequence, parked) "
    "values ($1, $2, $3, $4, true) on conflict (consumer, topic, subject) do update "
    "set sequence = excluded.sequence, parked = true where w.sequence = excluded.sequence - 1 "
    "returning sequence"
)
_HEARD: Final = (
    "insert into inbox (consumer, topic, event_id) values ($1, $2, $3) "
    "on conflict do nothing returning event_id"
)
_INSERT: Final = (
    'insert into dead_letter (consumer, topic, partition, "offset", subject, event, sequence, '
    "failure, reason, trace, key, payload, headers) "
    "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) "
    "on conflict do nothing returning id"
)
_COUNT: Final = (
    "select count(*) from (select 1 from dead_letter where consumer = $1 limit $2) as parked"
)


class ParkingFull(Unavailable):
    """So much is parked that the code is wrong, not the events; the consumer stops here."""

    def __init__(self, consumer: str, parked: int) -> None:
        super().__init__(
            f"{parked} events of {consumer} are parked; it stops until some are retried or dropped"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """One dead letter, as it is shown."""

    id: int
    topic: str
    partition: int
    offset: int
    subject: str
    event: str
    sequence: int | None
    failure: str
    reason: str
    trace: str
    payload: bytes | None
    parked_at: datetime


class Parking:
    """Sets events of one consumer aside."""

    def __init__(self, database: Database, consumer: str, ceiling: int) -> None:
        self._database = database
        self._consumer = consumer
        self._ceiling = ceiling

    async def park(self, letter: Letter, error: Exception | None) -> None:
        """Write the dead letter and move the watermark past it, in one transaction.

        Args:
            letter: what is set aside.
            error: why; None when only because an earlier event of its subject is parked.

        Raises:
            ParkingFull: the ceiling is reached; nothing has changed.
        """
        cause = Cause.of(letter.heard) if letter.heard else None
        async with self._database.transaction(cause) as transaction:
            if await self._is_done(letter):
                return
            await self._hold_ceiling()
            if await self._database.fetchval(_INSERT, *self._row(letter, error)) is None:
                return
            transaction.hearing.append(letter.type)
            # Who hears announcements and cannot bear one must not be sent another because of it.
            if letter.type != EventParked.TYPE:
                # Others may park the same event, and theirs is another announcement.
                step = f"parked:{self._consumer}"
                await transaction.say([self._announcement(letter, error)], step=step)
        self._tell(letter, error)

    async def _is_done(self, letter: Letter) -> bool:
        """Take the event's place in its order; True when somebody has taken it before."""
        name, subject = letter.topic.name, letter.subject
        if letter.sequence is not None:
            moved = await self._database.fetchval(
                _MOVE, self._consumer, name, subject, letter.sequence
            )
            return moved is None
        if letter.id is not None:
            return await self._database.fetchval(_HEARD, self._consumer, name, letter.id) is None
        return False

    async def _hold_ceiling(self) -> None:
        parked = await self._database.fetchval(_COUNT, self._consumer, self._ceiling)
        if parked >= self._ceiling:
            raise ParkingFull(self._consumer, parked)

    def _row(self, letter: Letter, error: Exception | None) -> Sequence[Any]:
        record = letter.record
        failure, reason, trace = _reason(error)
        return (
            self._consumer,
            record.topic,
            record.partition,
            record.offset,
            letter.subject,
            letter.type,
            letter.sequence,
            failure,
            reason,
            trace,
            record.key,
            record.value,
            [[plain(name), base64.b64encode(value).decode()] for name, value in record.headers],
        )

    def _announcement(self, letter: Letter, error: Exception | None) -> EventParked:
        record = letter.record
        failure, reason, trace = _reason(error)
        payload = record.value or b""
        return EventParked(
            parked_subject=letter.subject,
            service=self._database.service,
            consumer=self._consumer,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            event=letter.type,
            event_sequence=letter.sequence,
            failure=failure,
            reason=reason,
            trace=trace[-4000:],
            payload=base64.b64encode(payload).decode() if len(payload) <= COPIED_BYTES else "",
            headers={
                plain(name[:100]): value[:500].decode("utf-8", "replace")
                for name, value in record.headers[:50]
            },
        )

    def _tell(self, letter: Letter, error: Exception | None) -> None:
        failure, reason, _ = _reason(error)
        telemetry.count("tidewheel_events_processed_total", type=letter.metric_type, result="dead")
        telemetry.count("tidewheel_dead_letters_total", topic=letter.topic.name, reason=failure)
        telemetry.log(
            "event_parked",
            level="warning" if error is None else "error",
            type=letter.metric_type,
            topic=letter.topic.name,
            subject=letter.subject,
            sequence=letter.sequence,
            failure=failure,
            reason=reason,
        )


def _reason(error: Exception | None) -> tuple[str, str, str]:
    if error is None:
        return BEHIND, "an earlier event of this subject is parked", ""
    trace = "".join(traceback.format_exception(error))
    return type(error).__name__, plain(str(error))[:2000], plain(trace)[-20_000:]


async def list_parked(
    database: Database,
    *,
    topic: str | None = None,
    subject: str | None = None,
    consumer: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Parked]:
    """Dead letters of a service, oldest first, after the id that a page before ended with."""
    rows = await database.fetch(
        "select * from dead_letter where consumer = $1 and id > $2 "
        "and ($3::text is null or topic = $3) and ($4::text is null or subject = $4) "
        "order by id limit $5",
        consumer or database.service,
        after,
        topic,
        subject,
        limit,
    )
    return [_parked(row) for row in rows]


async def count_parked(database: Database, consumer: str) -> dict[tuple[str, str], int]:
    """How many dead letters there are, by topic and by the class of their reason."""
    rows = await database.fetch(
        "select topic, failure, count(*) as number from dead_letter where consumer = $1 "
        "group by topic, failure",
        consumer,
    )
    return {(row["topic"], row["failure"]): int(row["number"]) for row in rows}


async def retry_parked(
    database: Database,
    reactions: Iterable[Reaction],
    topic: str,
    subject: str,
    *,
    consumer: str | None = None,
) -> int:
    """React to all parked events of a subject, in order, in one transaction; how many there were.

    Raises:
        NotFound: nothing of this subject is parked.
        Exception: what a reaction raised; nothing has changed and everything stays parked.
    """
    who = consumer or database.service
    reader = Reader(reactions)
    async with database.transaction() as transaction:
        rows = await _locked(database, who, topic, subject)
        for row in rows:
            letter = reader.read(_record(row))
            if letter.failure is not None:
                raise letter.failure
            if letter.reaction is not None and letter.heard is not None:
                transaction.cause = Cause.of(letter.heard)
                transaction.hearing.append(letter.type)
                events: Iterable[Event] = await letter.reaction.react(letter.heard)
                await transaction.say(events)
        await _release(database, who, topic, subject)
    telemetry.log("parked_retried", topic=topic, subject=subject, events=len(rows))
    return len(rows)


async def drop_parked(
    database: Database,
    topic: str,
    subject: str,
    *,
    by: str,
    second: str,
    consumer: str | None = None,
) -> int:
    """Give up all parked events of a subject, so that it flows again; how many there were.

    Raises:
        InvalidInput: nobody second agreed.
        Conflict: the second person is the first one.
        NotFound: nothing of this subject is parked.
    """
    if not by.strip() or not second.strip():
        raise InvalidInput("dropping events needs the names of two people")
    if by.strip().casefold() == second.strip().casefold():
        raise Conflict("the second person has to be somebody else")
    who = consumer or database.service
    async with database.transaction():
        rows = await _locked(database, who, topic, subject)
        await _release(database, who, topic, subject)
    telemetry.log(
        "parked_dropped",
        level="warning",
        topic=topic,
        subject=subject,
        by=by,
        second=second,
        events=len(rows),
    )
    return len(rows)


async def _locked(database: Database, consumer: str, topic: str, subject: str) -> list[Row]:
    """The dead letters of a subject; its watermark is locked, so that nothing joins them."""
    await database.fetchrow(
        "select 1 from watermark where consumer = $1 and topic = $2 and subject = $3 for update",
        consumer,
        topic,
        subject,
    )
    rows = await database.fetch(
        "select * from dead_letter where consumer = $1 and topic = $2 and subject = $3 "
        "order by id for update",
        consumer,
        topic,
        subject,
    )
    if not rows:
        raise NotFound(f"nothing of {subject!r} on {topic} is parked")
    return rows


async def _release(database: Database, consumer: str, topic: str, subject: str) -> None:
    await database.execute(
        "delete from dead_letter where consumer = $1 and topic = $2 and subject = $3",
        consumer,
        topic,
        subject,
    )
    await database.execute(
        "update watermark set parked = false where consumer = $1 and topic = $2 and subject = $3",
        consumer,
        topic,
        subject,
    )


def _record(row: Row) -> Record:
    return Record(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        key=row["key"],
        value=row["payload"],
        headers=tuple((name, base64.b64decode(value)) for name, value in row["headers"]),
    )


def _parked(row: Row) -> Parked:
    return Parked(
        id=row["id"],
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        subject=row["subject"],
        event=row["event"],
        sequence=row["sequence"],
        failure=row["failure"],
        reason=row["reason"],
        trace=row["trace"],
        payload=row["payload"],
        parked_at=row["parked_at"],
    )
