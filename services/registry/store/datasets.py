"""Dataset versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from services.registry.domain.datasets import Before, Consumer
from shared.events import DatasetPublished, Digest, Heard, ModelName
from shared.postgres import Database, Row

_ADD: Final = """
    insert into dataset_version (dataset, version, digest, format, size_bytes, rows, kinds,
        profile, published_by, offer, event_id, cascade, published_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    on conflict (dataset, version) do nothing
"""
_CONSUMERS: Final = """
    select m.name, d.spec ->> 'task' as task, d.spec -> 'data' ->> 'target' as target
    from model m join definition d on d.model = m.name and d.number = m.definition
    where m.dataset = $1 order by m.name
"""
_LIST: Final = """
    select v.* from dataset d
    join dataset_version v on v.dataset = d.name and v.version = d.latest
    where d.name > $1 and ($3::text[] is null or exists (
        select 1 from dataset_owner o where o.dataset = d.name and o.owner = any($3)
    )) order by d.name limit $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One version as it is kept; `kinds` holds the columns in the order of the file."""

    dataset: str
    version: int
    digest: Digest
    format: str
    size_bytes: int
    rows: int
    kinds: Mapping[str, str]
    profile: Digest
    published_by: str
    offer: UUID | None
    event_id: UUID
    cascade: UUID
    published_at: datetime


def _version(row: Row) -> DatasetVersion:
    # jsonb sorts its keys; the order of the columns is kept as a list of pairs.
    return DatasetVersion(**{**dict(row), "kinds": dict(row["kinds"])})


@dataclass(frozen=True, slots=True)
class Datasets:
    """Every dataset and its versions."""

    database: Database

    async def lock(self, dataset: str) -> None:
        """Hold the dataset until the transaction ends, so that numbers are given one by one."""
        await self.database.execute(
            "insert into dataset (name) values ($1) on conflict do nothing", dataset
        )
        await self.database.execute("select 1 from dataset where name = $1 for update", dataset)

    async def of_digest(self, dataset: str, digest: Digest) -> DatasetVersion | None:
        """The version that has these bytes."""
        row = await self.database.fetchrow(
            "select * from dataset_version where dataset = $1 and digest = $2", dataset, digest
        )
        return _version(row) if row else None

    async def version(self, dataset: str, version: int) -> DatasetVersion | None:
        """One version."""
        row = await self.database.fetchrow(
            "select * from dataset_version where dataset = $1 and version = $2", dataset, version
        )
        return _version(row) if row else None

    async def before(self, dataset: str) -> Before | None:
        """Number and columns of the newest version."""
        row = await self.database.fetchrow(
            "select version, kinds from dataset_version where dataset = $1 "
            "order by version desc limit 1",
            dataset,
        )
        return Before(version=row["version"], kinds=dict(row["kinds"])) if row else None

    async def consumers(self, dataset: str) -> list[Consumer]:
        """The models that are trained on it."""
        rows = await self.database.fetch(_CONSUMERS, dataset)
        return [
            Consumer(model=ModelName(row["name"]), task=row["task"], target=row["target"])
            for row in rows
        ]

    async def add(self, heard: Heard[DatasetPublished]) -> None:
        """Keep a version that was published."""
        event = heard.event
        await self.database.execute(
            "insert into dataset as d (name, latest) values ($1, $2) on conflict (name) "
            "do update set latest = greatest(d.latest, excluded.latest)",
            event.dataset,
            event.version,
        )
        await self.database.execute(
            _ADD,
            event.dataset,
            event.version,
            event.digest,
            event.format,
            event.size_bytes,
            event.rows,
            list(event.columns.items()),
            event.profile,
            event.published_by,
            event.offer,
            heard.id,
            heard.correlation,
            heard.time,
        )

    async def newest_of_each(
        self, after: str, limit: int, owners: Sequence[str] | None = None
    ) -> list[DatasetVersion]:
        """The newest version of every dataset by name; only of these teams, if any are named."""
        return [_version(row) for row in await self.database.fetch(_LIST, after, limit, owners)]

    async def versions(self, dataset: str, below: int, limit: int) -> list[DatasetVersion]:
        """Versions below a number, newest first."""
        rows = await self.database.fetch(
            "select * from dataset_version where dataset = $1 and version < $2 "
            "order by version desc limit $3",
            dataset,
            below,
            limit,
        )
        return [_version(row) for row in rows]
