"""What decisions need besides the endpoint: freezes, publications, definitions, verdicts.

Whoever takes a step holds the calendar, shared with all others; whoever changes what steps depend
on holds it alone. So a step either sees the change, or is done before it and is looked at again.
Both take hold of it before any row, so that nobody waits in a circle.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from services.deployer.domain import Endpoint, Rollout, Stage
from services.deployer.permission import DeclaredFreeze, Grant, Surroundings
from shared.events import (
    DatasetPublished,
    EvaluationCompleted,
    Event,
    FreezeDeclared,
    FreezeLifted,
    Heard,
    ModelDefined,
    ModelName,
    RolloutId,
)
from shared.postgres import Database, Row

_CALENDAR: Final = 0x7469_6465
"""The number under which PostgreSQL knows this lock."""
_VERDICT: Final = TypeAdapter(EvaluationCompleted)
_ENDPOINT: Final = TypeAdapter(Endpoint)

_SURROUNDINGS: Final = """
    select (
        select coalesce(jsonb_agg(jsonb_build_object(
            'freeze', id, 'starts_at', starts_at, 'ends_at', ends_at, 'reason', reason)), '[]')
        from frozen where lifted_at is null and ends_at > $2
            and (models = '{}' or $1 = any (models))
    ) as freezes, (
        select coalesce(jsonb_object_agg(dataset, at), '{}') from published
        where dataset = any ($3)
    ) as published, (
        select defined_by from author where model = $1
    ) as definer
