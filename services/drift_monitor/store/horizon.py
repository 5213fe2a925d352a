"""What is too old to matter is dropped, a part at a time: no statement takes long, however much."""

from datetime import datetime
from typing import Final

from services.drift_monitor.detection import HISTORY
from services.drift_monitor.store.qualities import BEGINNING
from shared.postgres import Database

TOGETHER: Final = 10_000
"""Rows that are dropped by one statement."""
WINDOWS_TOGETHER: Final = 2_000
TELEMETRY: Final = ("prediction", "unseen", "batch", "outcome")
"""Each row with the moment at which it was heard of."""


class HorizonTable:
    """Every method drops part after part, each in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def forget_telemetry(self, before: datetime) -> None:
        """Drop predictions, labels and the numbers of batches that were heard of before."""
        for table in TELEMETRY:
            await self._drop(table, "heard_at < $1", before)

    async def forget_told(self, before: datetime) -> None:
        """Drop what was shown to people for long enough: reports, lifted brakes, proposals."""
        await self._drop("report", "requested_at < $1 and state <> 'waiting'", before)
        await self._drop("job", "kind = 'report' and finished_at < $1", before)
        await self._drop("brake", "lifted_at < $1", before)
        await self._drop("proposal", "ends_at < $1", before)

    async def forget_windows(self, before: datetime) -> int:
        """Drop windows that were closed before, with what was found in them; how many.

        Those that a younger one was compared with go with it, not before: every verdict that is
        kept can be computed again.
        """
        dropped, last = 0, (BEGINNING, "", 0, 0)
        while True:
            row = await self.database.fetchrow(_WINDOWS, before, *last, WINDOWS_TOGETHER)
            if row is None or row["closed_at"] is None:
                return dropped
            dropped += row["dropped"]
            last = (row["closed_at"], row["model"], row["version"], row["number"])

    async def _drop(self, table: str, condition: str, before: datetime) -> None:
        sql = (
            f"delete from {table} where ctid = any(array("  # noqa: S608 - constants only
            f"select ctid from {table} where {condition} limit {TOGETHER}))"
        )
        while await self.database.execute(sql, before) == TOGETHER:
            pass


_WINDOWS: Final = f"""
    with page as (
        select model, version, number, season, closed_at from window_sketch
        where closed_at < $1 and (closed_at, model, version, number) > ($2, $3, $4, $5)
        order by closed_at, model, version, number limit $6
    ), gone as (
        delete from window_sketch w using page p
        where (w.model, w.version, w.number) = (p.model, p.version, p.number)
            and not exists (
                select from (
                    select closed_at from window_sketch n
                    where n.model = p.model and n.version = p.version and n.season = p.season
                        and n.number > p.number
                    order by n.number limit {HISTORY - 1}
                ) following
                where following.closed_at >= $1
            )
        returning w.model, w.version, w.number
    ), without as (
        delete from window_quality q using gone g
        where (q.model, q.version, q.number) = (g.model, g.version, g.number)
    )
    select p.*, (select count(*) from gone) as dropped from page p
    order by closed_at desc, model desc, version desc, number desc limit 1
"""  # noqa: S608 - constants only
