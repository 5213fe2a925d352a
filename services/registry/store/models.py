"""Model definitions and the numbers of their versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from services.registry.domain.numbering import Newest
from shared import codec
from shared.events import (
    Digest,
    Event,
    Heard,
    ModelDefined,
    ModelRegistered,
    TrainingCompleted,
)
from shared.postgres import Database, Row

_DEFINE: Final = """
    insert into definition (model, number, dataset, spec, spec_digest, code_digest, defined_by,
        commit, event_id, cascade, defined_at)
    select $1, definition, $2, $3, $4, $5, $6, $7, $8, $9, $10 from model where name = $1
    on conflict do nothing
"""
_TOUCH: Final = """
    insert into model as m (name, dataset, definition, defined_at, owner)
    values ($1, $2, 1, $3, $4)
    on conflict (name) do update set dataset = excluded.dataset, owner = excluded.owner,
        definition = m.definition + 1
"""
_REGISTER: Final = """
    insert into model_version (model, version, run, dataset, dataset_version, training, trained_at,
        event_id, cascade, registered_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_LIST: Final = """
    select m.latest, d.* from model m
    join definition d on d.model = m.name and d.number = m.definition
    where m.name > $1 and ($3::text is null or m.dataset = $3)
        and ($4::text[] is null or m.owner = any($4)) order by m.name limit $2
"""
_NEWEST_DEFINITION: Final = """
    select m.latest, d.* from model m
    join definition d on d.model = m.name and d.number = m.definition where m.name = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A definition as it is kept; `latest` is the model's newest version number, 0 for none."""

    model: str
    number: int
    dataset: str
    spec: Mapping[str, Any]
    spec_digest: Digest
    code_digest: Digest
    defined_by: str
    commit: str | None
    event_id: UUID
    cascade: UUID
    defined_at: datetime
    latest: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A numbered candidate; `training` is all that `training.completed` said of it."""

    model: str
    version: int
    run: UUID
    dataset: str
    dataset_version: int
    training: Mapping[str, Any]
    trained_at: datetime
    event_id: UUID
    cascade: UUID
    registered_at: datetime


def _definition(row: Row) -> Definition:
    return Definition(**dict(row))


def _version(row: Row) -> ModelVersion:
    return ModelVersion(**dict(row))


def plain(heard: Heard[Event]) -> Any:
    """What an event says, as plain data that PostgreSQL can keep: it knows no NUL in text."""
    body = codec.encode(heard).replace(b"\\u0000", b"\\ufffd")
    return orjson.loads(body)["data"]


@dataclass(frozen=True, slots=True)
class Models:
    """Every model, its definitions and its versions."""

    database: Database

    async def lock(self, model: str) -> None:
        """Hold the model until the transaction ends, whether it exists yet or not."""
        await self.database.execute(
            "select pg_advisory_xact_lock(hashtextextended('model ' || $1, 0))", model
        )

    async def definition(self, model: str) -> Definition | None:
        """The newest definition."""
        row = await self.database.fetchrow(_NEWEST_DEFINITION, model)
        return _definition(row) if row else None

    async def definition_with(
        self, model: str, spec_digest: str, code_digest: str
    ) -> Definition | None:
        """The newest definition with this specification, of this code if there is one."""
        row = await self.database.fetchrow(
            "select * from definition where model = $1 and spec_digest = $2 "
            "order by code_digest = $3 desc, number desc limit 1",
            model,
            spec_digest,
            code_digest,
        )
        return _definition(row) if row else None

    async def define(self, heard: Heard[ModelDefined]) -> None:
        """Keep a definition; the same event again changes nothing."""
        event = heard.event
        known = await self.database.fetchval(
            "select 1 from definition where event_id = $1", heard.id
        )
        if known:
            return
        await self.database.execute(
            _TOUCH, event.model, event.dataset, heard.time, str(event.spec.get("owner", ""))
        )
        await self.database.execute(
            _DEFINE,
            event.model,
            event.dataset,
            event.spec,
            event.spec_digest,
            event.code_digest,
            event.defined_by,
            event.commit,
            heard.id,
            heard.correlation,
            heard.time,
        )

    async def newest(self, model: str) -> Newest | None:
        """The newest numbered version."""
        row = await self.database.fetchrow(
            "select latest, trained_on, trained_on_version from model "
            "where name = $1 and latest > 0",
            model,
        )
        if row is None:
            return None
        return Newest(
            version=row["latest"],
            trained_on=row["trained_on"],
            trained_on_version=row["trained_on_version"],
        )

    async def is_numbered(self, run: UUID) -> bool:
        """Whether the candidate of a run has a number."""
        found = await self.database.fetchval("select 1 from model_version where run = $1", run)
        return found is not None

    async def register(
        self, heard: Heard[ModelRegistered], training: Heard[TrainingCompleted]
    ) -> None:
        """Keep a version that was numbered, with all that its training said."""
        event = heard.event
        await self.database.execute(
            _REGISTER,
            event.model,
            event.version,
            event.run,
            event.dataset,
            event.dataset_version,
            plain(training),
            training.time,
            heard.id,
            heard.correlation,
            heard.time,
        )
        await self.database.execute(
            "update model set latest = $2, trained_on = $3, trained_on_version = $4 "
            "where name = $1",
            event.model,
            event.version,
            event.dataset,
            event.dataset_version,
        )

    async def page(
        self,
        after: str,
        limit: int,
        dataset: str | None = None,
        owners: Sequence[str] | None = None,
    ) -> list[Definition]:
        """Models by name with their newest definition; only of these teams, if any are named."""
        rows = await self.database.fetch(_LIST, after, limit, dataset, owners)
        return [_definition(row) for row in rows]

    async def version(self, model: str, version: int) -> ModelVersion | None:
        """One version."""
        row = await self.database.fetchrow(
            "select * from model_version where model = $1 and version = $2", model, version
        )
        return _version(row) if row else None

    async def versions(self, model: str, below: int, limit: int) -> list[ModelVersion]:
        """Versions below a number, newest first."""
        rows = await self.database.fetch(
            "select * from model_version where model = $1 and version < $2 "
            "order by version desc limit $3",
            model,
            below,
            limit,
        )
        return [_version(row) for row in rows]
