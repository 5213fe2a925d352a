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


_UNDRAWN: Final = """
    select w.model, w.version, w.number from (
        select model, version, max(number) as number from window_sketch
        where severity = 'critical' group by model, version
    ) w where not exists (
        select 1 from report r where r.model = w.model and r.version = w.version
            and r.requested_by = 'tidewheel'
            and (r."window" >= w.number or r.requested_at > now() - interval '1 day')
    )
    order by w.model, w.version limit $1
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

    async def undrawn(self, limit: int) -> list[tuple[str, int, int]]:
        """Model, version and window of critical drift whose version had no alarm drawn for a day.

        Of a version that alarms again and again the newest window is drawn.
        """
        rows = await self.database.fetch(_UNDRAWN, limit)
        return [(row["model"], row["version"], row["number"]) for row in rows]

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
