"""Batches and the artifacts of versions, in the trainer's database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from shared.events import Digest, Json
from shared.postgres import Database, Row

_BATCHES: Final = """
    select b.id, b.model, b.version, b.dataset, b.dataset_version, b.requested_by, b.rows, b.done,
        b.refused, b.output, b.size_bytes, b.started_at, j.state, j.detail, j.created_at,
        j.correlation, j.payload ->> 'format' as format,
        coalesce(b.outcome, case when j.state = 'failed' then 'failed' end) as outcome,
        coalesce(b.reason, case when j.state = 'failed' then 'crashed' end) as reason,
        coalesce(b.finished_at, j.finished_at) as finished_at
    from batch b join job j on j.id = b.id
"""
"""A job that was given up, because whoever worked on it died each time, has nobody who could have
written into its batch: its end is that of the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A batch that somebody asked for."""

    model: str
    version: int
    dataset: str
    dataset_version: int
    requested_by: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a batch came to."""

    output: Digest
    size_bytes: int
    refused: int


@dataclass(frozen=True, slots=True)
class BatchStore:
    """One row per batch; how its job stands is the job's."""

    database: Database

    async def note_version(self, model: str, version: int, manifest: Digest) -> None:
        await self.database.execute(
            "insert into model_version (model, version, manifest) values ($1, $2, $3) "
            "on conflict do nothing",
            model,
            version,
            manifest,
        )

    async def manifest_of(self, model: str, version: int) -> Digest | None:
        """The artifact of a registered version."""
        found: str | None = await self.database.fetchval(
            "select manifest from model_version where model = $1 and version = $2", model, version
        )
        return None if found is None else Digest(found)

    async def champion(self, model: str) -> int | None:
        """The version that answers for a model now."""
        found: int | None = await self.database.fetchval(
            "select version from champion where model = $1 and is_current", model
        )
        return found

    async def dataset(self, name: str, version: int | None) -> Row | None:
        """A published version; the newest without a number."""
        return await self.database.fetchrow(
            "select * from dataset_version where dataset = $1 and ($2::bigint is null or "
            "version = $2) order by version desc limit 1",
            name,
            version,
        )

    async def dataset_of(self, model: str) -> str:
        """The dataset that a model learns from."""
        found: str = await self.database.fetchval(
            "select dataset from model where model = $1", model
        )
        return found

    async def failures_of(self, asked: Asked) -> int:
        """How often the same batch has failed; the next try is a job of its own."""
        found: Any = await self.database.fetchval(
            "select count(*) from batch b join job j on j.id = b.id where b.model = $1 "
            "and b.version = $2 and b.dataset = $3 and b.dataset_version = $4 "
            "and j.state = 'failed'",
            asked.model,
            asked.version,
            asked.dataset,
            asked.dataset_version,
        )
        return int(found)

    async def add(self, batch: UUID, asked: Asked) -> None:
        await self.database.execute(
            "insert into batch (id, model, version, dataset, dataset_version, requested_by, rows) "
            "values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
            batch,
            asked.model,
            asked.version,
            asked.dataset,
            asked.dataset_version,
            asked.requested_by,
            asked.rows,
        )

    async def begin(self, batch: UUID, now: datetime) -> None:
        await self.database.execute(
            "update batch set started_at = $2, done = 0 where id = $1", batch, now
        )

    async def note_progress(self, batch: UUID, done: int) -> None:
        await self.database.execute("update batch set done = $2 where id = $1", batch, done)

    async def count_crash(self, batch: UUID) -> int:
        """How often the child of this batch has crashed, with this time."""
        sql = "update batch set crashes = crashes + 1 where id = $1 returning crashes"
        return int(await self.database.fetchval(sql, batch) or 1)

    async def complete(self, batch: UUID, made: Made, now: datetime) -> None:
        await self.database.execute(
            "update batch set outcome = 'completed', done = rows, output = $2, size_bytes = $3, "
            "refused = $4, finished_at = $5 where id = $1",
            batch,
            made.output,
            made.size_bytes,
            made.refused,
            now,
        )

    async def fail(
        self,
        batch: UUID,
        reason: Literal["error", "timeout", "resource_exceeded", "crashed"],
        now: datetime,
    ) -> None:
        await self.database.execute(
            "update batch set outcome = 'failed', reason = $2, finished_at = $3 where id = $1",
            batch,
            reason,
            now,
        )

    async def find(self, batch: UUID) -> Json | None:
        row = await self.database.fetchrow(f"{_BATCHES} where b.id = $1", batch)
        return _plain(row) if row else None

    async def newest(
        self, model: str, before: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[Json]:
        """The batches of a model, newest first."""
        rows = await self.database.fetch(
            f"{_BATCHES} where b.model = $1 and ($2::timestamptz is null or "
            "(j.created_at, j.id) < ($2, $3)) order by j.created_at desc, j.id desc limit $4",
            model,
            before[0] if before else None,
            before[1] if before else None,
            limit,
        )
        return [_plain(row) for row in rows]


def _plain(row: Row) -> Json:
    return {
        "batch": row["id"],
        "model": row["model"],
        "version": row["version"],
        "dataset": row["dataset"],
        "dataset_version": row["dataset_version"],
        "requested_by": row["requested_by"],
        "state": row["state"],
        "rows": row["rows"],
        "done": row["done"],
        "refused": row["refused"],
        "format": row["format"],
        "output": row["output"],
        "size_bytes": row["size_bytes"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "detail": row["detail"],
        "queued_at": row["created_at"],
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
        "cascade": row["correlation"],
    }
