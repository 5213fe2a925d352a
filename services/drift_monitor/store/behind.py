"""Versions that rows or labels wait for, and what waits for each."""

from collections.abc import Collection
from typing import Final

from services.drift_monitor.memory import Key
from shared.postgres import Database


class BehindTable:
    """A mark at each; what waits is where it would be without one."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def mark_behind(self, keys: Collection[Key]) -> set[Key]:
        """Have what waits for these versions counted in a round; those of them that there are."""
        rows = await self.database.fetch(
            _MARK, [model for model, _ in keys], [version for _, version in keys]
        )
        return {(row["model"], row["version"]) for row in rows}

    async def behind(self) -> list[Key]:
        """Those that are marked, and those of before cells were kept that rows wait for."""
        rows = await self.database.fetch(BEHIND)
        return [(row["model"], row["version"]) for row in rows]

    async def caught_up(self, key: Key) -> None:
        """Nothing waits for a version any more."""
        await self.database.execute(
            "update version set behind = false where model = $1 and version = $2 and behind", *key
        )

    async def without_cells(self, keys: Collection[Key]) -> set[Key]:
        """Versions that were registered before their cells were kept."""
        rows = await self.database.fetch(
            "select model, version from version "
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version) "
            "where width is null",
            [model for model, _ in keys],
            [version for _, version in keys],
        )
        return {(row["model"], row["version"]) for row in rows}

    async def has_unclaimed(self, key: Key) -> bool:
        """Whether rows of a version are in no window; costs the same however many there are."""
        return bool(
            await self.database.fetchval(
                "select exists (select from prediction "
                'where model = $1 and version = $2 and "window" is null)',
                *key,
            )
        )

    async def joinable(self, key: Key, limit: int) -> list[str]:
        """Predictions of a version that have come, and whose labels wait all the same."""
        rows = await self.database.fetch(
            "select distinct w.prediction from waiting_label w join prediction p "
            "on p.id = w.prediction where w.model = $1 and p.model = $1 and p.version = $2 "
            "order by 1 limit $3",
            *key,
            limit,
        )
        return [row["prediction"] for row in rows]


_MARK: Final = """
    with known as (
        select model, version, behind from version
        join unnest($1::text[], $2::int[]) as k (model, version) using (model, version)
    ), marked as (
        update version v set behind = true from known k
        where v.model = k.model and v.version = k.version and not k.behind
    )
    select model, version from known
"""
BEHIND: Final = """
    select model, version from version where behind
    union
    select model, version from version v where width is null and exists (
        select from prediction p
        where p.model = v.model and p.version = v.version and p."window" is null
    ) order by 1, 2
"""
