"""Labels that came before their predictions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import orjson

from services.drift_monitor.quality import Observed
from services.drift_monitor.store.horizon import Span
from shared.postgres import Database, Row


class WaitingTable:
    """One row per label of a prediction that is not known."""

    def __init__(self, database: Database) -> None:
        self.database = database

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
        return await self.database.execute(
            "insert into waiting_label (prediction, model, value, revision, observed_at, event, "
            "known_at) select prediction, model, value::jsonb, revision, observed_at, event, "
            "known_at from unnest($1::text[], $2::text[], $3::text[], $4::int[], "
            "$5::timestamptz[], $6::uuid[], $7::timestamptz[]) as r (prediction, model, value, "
            "revision, observed_at, event, known_at) on conflict do nothing",
            [one.prediction for one in labels],
            [one.model for one in labels],
            [orjson.dumps(one.value).decode() for one in labels],
            [one.revision for one in labels],
            [one.observed_at for one in labels],
            [one.event for one in labels],
            [one.known_at for one in labels],
        )

    async def count_waiting(self) -> int:
        """Labels whose predictions are not known."""
        return int(await self.database.fetchval("select count(*) from waiting_label"))

    async def drop_waiting(self, spans: Iterable[Span]) -> Counter[str]:
        """Drop labels that have waited since these spans; how many, by model."""
        dropped: Counter[str] = Counter()
        for span in spans:
            rows = await self.database.fetch(
                "with gone as (delete from waiting_label where heard_at >= $1 and heard_at < $2 "
                "and model <> all($3::text[]) returning model) "
                "select model, count(*) as labels from gone group by model",
                *span,
            )
            dropped.update({row["model"]: row["labels"] for row in rows})
        return dropped


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
