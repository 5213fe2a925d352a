"""Closed windows that could not be judged, and when that is tried again."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Final

from services.drift_monitor.memory import Key
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.windows import Window
from shared.events import ModelName
from shared.postgres import Database, Row
from shared.sketch import Parts, read_sketch


class UnjudgedTable:
    """Few windows, and mostly none; each keeps its rows and its sketch."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def unjudged_of(self, keys: Collection[Key]) -> dict[Key, datetime]:
        """Versions with windows that are to be judged before newer ones, and when that is."""
        rows = await self.database.fetch(
            WAITS, [model for model, _ in keys], [version for _, version in keys]
        )
        return {(row["model"], row["version"]): row["at"] for row in rows}

    async def judge_later(self, place: Place, at: datetime) -> None:
        """Have a closed window judged then."""
        await self.database.execute(
            "update window_sketch set judge_at = $4 "
            "where model = $1 and version = $2 and number = $3 and mode is null",
            *place,
            at,
        )

    async def judge_all_later(self, key: Key, at: datetime) -> None:
        """Have every window of a version that waits for its verdict judged then."""
        await self.database.execute(
            "update window_sketch set judge_at = $3 "
            "where model = $1 and version = $2 and judge_at is not null",
            *key,
            at,
        )

    async def note_try(self, place: Place) -> int:
        """Count a verdict that failed; how often it has."""
        tries = await self.database.fetchval(
            "update window_sketch set tries = tries + 1 where model = $1 and version = $2 "
            "and number = $3 and judge_at is not null returning tries",
            *place,
        )
        return int(tries or 0)

    async def save_no_verdict(self, window: Window, detail: str) -> None:
        """A window is not compared any more, nor are others with it: it has no level."""
        await self.database.execute(
            "update window_sketch set mode = 'insufficient', alpha = null, detail = $4, "
            "features = '[]', judge_at = null "
            "where model = $1 and version = $2 and number = $3",
            window.model,
            window.version,
            window.number,
            detail,
        )

    async def unjudged_due(self, now: datetime, limit: int) -> list[Place]:
        """Windows that are to be judged now, those of a version in their order."""
        rows = await self.database.fetch(DUE, now, limit)
        return [(row["model"], row["version"], row["number"]) for row in rows]

    async def unjudged(self, place: Place, now: datetime) -> Window | None:
        """A window that is to be judged now; None where somebody else has done so.

        Raises:
            Unprocessable: what is kept of it is no sketch.
        """
        row = await self._unjudged(place, now)
        if row is None:
            return None
        sketch = read_sketch(Parts.read(row["counts"]))
        return replace(_window(place, row), sketch=sketch, absent=row["absent"])

    async def unreadable(self, place: Place, now: datetime) -> Window | None:
        """The same without what is in it."""
        row = await self._unjudged(place, now)
        return _window(place, row) if row is not None else None

    async def _unjudged(self, place: Place, now: datetime) -> Row | None:
        return await self.database.fetchrow(
            "select rows, counts, season, started_at, ended_at, absent from window_sketch "
            "where model = $1 and version = $2 and number = $3 and judge_at <= $4",
            *place,
            now,
        )

    async def count_unjudged(self) -> int:
        """Closed windows that wait for their verdict."""
        return int(
            await self.database.fetchval(
                "select count(*) from window_sketch where judge_at is not null"
            )
        )


def _window(place: Place, row: Row) -> Window:
    return Window(
        model=ModelName(place[0]),
        version=place[1],
        number=place[2],
        rows=row["rows"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        season=row["season"],
        is_closed=True,
    )


WAITS: Final = """
    select model, version, min(judge_at) as at from window_sketch
    join unnest($1::text[], $2::int[]) as k (model, version) using (model, version)
    where judge_at is not null group by model, version
"""
DUE: Final = """
    select model, version, number from window_sketch where judge_at <= $1
    order by model, version, number limit $2
"""
