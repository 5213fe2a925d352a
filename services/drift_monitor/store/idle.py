"""Open windows of versions that do not answer any more."""

from datetime import datetime
from typing import Final

from services.drift_monitor.memory import Slot
from shared.postgres import Database


class IdleTable:
    """A champion's windows are never idle: it may be asked seldom."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def idle_windows(self, before: datetime, *, after: Slot, limit: int) -> list[Slot]:
        """Windows that were opened before, none of whose rows is kept any more, in order.

        Args:
            after: the last one that was asked for before; the next ones follow it.
        """
        rows = await self.database.fetch(IDLE_WINDOWS, before, *after, limit)
        return [(row["model"], row["version"], row["season"]) for row in rows]

    async def idle_rows(self, slot: Slot, before: datetime) -> int | None:
        """How many rows such a window has; None where it is none."""
        found: int | None = await self.database.fetchval(
            f"select w.rows {_IDLE} and w.model = $2 and w.version = $3 and w.season = $4",
            before,
            *slot,
        )
        return found

    async def drop_open(self, slot: Slot) -> None:
        """Drop the open window of a slot, with what labels have said of it."""
        await self.database.execute(
            "with gone as (delete from window_sketch where model = $1 and version = $2 "
            "and season = $3 and closed_at is null returning model, version, number) "
            "delete from window_quality q using gone g "
            "where (q.model, q.version, q.number) = (g.model, g.version, g.number)",
            *slot,
        )


_IDLE: Final = """
    from window_sketch w left join model m on m.model = w.model
    where w.closed_at is null and w.opened_at < $1 and m.champion is distinct from w.version
        and not exists (select from prediction p where p.model = w.model
            and p.version = w.version and p."window" = w.number)
"""
IDLE_WINDOWS: Final = f"""
    select w.model, w.version, w.season {_IDLE}
        and (w.model, w.version, w.season) > ($2, $3, $4)
    order by w.model, w.version, w.season limit $5
"""
