"""Outsiders' records for which no room is left: where they lie and what is wrong with them.

Whoever may write to a topic may write any number of records that are no events. The newest are
known here by their positions, in a ring that never grows; their bytes stay in Kafka while it keeps
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.letters import Record
from shared.postgres import Database
from shared.topics import Topic

Found = tuple[Record, str, str]
"""A record, the class of what is wrong with it, and the reason."""

LONGEST_REASON: Final = 500
"""Characters."""

_LOCK: Final = """
    insert into turned_away_total as t (consumer, topic, number) values ($1, $2, 0)
    on conflict (consumer, topic) do update set number = t.number returning number
"""
_KNOWN: Final = """
    select partition, "offset" from turned_away where consumer = $1 and topic = $2
    and (partition, "offset") in (select * from unnest($3::integer[], $4::bigint[]))
"""
_ADD: Final = """
    insert into turned_away (consumer, topic, place, partition, "offset", failure, reason)
    select $1, $2, r.* from unnest(
        $3::integer[], $4::integer[], $5::bigint[], $6::text[], $7::text[]
    ) as r (place, partition, "offset", failure, reason)
    on conflict (consumer, topic, place) do update set partition = excluded.partition,
        "offset" = excluded."offset", failure = excluded.failure, reason = excluded.reason,
        at = now()
"""
_COUNT: Final = (
    "update turned_away_total set number = number + $3 where consumer = $1 and topic = $2"
)


@dataclass(frozen=True, slots=True)
class Ring:
    """Of every topic the newest positions, so many at most."""

    database: Database
    consumer: str
    size: int

    async def add(self, topic: Topic, found: Sequence[Found]) -> int:
        """Keep them in the open transaction; how many were not known yet.

        Args:
            found: records of one partition, in order.
        """
        who = (self.consumer, topic.name)
        number = int(await self.database.fetchval(_LOCK, *who))
        known = await self._known(topic, found)
        new = [one for one in found if (one[0].partition, one[0].offset) not in known]
        # Two at one place of the ring could not be written by one statement.
        kept = list(enumerate(new, number))[-self.size :]
        await self.database.execute(
            _ADD,
            *who,
            [place % self.size for place, _ in kept],
            [record.partition for _, (record, _, _) in kept],
            [record.offset for _, (record, _, _) in kept],
            [failure for _, (_, failure, _) in kept],
            [reason[:LONGEST_REASON] for _, (_, _, reason) in kept],
        )
        await self.database.execute(_COUNT, *who, len(new))
        return len(new)

    async def _known(self, topic: Topic, found: Sequence[Found]) -> set[tuple[int, int]]:
        """Positions that a delivery before this one has brought."""
        rows = await self.database.fetch(
            _KNOWN,
            self.consumer,
            topic.name,
            [record.partition for record, _, _ in found],
            [record.offset for record, _, _ in found],
        )
        return {(row["partition"], row["offset"]) for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway:
    """One record, as it is shown."""

    topic: str
    partition: int
    offset: int
    failure: str
    reason: str
    at: datetime


async def list_turned_away(
    database: Database, *, consumer: str | None = None, limit: int = 100
) -> list[TurnedAway]:
    """The newest records that were turned away, the newest first."""
    rows = await database.fetch(
        'select topic, partition, "offset", failure, reason, at from turned_away '
        'where consumer = $1 order by at desc, topic, "offset" desc limit $2',
        consumer or database.service,
        limit,
    )
    return [TurnedAway(**dict(row)) for row in rows]


async def count_turned_away(database: Database, *, consumer: str | None = None) -> dict[str, int]:
    """How many records there ever were, by topic."""
    rows = await database.fetch(
        "select topic, number from turned_away_total where consumer = $1 order by topic",
        consumer or database.service,
    )
    return {row["topic"]: int(row["number"]) for row in rows}
