"""Reports that somebody asked for."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.events import Digest, Json
from shared.postgres import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A report that is wanted."""

    id: UUID
    model: str
    version: int
    window: int
    by: str


TAKE_ALARMS: Final = """
    update alarm_report set due_at = null, ordered_at = now() where ctid = any(array(
        select ctid from alarm_report where due_at <= now()
        order by due_at limit $1 for update skip locked
    )) returning model, version, "window"
"""


_FOUND: Final = """
    select r.id, r.model, r.version, r."window", r.artifact, r.size_bytes, r.summary,
        r.requested_by, r.requested_at, case when r.state = 'waiting' and j.state = 'failed'
            then j.state else r.state end as state,
        coalesce(r.detail, j.detail) as detail,
        coalesce(r.finished_at, j.finished_at) as finished_at
    from report r
    left join job j on j.kind = 'report' and j.natural_key = 'report/' || r.id::text
        and j.state = 'failed'
    where r.id = $1
"""


class Reporting:
    """One row per report."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, asked: Asked) -> None:
        await self.database.execute(
            'insert into report (id, model, version, "window", requested_by) '
            "values ($1, $2, $3, $4, $5) on conflict do nothing",
            asked.id,
            asked.model,
            asked.version,
            asked.window,
            asked.by,
        )

    async def take_alarms(self, limit: int) -> list[tuple[str, int, int]]:
        """Model, version and window of critical drift to draw, those that wait longest first.

        They are due no more; the caller orders their reports in this transaction. Of a version
        that alarms again and again the newest window is drawn, once a day. What a batch has
        locked is left for the next time, so that neither waits for the other in a circle.
        """
        rows = await self.database.fetch(TAKE_ALARMS, limit)
        return [(row["model"], row["version"], row["window"]) for row in rows]

    async def finish(self, report: UUID, artifact: Digest, size_bytes: int, summary: Json) -> None:
        await self.database.execute(
            "update report set state = 'done', artifact = $2, size_bytes = $3, summary = $4, "
            "finished_at = now() where id = $1",
            report,
            artifact,
            size_bytes,
            summary,
        )

    async def fail(self, report: UUID, detail: str) -> None:
        await self.database.execute(
            "update report set state = 'failed', detail = $2, finished_at = now() where id = $1",
            report,
            detail,
        )

    async def find(self, report: UUID) -> Json | None:
        """A report; one whose drawing was given up has failed, though nobody could write that."""
        row = await self.database.fetchrow(_FOUND, report)
        return dict(row) if row else None
