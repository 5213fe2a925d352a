"""What the deployer remembers, and the one lock under which it decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from pydantic import TypeAdapter

from services.deployer.domain import Endpoint, Rollout
from shared.events import Event, Heard, Json, ModelName, ReplicaAnnounced, ServingApplied
from shared.postgres import Cause, Database, Row

GONE_AFTER: Final = timedelta(seconds=15)
"""A replica that says nothing for so long is not waited for."""

_ENDPOINT: Final = TypeAdapter(Endpoint)
_ROLLOUT: Final = TypeAdapter(Rollout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A live replica and the generation of one model that it answers by, 0 for none."""

    replica: str
    url: str
    seen_at: datetime
    generation: int
    versions: tuple[int, ...]


class Store(Protocol):
    """Every method joins the open transaction."""

    async def lock(self, model: ModelName, *, now: datetime | None = None) -> Endpoint | None: ...

    async def save(
        self,
        before: Endpoint,
        endpoint: Endpoint,
        ended: Sequence[Rollout],
        *,
        due_at: datetime | None,
        now: datetime,
    ) -> None: ...

    async def say(
        self, said: Sequence[tuple[Cause, Event]], *, step: str = ""
    ) -> list[Heard[Event]]: ...

    async def lock_due(self, now: datetime) -> tuple[Endpoint, int] | None: ...

    async def next_due(self) -> datetime | None: ...

    async def model_of(self, rollout: UUID) -> ModelName | None: ...

    async def note_replica(self, said: ReplicaAnnounced, now: datetime) -> None: ...

    async def note_applied(self, said: ServingApplied, now: datetime) -> None: ...


