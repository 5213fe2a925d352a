"""Labels that came before their predictions, or whose predictions nobody can judge now."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import orjson

from services.drift_monitor.quality import Observed
from services.drift_monitor.store.horizon import TOGETHER, Span
from shared.postgres import Database, Row

MOST: Final = 100_000
"""Labels that wait for predictions of one model, and of all models together that nobody knows."""
OWN_ROOM: Final = "="
"""Of the first label of each prediction that has come, whose version cannot be read for a while:
there are no more of them than predictions are kept, and only the horizon takes them. No model is
named like this."""


class WaitingTable:
    """One row per label of a prediction that is not known, or whose version cannot be read."""

    unchecked: dict[str, int]
    """How many labels may come into a room before it is counted again."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.unchecked = {}

    async def take_waiting(self, models: Sequence[str], ids: Sequence[str]) -> list[Observed]:
        """Labels of these predictions, in the order of their acceptance; they wait no longer."""
        waits = await self.database.fetchval(
            "select exists (select from waiting_label where model = any($1::text[]))", list(models)
        )
        if not waits:
            return []
        rows = await self.database.fetch(
            "delete from waiting_label where prediction = any($1::text[]) returning *", list(ids)
        )
        return sorted((_observed(row) for row in rows), key=turn)

    async def wait_for(self, labels: Sequence[Observed]) -> int:
        """Keep labels until their predictions are known; how many of them were not kept yet."""
        if not labels:
            return 0
        rows = await self.database.fetch(
            _WAIT,
            [one.prediction for one in labels],
            [one.model for one in labels],
            [orjson.dumps(one.value).decode() for one in labels],
            [one.revision for one in labels],
            [one.observed_at for one in labels],
            [one.event for one in labels],
            [one.known_at for one in labels],
            OWN_ROOM,
        )
        for row in rows:
            if row["room"] != OWN_ROOM:
                self.unchecked[row["room"]] = self.unchecked.get(row["room"], 0) - row["labels"]
        return sum(row["labels"] for row in rows)

    async def make_room(self) -> Counter[str]:
        """Drop the oldest labels of rooms that have become too full; how many, by model.

        Rooms are counted the less often the more place they have. What somebody else is dropping
        at this moment would be counted as excess here, too: then the room is left until next time.
        """
        dropped: Counter[str] = Counter()
        for room in [room for room, left in self.unchecked.items() if left < 0]:
            if not await self.database.fetchval(_TURN, room):
                continue
            waiting = await self.database.fetchval(_COUNT, room, MOST + TOGETHER)
            if waiting > MOST:
                rows = await self.database.fetch(_DROP_OLDEST, room, waiting - MOST)
                dropped.update(_by_model(rows))
            self.unchecked[room] = max((MOST - waiting) // 16, MOST // 100)
        return dropped

    async def count_waiting(self) -> int:
        """Labels that wait for whatever it is."""
        return int(await self.database.fetchval("select count(*) from waiting_label"))

    async def drop_waiting(self, spans: Iterable[Span]) -> Counter[str]:
        """Drop labels that have waited since these spans; how many, by model.

        A page at a time. Models that nobody knows are `other`: anybody may make up names.
        """
        dropped: Counter[str] = Counter()
        for span in spans:
            gone = TOGETHER
            while gone == TOGETHER:
                found = _by_model(await self.database.fetch(_DROP_OLD, *span, TOGETHER))
                gone = sum(found.values())
                dropped.update(found)
        return dropped


_WAIT: Final = """
    with told as (
        select *, row_number() over (partition by prediction, model) = 1 as is_first
        from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[], $6::uuid[],
            $7::timestamptz[]) as r (prediction, model, value, revision, observed_at, event,
            known_at)
    ), kept as (
        insert into waiting_label (prediction, model, value, revision, observed_at, event, known_at,
            room)
        select prediction, r.model, value::jsonb, revision, observed_at, event, known_at,
            case when is_first and exists (
                select from prediction p where p.id = r.prediction and p.model = r.model
            ) and not exists (
                select from waiting_label w
                where w.prediction = r.prediction and w.model = r.model and w.room = $8
            ) then $8 else coalesce(m.model, '') end
        from told r left join model m on m.model = r.model
        on conflict do nothing returning room
    )
    select room, count(*)::int as labels from kept group by room
"""
_TURN: Final = "select pg_try_advisory_xact_lock(hashtextextended($1, 7438))"
_COUNT: Final = """
    select count(*) from (select from waiting_label where room = $1 limit $2) as waiting
"""
_TELL: Final = """
    select coalesce(m.model, 'other') as model, count(*)::int as labels
    from gone left join model m using (model) group by 1
"""
_DROP_OLDEST: Final = f"""
    with gone as (
        delete from waiting_label where ctid = any(array(
            select ctid from waiting_label where room = $1 order by heard_at limit $2
            for update skip locked
        )) returning model
    ) {_TELL}
"""  # noqa: S608 - constants only
_DROP_OLD: Final = f"""
    with gone as (
        delete from waiting_label where ctid = any(array(
            select ctid from waiting_label where heard_at >= $1 and heard_at < $2
                and model <> all($3::text[]) limit $4
        )) returning model
    ) {_TELL}
"""  # noqa: S608 - constants only


def _by_model(rows: Sequence[Row]) -> dict[str, int]:
    return {row["model"]: row["labels"] for row in rows}


def turn(one: Observed) -> tuple[Any, ...]:
    """Sorts labels by their acceptance."""
    return one.known_at, one.revision, one.event.int


def _observed(row: Row) -> Observed:
    return Observed(
        prediction=row["prediction"],
        model=row["model"],
        value=row["value"],
        revision=row["revision"],
        observed_at=row["observed_at"],
        event=uuid_of(row["event"]),
        known_at=row["known_at"],
    )


def uuid_of(value: Any) -> UUID:
    """A UUID of the standard library."""
    # asyncpg's own class compares with UUID but is no instance that json writes alike.
    return UUID(str(value))