"""
_FREEZES: Final = TypeAdapter(tuple[DeclaredFreeze, ...])
_PUBLISHED: Final = TypeAdapter(Mapping[str, datetime])


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFreeze:
    """A declared freeze with all that became of it."""

    freeze: str
    models: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime
    by: str
    reason: str
    lifted_at: datetime | None
    lifted_by: str | None
    lifted_why: str | None


class Governance:
    """Its part of the deployer's database; every method joins the open transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def hold(self) -> None:
        """Take steps together with all others who do."""
        await self.database.execute("select pg_advisory_xact_lock_shared($1)", _CALENDAR)

    async def hold_alone(self) -> None:
        """Change what steps depend on, while none is being taken."""
        await self.database.execute("select pg_advisory_xact_lock($1)", _CALENDAR)

    async def surroundings(
        self, model: ModelName, datasets: Iterable[str], now: datetime
    ) -> Surroundings:
        """What a step about this model needs.

        Args:
            datasets: those that its rollouts may wait for.
        """
        row = await self.database.fetchrow(_SURROUNDINGS, model, now, list(datasets))
        if row is None:
            return Surroundings()
        return Surroundings(
            freezes=_FREEZES.validate_python(row["freezes"]),
            published=_PUBLISHED.validate_python(row["published"]),
            definer=row["definer"] or "",
        )

    async def say(self, event: Event) -> Heard[Event]:
        """Say an event with the effect of this transaction."""
        async with self.database.transaction() as transaction:
            return (await transaction.say([event]))[0]

    # --- freezes ------------------------------------------------------------------------------

    async def declare(self, said: FreezeDeclared, now: datetime) -> None:
        """Keep a freeze."""
        await self.database.execute(
            "insert into frozen (id, models, starts_at, ends_at, by, reason, declared_at) "
            "values ($1, $2, $3, $4, $5, $6, $7)",
            said.freeze,
            list(said.models),
            said.starts_at,
            said.ends_at,
            said.by,
            said.reason,
            now,
        )

    async def lift(self, said: FreezeLifted, now: datetime) -> None:
        """End a freeze, and have everything looked at that may have waited for that."""
        models = await self.database.fetchval(
            "update frozen set lifted_at = $2, lifted_by = $3, lifted_why = $4 "
            "where id = $1 returning models",
            said.freeze,
            now,
            said.by,
            said.reason,
        )
        await self.database.execute(
            "update endpoint set due_at = $1 where (due_at is null or due_at > $1) "
            "and (cardinality($2::text[]) = 0 or model = any ($2)) and model in "
            "(select model from rollout where stage = any ($3))",
            now,
            models,
            [str(stage) for stage in _MAY_WAIT],
        )

    async def freeze(self, freeze: str) -> KeptFreeze | None:
        """One freeze, locked until the transaction ends."""
        row = await self.database.fetchrow("select * from frozen where id = $1 for update", freeze)
        return None if row is None else _freeze_of(row)

    async def freezes(
        self, now: datetime, *, over: bool, after: str, limit: int
    ) -> list[KeptFreeze]:
        """Freezes in the order in which they were declared; those that are over when asked for."""
        rows = await self.database.fetch(
            "select * from frozen where id > $1 "
            "and ($2 or (lifted_at is null and ends_at > $3)) order by id limit $4",
            after,
            over,
            now,
            limit,
        )
        return [_freeze_of(row) for row in rows]

    # --- datasets, definitions, verdicts --------------------------------------------------------

    async def publish(self, heard: Heard[DatasetPublished], now: datetime) -> None:
        """Note a publication, and have everything looked at that may have waited for it."""
        said = heard.event
        await self.database.execute(
            "insert into published (dataset, version, at) values ($1, $2, $3) "
            "on conflict (dataset) do update set version = excluded.version, at = excluded.at "
            "where published.version < excluded.version",
            said.dataset,
            said.version,
            heard.time,
        )
        await self.database.execute(
            "update endpoint set due_at = $1 where (due_at is null or due_at > $1) and model in "
            "(select model from rollout where stage = any ($3) "
            "and body #>> '{policy,rules,not_before}' = $2)",
            now,
            f"dataset {said.dataset}",
            [str(stage) for stage in _MAY_WAIT],
        )

    async def note_definition(self, said: ModelDefined) -> None:
        """Remember who defined a model, and whose it is."""
        await self.database.execute(
            "insert into author (model, defined_by, owner) values ($1, $2, $3) "
            "on conflict (model) do update "
            "set defined_by = excluded.defined_by, owner = excluded.owner",
            said.model,
            said.defined_by,
            str(said.spec.get("owner", "")),
        )

    async def owners_of(self, models: Sequence[str]) -> Mapping[str, str]:
        """The teams that models belong to; a model that nobody defined is left out."""
        rows = await self.database.fetch(
            "select model, owner from author where model = any ($1)", list(models)
        )
        return {row["model"]: row["owner"] for row in rows}

    async def note_verdict(self, heard: Heard[EvaluationCompleted], rollout: RolloutId) -> None:
        """Keep a verdict for people who will decide by it."""
        said = heard.event
        await self.database.execute(
            "insert into verdict (evaluation, model, version, rollout, accepted, at, body) "
            "values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
            heard.id,
            said.model,
            said.version,
            rollout,
            said.accepted,
            heard.time,
            _VERDICT.dump_python(said, mode="json"),
        )

    async def verdict(self, evaluation: UUID) -> EvaluationCompleted | None:
        """The verdict of this id."""
        body = await self.database.fetchval(
            "select body from verdict where evaluation = $1", evaluation
        )
        return None if body is None else _VERDICT.validate_python(body)

    async def verdict_of_version(self, model: str, version: int) -> EvaluationCompleted | None:
        """The newest verdict by which this version was accepted."""
        body = await self.database.fetchval(
            "select body from verdict where model = $1 and version = $2 and accepted "
            "order by at desc limit 1",
            model,
            version,
        )
        return None if body is None else _VERDICT.validate_python(body)

    async def rejected(self, rollout: UUID) -> EvaluationCompleted | None:
        """The newest verdict against the version of a rollout that never came to be."""
        body = await self.database.fetchval(
            "select body from verdict where rollout = $1 and not accepted order by at desc limit 1",
            rollout,
        )
        return None if body is None else _VERDICT.validate_python(body)

    # --- approvals ------------------------------------------------------------------------------

    async def keep_grant(self, rollout: Rollout, grant: Grant, excluded: Sequence[str]) -> None:
        """Keep an approval; the table refuses a second one and the author's own."""
        await self.database.execute(
            "insert into approval (rollout, evaluation, manifest, by, excluded, at, request) "
            "values ($1, $2, $3, $4, $5, $6, $7)",
            rollout.id,
            rollout.evaluation,
            rollout.manifest,
            grant.by,
            list(excluded),
            grant.at,
            grant.request,
        )

    async def drop_grant(self, rollout: Rollout, by: str) -> None:
        """An approval was taken back."""
        await self.database.execute(
            "delete from approval where rollout = $1 and evaluation = $2 and by = $3",
            rollout.id,
            rollout.evaluation,
            by,
        )

    async def waiting(
        self, *, visible: Sequence[str] | None, after: str, limit: int
    ) -> list[Endpoint]:
        """Endpoints whose rollout waits for people, by model.

        Args:
            visible: the owners whose models are shown; None for all.
        """
        rows = await self.database.fetch(
            "select e.body from rollout r join endpoint e using (model) "
            "where r.stage = $1 and r.model > $2 "
            "and ($3::text[] is null or e.body ->> 'owner' = any ($3)) order by r.model limit $4",
            str(Stage.AWAITING_APPROVAL),
            after,
            visible,
            limit,
        )
        return [_ENDPOINT.validate_python(row["body"]) for row in rows]


_MAY_WAIT: Final = (Stage.AWAITING_WINDOW, Stage.SHADOW, Stage.CANARY, Stage.EXPERIMENT)


def _freeze_of(row: Row) -> KeptFreeze:
    return KeptFreeze(
        freeze=row["id"],
        models=tuple(row["models"]),
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        by=row["by"],
        reason=row["reason"],
        lifted_at=row["lifted_at"],
        lifted_by=row["lifted_by"],
        lifted_why=row["lifted_why"],
    )
