"""What is due because of time alone: models, their windows, and losses nobody has fed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from services.drift_monitor.store.sketches import Place
from services.drift_monitor.store.versions import Key
from shared.postgres import Database


class SettlingTable:
    """Reads what has changed or come of age, and nothing else."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def models_due(self, now: datetime, limit: int) -> list[str]:
        """Models that are to be looked at, those that wait longest first."""
        rows = await self.database.fetch(MODELS_DUE, now, limit)
        return [row["model"] for row in rows]

    async def is_settling_due(self, model: str, now: datetime) -> bool:
        """Whether a locked model is still to be looked at; somebody else may have done so."""
        found = await self.database.fetchval(
            "select due_at <= $2 from label_delay where model = $1", model, now
        )
        return bool(found)

    async def wake(self, model: str) -> None:
        """Something has changed that labels which are there already may have waited for."""
        await self.database.execute(
            "update label_delay set due_at = least(due_at, not_before) where model = $1 "
            "and due_at is distinct from least(due_at, not_before)",
            model,
        )

    async def windows_due(self, model: str, now: datetime, limit: int) -> list[Place]:
        """Closed windows with labels that may be settled by now, the newest first."""
        rows = await self.database.fetch(WINDOWS_DUE, model, now, limit)
        return [(model, row["version"], row["number"]) for row in rows]

    async def look_again(self, moments: Mapping[Place, datetime]) -> None:
        """Note when windows that are not settled are looked at next."""
        if not moments:
            return
        places = sorted(moments)
        await self.database.execute(
            "update window_quality q set look_at = k.at from unnest($1::text[], $2::int[], "
            "$3::int[], $4::timestamptz[]) as k (model, version, number, at) "
            "where (q.model, q.version, q.number) = (k.model, k.version, k.number) "
            "and not q.settled",
            [model for model, _, _ in places],
            [version for _, version, _ in places],
            [number for _, _, number in places],
            [moments[place] for place in places],
        )

    async def look_later(
        self, model: str, versions: Sequence[int], now: datetime, at: datetime
    ) -> None:
        """Have what is due of these versions looked at then."""
        await self.database.execute(
            "update window_quality set look_at = $4 where model = $1 and version = any($2::int[]) "
            "and not settled and labels > 0 and (look_at is null or look_at <= $3)",
            model,
            list(versions),
            now,
            at,
        )

    async def unfed(self, model: str) -> dict[Key, datetime]:
        """Versions with losses that no running test was fed, and the moment of the oldest."""
        rows = await self.database.fetch(UNFED, model)
        return {(model, row["version"]): row["at"] for row in rows}

    async def next_look(self, model: str) -> datetime | None:
        """When the first window of a model is to be looked at; None for none."""
        found: datetime | None = await self.database.fetchval(NEXT_LOOK, model)
        return found

    async def settle_again(self, model: str, due_at: datetime | None, not_before: datetime) -> None:
        """Note when a model is looked at next, and how soon news may bring that forward."""
        await self.database.execute(
            "update label_delay set due_at = $2, not_before = $3 where model = $1",
            model,
            due_at,
            not_before,
        )


MODELS_DUE: Final = """
    select model from label_delay where due_at <= $1 order by due_at limit $2
"""
WINDOWS_DUE: Final = """
    select q.version, q.number
    from window_quality q join window_sketch w using (model, version, number)
    where q.model = $1 and not q.settled and q.labels > 0 and w.closed_at is not null
        and (q.look_at is null or q.look_at <= $2)
    order by q.version desc, q.number desc limit $3
"""
NEXT_LOOK: Final = """
    select least(
        (select look_at from window_quality where model = $1 and not settled and labels > 0
            and look_at is not null order by look_at limit 1),
        (select min(w.closed_at)
            from window_quality q join window_sketch w using (model, version, number)
            where q.model = $1 and not q.settled and q.labels > 0 and q.look_at is null
                and w.closed_at is not null)
    )
"""
UNFED: Final = """
    select v.version, o.at
    from version v left join detector d using (model, version)
    cross join lateral (
        select at from outcome where model = v.model and version = v.version
            and at > coalesce(d.fed_to, '-infinity') and counts and loss is not null
        order by at limit 1
    ) o
    where v.model = $1
"""