class PostgresStore:
    """The store in the deployer's own database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def lock(self, model: ModelName, *, now: datetime | None = None) -> Endpoint | None:
        """The endpoint, locked until the transaction ends; made new when `now` is given."""
        sql = "select body from endpoint where model = $1 for update"
        body = await self.database.fetchval(sql, model)
        if body is None and now is not None:
            new = _ENDPOINT.dump_python(Endpoint(model=model), mode="json")
            await self.database.execute(
                "insert into endpoint (model, generation, seq, body, due_seq, changed_at) "
                "values ($1, 0, 0, $2, 0, $3) on conflict do nothing",
                model,
                new,
                now,
            )
            body = await self.database.fetchval(sql, model)
        return None if body is None else _ENDPOINT.validate_python(body)

    async def save(
        self,
        before: Endpoint,
        endpoint: Endpoint,
        ended: Sequence[Rollout],
        *,
        due_at: datetime | None,
        now: datetime,
    ) -> None:
        """Write a locked endpoint, its rollouts, and a change of champion."""
        await self.database.execute(
            "update endpoint set generation = $2, seq = $3, champion = $4, body = $5, "
            "due_at = $6, due_seq = $3, changed_at = $7 where model = $1",
            endpoint.model,
            endpoint.generation,
            endpoint.seq,
            endpoint.champion_version,
            _ENDPOINT.dump_python(endpoint, mode="json"),
            due_at,
            now,
        )
        await self._save_rollouts(before, endpoint, ended)
        if endpoint.champion_version != before.champion_version:
            await self._crown(endpoint, now)

    async def _save_rollouts(
        self, before: Endpoint, endpoint: Endpoint, ended: Sequence[Rollout]
    ) -> None:
        known = (before.awaiting, *before.active)
        # Those that leave a place go first: they make room in the unique indexes for what comes.
        present = (endpoint.awaiting, *reversed(endpoint.active))
        changed = [r for r in present if r is not None and r not in known]
        rollouts = [*ended, *changed]
        if rollouts:
            await self.database.executemany(
                _SAVE_ROLLOUT, [_row_of(endpoint.model, rollout) for rollout in rollouts]
            )

    async def _crown(self, endpoint: Endpoint, now: datetime) -> None:
        await self.database.execute(
            "update champion set until_at = $2 where model = $1 and until_at is null",
            endpoint.model,
            now,
        )
        if endpoint.champion is not None:
            await self.database.execute(
                "insert into champion (model, version, manifest, since_at) values ($1, $2, $3, $4)",
                endpoint.model,
                endpoint.champion.version,
                endpoint.champion.manifest,
                now,
            )

    async def say(
        self, said: Sequence[tuple[Cause, Event]], *, step: str = ""
    ) -> list[Heard[Event]]:
        """Say events of several cascades with the effect of this transaction."""
        async with self.database.transaction() as transaction:
            return await transaction.say_each(said, step=step)

    async def lock_due(self, now: datetime) -> tuple[Endpoint, int] | None:
        """An endpoint whose moment has come and that nobody else is at, with the timer's seq."""
        row = await self.database.fetchrow(
            "select body, due_seq from endpoint where due_at <= $1 "
            "order by due_at limit 1 for update skip locked",
            now,
        )
        return None if row is None else (_ENDPOINT.validate_python(row["body"]), row["due_seq"])

    async def next_due(self) -> datetime | None:
        """When the next timer runs out."""
        moment: datetime | None = await self.database.fetchval("select min(due_at) from endpoint")
        return moment

    async def model_of(self, rollout: UUID) -> ModelName | None:
        """The model of a rollout, if there is such a rollout."""
        model = await self.database.fetchval("select model from rollout where id = $1", rollout)
        return None if model is None else ModelName(model)

    async def note_replica(self, said: ReplicaAnnounced, now: datetime) -> None:
        """A replica is alive."""
        await self.database.execute(
            "insert into replica (replica, url, models, seen_at) values ($1, $2, $3, $4) "
            "on conflict (replica) do update set url = excluded.url, models = excluded.models, "
            "seen_at = excluded.seen_at",
            said.replica,
            said.url,
            said.models,
            now,
        )

    async def note_applied(self, said: ServingApplied, now: datetime) -> None:
        """A replica answers by a generation."""
        await self.database.execute(
            "insert into applied (model, replica, generation, versions, at) "
            "values ($1, $2, $3, $4, $5) on conflict (model, replica) do update "
            "set generation = excluded.generation, versions = excluded.versions, at = excluded.at "
            "where applied.generation <= excluded.generation",
            said.model,
            said.replica,
            said.generation,
            list(said.versions),
            now,
        )

    # --- for people ---------------------------------------------------------------------------

    async def endpoint(self, model: str) -> Endpoint | None:
        """The endpoint as it is."""
        body = await self.database.fetchval("select body from endpoint where model = $1", model)
        return None if body is None else _ENDPOINT.validate_python(body)

    async def endpoints(
        self, *, after: str, limit: int, owners: Sequence[str] | None = None
    ) -> list[Endpoint]:
        """Endpoints by name; only of these teams' models, if any are named."""
        rows = await self.database.fetch(
            "select body from endpoint where model > $1 and ($3::text[] is null "
            "or body ->> 'owner' = any($3)) order by model limit $2",
            after,
            limit,
            owners,
        )
        return [_ENDPOINT.validate_python(row["body"]) for row in rows]

    async def rollouts(self, model: str, *, below: int, limit: int) -> list[tuple[int, Rollout]]:
        """Rollouts of a model with their numbers, the one that began last first."""
        rows = await self.database.fetch(
            "select number, body from rollout where model = $1 and number < $2 "
            "order by number desc limit $3",
            model,
            below,
            limit,
        )
        return [(row["number"], _ROLLOUT.validate_python(row["body"])) for row in rows]

    async def replicas(self, model: str, now: datetime) -> list[Replica]:
        """Live replicas, and what each answers for this model."""
        rows = await self.database.fetch(
            "select r.replica, r.url, r.seen_at, coalesce(a.generation, 0) as generation, "
            "coalesce(a.versions, '{}') as versions from replica r "
            "left join applied a on a.replica = r.replica and a.model = $1 "
            "where r.seen_at > $2 order by r.replica",
            model,
            now - GONE_AFTER,
        )
        return [_replica_of(row) for row in rows]


_SAVE_ROLLOUT: Final = (
    "insert into rollout (id, model, version, dataset_version, stage, at, body, best) "
    "values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (id) do update "
    "set stage = excluded.stage, at = excluded.at, body = excluded.body"
)


def _row_of(model: ModelName, rollout: Rollout) -> Sequence[Any]:
    body = plain_rollout(rollout)
    return (
        rollout.id,
        model,
        rollout.version,
        rollout.dataset_version,
        str(rollout.stage),
        rollout.at,
        body,
        rollout.best,
    )


def plain_rollout(rollout: Rollout) -> Json:
    """A rollout as plain data."""
    plain: Json = _ROLLOUT.dump_python(rollout, mode="json")
    return plain


def _replica_of(row: Row) -> Replica:
    return Replica(
        replica=row["replica"],
        url=row["url"],
        seen_at=row["seen_at"],
        generation=row["generation"],
        versions=tuple(row["versions"]),
    )
