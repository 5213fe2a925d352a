"""Answers that nobody saw, kept until the label of the seen one comes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson

from services.drift_monitor.comparison import Unseen
from shared.events import ModelName
from shared.postgres import Database, Row


class UnseenTable:
    """One row per answer of a shadow."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add_unseen(self, rows: Sequence[Unseen]) -> list[Unseen]:
        """Keep them; those that were not known before."""
        if not rows:
            return []
        found = await self.database.fetch(
            "insert into unseen (id, seen, model, version, answer, score, weight, predicted_at) "
            "select id, seen, model, version, answer::jsonb, score, weight, predicted_at "
            "from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], "
            "$6::float8[], $7::float8[], $8::timestamptz[]) as r (id, seen, model, version, "
            "answer, score, weight, predicted_at) on conflict do nothing returning id",
            [row.id for row in rows],
            [row.seen for row in rows],
            [row.model for row in rows],
            [row.version for row in rows],
            [orjson.dumps(row.answer).decode() for row in rows],
            [row.score for row in rows],
            [row.weight for row in rows],
            [row.at for row in rows],
        )
        new = {row["id"] for row in found}
        return [row for row in rows if row.id in new]

    async def unseen_of(self, seen: Sequence[str]) -> dict[str, list[Unseen]]:
        """By the predictions that were seen, in the order of their versions."""
        rows = await self.database.fetch(
            "select * from unseen where seen = any($1::text[]) order by seen, version", list(seen)
        )
        found: dict[str, list[Unseen]] = defaultdict(list)
        for row in rows:
            found[row["seen"]].append(_unseen(row))
        return dict(found)

    async def labelled_unseen(self, key: tuple[str, int], since: datetime, limit: int) -> list[str]:
        """The newest predictions with a label that a version answered unseen, newest first."""
        rows = await self.database.fetch(
            "select u.seen from unseen u join prediction p on p.id = u.seen "
            "join outcome o on o.place = p.place and o.counts "
            "where u.model = $1 and u.version = $2 and u.predicted_at >= $3 "
            "order by u.predicted_at desc limit $4",
            *key,
            since,
            limit,
        )
        return [row["seen"] for row in rows]

    async def mark_told(
        self, predictions: Sequence[str], unseen: Mapping[str, float | None]
    ) -> None:
        """These are not told again; what the unseen answers have lost is kept."""
        if predictions:
            await self.database.execute(
                "update prediction set told = true where id = any($1::text[])", list(predictions)
            )
        if unseen:
            await self.database.execute(
                "update unseen u set told = true, loss = r.loss "
                "from unnest($1::text[], $2::float8[]) as r (id, loss) where u.id = r.id",
                list(unseen),
                list(unseen.values()),
            )


def _unseen(row: Row) -> Unseen:
    return Unseen(
        id=row["id"],
        seen=row["seen"],
        model=ModelName(row["model"]),
        version=row["version"],
        answer=row["answer"],
        score=row["score"],
        weight=row["weight"],
        at=row["predicted_at"],
        told=row["told"],
    )
