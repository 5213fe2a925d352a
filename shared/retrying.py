"""What becomes of dead letters: reacted to after all, in their order, or given up by two people."""

import base64
from collections.abc import Iterable
from typing import Final

from shared import telemetry
from shared.errors import Conflict, InvalidInput, NotFound, Unavailable, UnknownType
from shared.events import BY_TYPE, Event
from shared.letters import Letter, Reader, Record, current_type
from shared.once import is_first
from shared.postgres import Cause, Database, Row, Transaction, passes
from shared.reactions import Reaction
from shared.topics import BY_NAME

_OF_SUBJECT: Final = (
    "from dead_letter where consumer = $1 and topic = $2 and subject = $3 order by id for update"
)
_IDS: Final = f"select id {_OF_SUBJECT}"
_WHOLE: Final = f"select * {_OF_SUBJECT}"
_UNKNOWN: Final = """
    select distinct topic, subject, event from dead_letter
    where consumer = $1 and failure = $2 order by topic, subject, event
"""


async def retry_parked(
    database: Database,
    reactions: Iterable[Reaction],
    topic: str,
    subject: str,
    *,
    consumer: str | None = None,
) -> int:
    """React to the parked events of a subject; how many it was done for.

    Where events have an order, all of them in one transaction. Where they have none, each in its
    own: somebody else's nonsense under the same subject must keep no event from being retried.

    Raises:
        NotFound: nothing of this subject is parked.
        Exception: what a reaction raised; everything that it was raised for stays parked.
    """
    who = consumer or database.service
    reader = Reader(reactions)
    known = BY_NAME.get(topic)
    if known is not None and not known.sequenced:
        done = await _retry_each(database, reader, who, topic, subject)
    else:
        done = await _retry_in_order(database, reader, who, topic, subject)
    telemetry.log("parked_retried", topic=topic, subject=subject, events=done)
    return done


async def retry_upgraded(
    database: Database, reactions: Iterable[Reaction], topics: Iterable[str], consumer: str
) -> int:
    """React to parked events whose type an older release did not know, and this one does.

    What fails again stays parked; a person sees why.

    Args:
        topics: names of those that these reactions are about.

    Returns:
        How many it was done for.
    """
    table, mine = tuple(reactions), set(topics)
    rows = await database.fetch(_UNKNOWN, consumer, UnknownType.__name__)
    known = {
        (row["topic"], row["subject"])
        for row in rows
        if row["topic"] in mine and current_type(row["event"]) in BY_TYPE
    }
    done = 0
    for topic, subject in sorted(known):
        try:
            done += await retry_parked(database, table, topic, subject, consumer=consumer)
        except NotFound:
            continue  # another replica was faster
        except Exception as error:
            if isinstance(error, Unavailable) or passes(error):
                raise
            telemetry.log(
                "parked_still_failing",
                level="warning",
                topic=topic,
                subject=subject,
                reason=f"{type(error).__name__}: {error}",
            )
    return done


async def _retry_in_order(
    database: Database, reader: Reader, consumer: str, topic: str, subject: str
) -> int:
    async with database.transaction() as transaction:
        rows = await _locked(database, consumer, topic, subject)
        for row in rows:
            await _react(transaction, reader.read(_record(row)))
        await _release(database, consumer, topic, subject)
    return len(rows)


async def _retry_each(
    database: Database, reader: Reader, consumer: str, topic: str, subject: str
) -> int:
    failed: Exception | None = None
    done = 0
    for row in await _parked(database, consumer, topic, subject, _IDS):
        try:
            done += await _retry_one(database, reader, consumer, row["id"])
        except Exception as error:
            if isinstance(error, Unavailable) or passes(error):
                raise
            failed = failed or error
    if failed is not None and not done:
        raise failed
    return done


async def _retry_one(database: Database, reader: Reader, consumer: str, row_id: int) -> int:
    async with database.transaction() as transaction:
        row = await database.fetchrow("delete from dead_letter where id = $1 returning *", row_id)
        if row is None:
            return 0
        letter = reader.read(_record(row))
        if letter.failure is not None:
            raise letter.failure
        if letter.id is not None:
            is_new = await is_first(database, consumer, row["topic"], letter.id)
            # What could not be read when it was parked may have been sent and done again since.
            if not is_new and row["failure"] == UnknownType.__name__:
                return 0
        await _react(transaction, letter)
    return 1


async def _react(transaction: Transaction, letter: Letter) -> None:
    if letter.failure is not None:
        raise letter.failure
    if letter.reaction is not None and letter.heard is not None:
        transaction.cause = Cause.of(letter.heard)
        transaction.hearing.append(letter.type)
        events: Iterable[Event] = await letter.reaction.react(letter.heard)
        await transaction.say(events)


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
    return await _parked(database, consumer, topic, subject, _WHOLE)


async def _parked(
    database: Database, consumer: str, topic: str, subject: str, sql: str
) -> list[Row]:
    rows = await database.fetch(sql, consumer, topic, subject)
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
        # It came when it came, however much later it is tried again.
        came_at=row["came_at"] or row["parked_at"],
    )
