"""Dead letters: events set aside with their reason, kept in order, tried again from here.

A parked event is never sent to its topic again: other services have heard it already. Of what
outsiders write only so much is kept whole; of the rest the position and the reason, in
`shared.turned_away`.
"""

import base64
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from shared import telemetry
from shared.codec import MAX_EVENT_BYTES
from shared.errors import Unavailable
from shared.events import Event, EventParked
from shared.ids import derived
from shared.letters import Letter, plain
from shared.once import is_first
from shared.postgres import Cause, Database, Row
from shared.topics import ALL, Topic
from shared.turned_away import Ring

COPIED_BYTES: Final = 100_000
"""A larger record is copied to the dead-letter topic without its bytes; the table has them."""
COPIED_OF_OUTSIDERS: Final = 4_000
"""The same for what outsiders wrote: copies stay in the registry's log for ever."""
COPIED_HEADERS: Final = 20
"""With up to 200 bytes each, of which JSON may make six times as many, a copy can be published."""
BEHIND: Final = "Behind"

_MOVE: Final = (
    "insert into watermark as w (consumer, topic, subject, sequence, parked) "
    "values ($1, $2, $3, $4, true) on conflict (consumer, topic, subject) do update "
    "set sequence = excluded.sequence, parked = true where w.sequence = excluded.sequence - 1 "
    "returning sequence"
)
_INSERT: Final = (
    'insert into dead_letter (consumer, topic, partition, "offset", subject, event, sequence, '
    "failure, reason, trace, key, payload, headers, came_at) "
    "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
    "on conflict do nothing returning id"
)
_COUNT: Final = """
    select count(*) from (
        select 1 from dead_letter where consumer = $1 and topic <> all($2) limit $3
    ) as parked
"""
_COUNT_OF_TOPIC: Final = """
    select count(*) from (
        select 1 from dead_letter where consumer = $1 and topic = $2 limit $3
    ) as parked
"""
_OUTSIDERS: Final = [topic.name for topic in ALL if topic.outsiders]


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

    def __init__(
        self, database: Database, consumer: str, ceiling: int, *, turned_away: int = 1_000
    ) -> None:
        self._database = database
        self._consumer = consumer
        self._ceiling = ceiling
        self._ring = Ring(database, consumer, turned_away)

    async def park(self, letter: Letter, error: Exception | None) -> None:
        """Write the dead letter and move the watermark past it, in one transaction.

        Args:
            letter: what is set aside.
            error: why; None when only because an earlier event of its subject is parked.

        Raises:
            ParkingFull: the ceiling is reached; nothing has changed. Never for an outsider's.
        """
        if letter.topic.outsiders:
            await self.set_aside([(letter, error)])
            return
        async with self._database.transaction() as transaction:
            if await self._is_done(letter):
                return
            await self._hold_ceiling()
            said = await self._write(letter, error)
            if said is None:
                return
            transaction.hearing.append(letter.type)
            await transaction.say_each(said)
        _tell(letter, error)

    async def set_aside(self, failed: Sequence[tuple[Letter, Exception | None]]) -> None:
        """Park outsiders' letters of one topic while there is room; turn the others away.

        What is turned away leaves no trace of its id, so that the same event sent again is taken.
        """
        topic = failed[0][0].topic
        parked: list[tuple[Letter, Exception | None]] = []
        away: list[tuple[Letter, Exception | None]] = []
        async with self._database.transaction() as transaction:
            room = await self._room(topic)
            said: list[tuple[Cause, Event]] = []
            for letter, error in failed:
                if room <= 0 or letter.record.size_bytes > MAX_EVENT_BYTES:
                    away.append((letter, error))
                elif not await self._is_done(letter):
                    spoken = await self._write(letter, error)
                    if spoken is not None:
                        parked.append((letter, error))
                        said += spoken
                        room -= 1
            found = [(one.record, *_reason(error)) for one, error in away]
            turned_away = await self._ring.add(topic, found) if found else 0
            await transaction.say_each(said)
        for letter, error in parked:
            _tell(letter, error)
        if turned_away:
            telemetry.count("tidewheel_records_turned_away_total", turned_away, topic=topic.name)
            telemetry.log(
                "records_turned_away",
                level="error",
                topic=topic.name,
                records=turned_away,
                reason=found[-1][2],
            )

    async def _room(self, topic: Topic) -> int:
        parked = await self._database.fetchval(
            _COUNT_OF_TOPIC, self._consumer, topic.name, self._ceiling
        )
        return self._ceiling - int(parked)

    async def _is_done(self, letter: Letter) -> bool:
        """Take the event's place in its order; True when somebody has taken it before."""
        name, subject = letter.topic.name, letter.subject
        if letter.sequence is not None:
            moved = await self._database.fetchval(
                _MOVE, self._consumer, name, subject, letter.sequence
            )
            return moved is None
        if letter.id is not None:
            return not await is_first(self._database, self._consumer, name, letter.id)
        return False

    async def _hold_ceiling(self) -> None:
        parked = await self._database.fetchval(_COUNT, self._consumer, _OUTSIDERS, self._ceiling)
        if parked >= self._ceiling:
            raise ParkingFull(self._consumer, parked)

    async def _write(
        self, letter: Letter, error: Exception | None
    ) -> list[tuple[Cause, Event]] | None:
        """The dead letter, and what is to be said of it; None where it is written already."""
        row = await self._database.fetchval(_INSERT, *self._row(letter, error))
        if row is None:
            return None
        if letter.type == EventParked.TYPE:
            # Who hears announcements and cannot bear one must not be sent another because of it.
            return []
        cause = Cause.of(letter.heard) if letter.heard else Cause.outside()
        # Of the row: an id that a stranger chose may come back when the inbox has forgotten it.
        base = derived(None, "parked", self._database.service, self._consumer, row)
        return [(replace(cause, base=base), self._announcement(letter, error))]

    def _row(self, letter: Letter, error: Exception | None) -> Sequence[Any]:
        record = letter.record
        failure, reason = _reason(error)
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
            _trace(error)[-20_000:],
            record.key,
            record.value,
            [[plain(name), base64.b64encode(value).decode()] for name, value in record.headers],
            letter.heard.came_at if letter.heard else record.came_at,
        )

    def _announcement(self, letter: Letter, error: Exception | None) -> EventParked:
        record = letter.record
        failure, reason = _reason(error)
        payload = record.value or b""
        copied = COPIED_OF_OUTSIDERS if letter.topic.outsiders else COPIED_BYTES
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
            trace=_trace(error)[-4000:],
            payload=base64.b64encode(payload).decode() if len(payload) <= copied else "",
            headers={
                plain(name[:100]): plain(value[:200].decode("utf-8", "replace"))
                for name, value in record.headers[:COPIED_HEADERS]
            },
        )


def _tell(letter: Letter, error: Exception | None) -> None:
    failure, reason = _reason(error)
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


def _reason(error: Exception | None) -> tuple[str, str]:
    """Its class and what it says."""
    if error is None:
        return BEHIND, "an earlier event of this subject is parked"
    return type(error).__name__, plain(str(error))[:2000]


def _trace(error: Exception | None) -> str:
    """Where in our code it came from."""
    return "" if error is None else plain("".join(traceback.format_exception(error)))


async def list_parked(
    database: Database,
    *,
    topic: str | None = None,
    subject: str | None = None,
    consumer: str | None = None,
    after: int = 0,
    limit: int = 100,
    whole: bool = True,
) -> list[Parked]:
    """Dead letters of a service, oldest first, after the id that a page before ended with.

    Args:
        whole: with their bytes and traces, which may be many.
    """
    columns = "payload, trace" if whole else "null::bytea as payload, '' as trace"
    rows = await database.fetch(
        'select id, topic, partition, "offset", subject, event, sequence, failure, reason, '  # noqa: S608 - constants
        f"parked_at, {columns} from dead_letter where consumer = $1 and id > $2 "
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
