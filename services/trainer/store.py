"""What the trainer remembers. Every method joins the open transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast
from uuid import UUID

from services.trainer.domain import (
    DatasetVersion,
    Definition,
    Exclusion,
    Known,
    Order,
    Reference,
    Situation,
)
from shared.events import (
    DatasetAnnotated,
    DatasetName,
    DatasetPublished,
    Digest,
    Event,
    Heard,
    Json,
    ModelDefined,
    ModelName,
)
from shared.postgres import Cause, Database, Row

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SAME_KEY: Final = "(natural_key = $1 or starts_with(natural_key, $1 || '#'))"
"""Repeats by hand carry their number behind the key."""
_KNOWN: Final = (
    f"select id, state, natural_key from job where {_SAME_KEY} "  # noqa: S608 - put together from constants
    "order by created_at desc, natural_key desc limit 1"
)
_SITUATION: Final = f"""
    select latest.started_at, known.id as run, known.state, known.natural_key, found.what,
        found.rows, found.columns
    from (
        select max(started_at) as started_at from run
        where model = $2 and outcome is distinct from 'failed'
    ) latest
    left join lateral ({_KNOWN}) known on true
    left join lateral (
        select r.what, v.rows, v.columns from (
            select 1 as rank, 'champion version ' || version as what, dataset_version
            from champion where model = $2 and is_current
            union all
            (select 2, 'the last completed run', dataset_version
            from run where model = $2 and dataset = $3 and outcome = 'completed'
            order by finished_at desc limit 1)
        ) r
        join dataset_version v on v.dataset = $3 and v.version = r.dataset_version
        order by r.rank limit 1
    ) found on true
"""  # noqa: S608 - put together from constants
_HASTEN: Final = """
    update job set run_after = least(run_after, $2), payload = case
        when coalesce(payload ->> 'requested_by', '') = ''
        then jsonb_set(payload, '{requested_by}', to_jsonb($3::text)) else payload end
    where id = $1 and state = 'waiting'
"""
_RUNS: Final = """
    select j.id, j.subject, j.state, j.attempt, j.created_at, j.run_after, j.finished_at, j.detail,
        j.correlation, j.payload ->> 'dataset' as dataset,
        (j.payload ->> 'dataset_version')::bigint as dataset_version,
        j.payload ->> 'trigger' as trigger,
        nullif(j.payload ->> 'requested_by', '') as requested_by,
        r.started_at, r.result,
        coalesce(r.outcome, case when j.state = 'failed' then 'failed' end) as outcome,
        coalesce(r.reason, case when j.state = 'failed' then 'crashed' end) as reason
    from job j left join run r on r.id = j.id
    where j.kind = 'training'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule that is due."""

    model: ModelName
    schedule: str
    timezone: str
    due_at: datetime


class PostgresStore:
    """The store in the trainer's own database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def say(self, said: Sequence[tuple[Cause, Event]], *, step: str) -> list[Heard[Event]]:
        """Say events of other cascades than the one at hand."""
        async with self.database.transaction() as transaction:
            return await transaction.say_each(said, step=step)

    # --- datasets and definitions ---------------------------------------------------------------

    async def save_version(self, said: DatasetPublished) -> None:
        await self.database.execute(
            "insert into dataset_version (dataset, version, digest, format, size_bytes, rows, "
            "columns) values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
            said.dataset,
            said.version,
            said.digest,
            said.format,
            said.size_bytes,
            said.rows,
            [[name, kind] for name, kind in said.columns.items()],
        )

    async def newest_version(self, dataset: DatasetName) -> DatasetVersion | None:
        row = await self.database.fetchrow(
            "select * from dataset_version where dataset = $1 order by version desc limit 1",
            dataset,
        )
        return _version(row) if row else None

    async def lock_users(self, dataset: DatasetName) -> list[Definition]:
        """The models that use a dataset, locked in one order everywhere."""
        rows = await self.database.fetch(
            "select * from model where dataset = $1 order by model for update", dataset
        )
        return [_definition(row) for row in rows]

    async def lock(self, model: ModelName) -> Definition | None:
        """One model, locked."""
        row = await self.database.fetchrow("select * from model where model = $1 for update", model)
        return _definition(row) if row else None

    async def save_definition(self, said: ModelDefined) -> Definition | None:
        """Keep a definition and lock it; the one before, if there was one."""
        before = await self.lock(said.model)
        await self.database.execute(
            "insert into model (model, dataset, spec, spec_digest, code_digest) "
            "values ($1, $2, $3, $4, $5) on conflict (model) do update set dataset = $2, "
            "spec = $3, spec_digest = $4, code_digest = $5",
            said.model,
            said.dataset,
            said.spec,
            said.spec_digest,
            said.code_digest,
        )
        return before

    # --- annotations ----------------------------------------------------------------------------

    async def save_annotation(self, said: DatasetAnnotated) -> None:
        await self.database.execute(
            'insert into annotation (annotation, dataset, state, tag, "column", starts_at, '
            "ends_at, models) values ($1, $2, $3, $4, $5, $6, $7, $8) "
            "on conflict (annotation) do update set state = excluded.state",
            said.annotation,
            said.dataset,
            said.state,
            said.tag,
            said.column,
            said.starts_at,
            said.ends_at,
            list(said.models),
        )

    async def annotations(self, dataset: DatasetName, model: ModelName) -> list[Exclusion]:
        """What is active and concerns a model, in the order in which it was written."""
        rows = await self.database.fetch(
            "select * from annotation where dataset = $1 and state = 'active' "
            "and (models = '{}' or $2 = any(models)) order by annotation",
            dataset,
            model,
        )
        return [
            Exclusion(
                annotation=str(row["annotation"]),
                tag=row["tag"],
                column=row["column"],
                starts=_microseconds(row["starts_at"]),
                ends=_microseconds(row["ends_at"]),
            )
            for row in rows
        ]

    # --- champions ------------------------------------------------------------------------------

    async def note_champion(self, model: ModelName, version: int, dataset_version: int) -> None:
        await self._dethrone(model)
        await self.database.execute(
            "insert into champion (model, version, dataset_version, is_current) "
            "values ($1, $2, $3, true) "
            "on conflict (model, version) do update set is_current = true",
            model,
            version,
            dataset_version,
        )

    async def note_rollback(self, model: ModelName, version: int | None) -> None:
        await self._dethrone(model)
        await self.database.execute(
            "update champion set is_current = true where model = $1 and version = $2",
            model,
            version,
        )

    async def _dethrone(self, model: ModelName) -> None:
        await self.database.execute(
            "update champion set is_current = false where model = $1 and is_current", model
        )

    # --- decisions ------------------------------------------------------------------------------

    async def known(self, natural_key: str) -> Known | None:
        """The run of a key; repeats by hand count as the same training."""
        row = await self.database.fetchrow(_KNOWN, natural_key)
        return Known(run=row["id"], state=row["state"], key=row["natural_key"]) if row else None

    async def situation(self, definition: Definition, natural_key: str) -> Situation:
        """What the decision about a model rests on; repeats by hand count as the same training."""
        row = await self.database.fetchrow(
            _SITUATION, natural_key, definition.model, definition.dataset
        )
        assert row is not None  # noqa: S101 - an aggregate always has its one row
        return Situation(
            reference=_reference(row) if row["what"] else None,
            known=(
                Known(run=row["run"], state=row["state"], key=row["natural_key"])
                if row["run"]
                else None
            ),
            last_started_at=row["started_at"],
        )

    async def tries_of(self, natural_key: str) -> int:
        """How many jobs there were of this key, repeats by hand included."""
        count = await self.database.fetchval(
            f"select count(*) from job where {_SAME_KEY}",  # noqa: S608 - a constant
            natural_key,
        )
        return int(count)

    async def hasten(self, run: UUID, now: datetime, by: str) -> None:
        """Let a waiting job wait no longer; whoever asked first counts as who asked for it."""
        await self.database.execute(_HASTEN, run, now, by)

    # --- schedules ------------------------------------------------------------------------------

    async def keep_schedule(self, schedule: Schedule) -> None:
        """Set when a model is due next; the moment stays while the schedule is the same."""
        await self.database.execute(
            "insert into due as d (model, schedule, timezone, due_at) values ($1, $2, $3, $4) "
            "on conflict (model) do update set schedule = $2, timezone = $3, due_at = $4 "
            "where (d.schedule, d.timezone) <> ($2, $3)",
            schedule.model,
            schedule.schedule,
            schedule.timezone,
            schedule.due_at,
        )

    async def drop_schedule(self, model: ModelName) -> None:
        await self.database.execute("delete from due where model = $1", model)

    async def claim_due(self, now: datetime) -> Schedule | None:
        """One schedule whose moment has come; nobody else gets it in the meantime."""
        row = await self.database.fetchrow(
            "select d.* from due d join model m using (model) where d.due_at <= $1 "
            "order by d.due_at limit 1 for update skip locked",
            now,
        )
        return Schedule(**dict(row)) if row else None

    async def set_due(self, model: ModelName, due_at: datetime) -> None:
        await self.database.execute("update due set due_at = $2 where model = $1", model, due_at)

    async def next_due_at(self) -> datetime | None:
        return cast("datetime | None", await self.database.fetchval("select min(due_at) from due"))

    # --- runs -----------------------------------------------------------------------------------

    async def begin_run(self, run: UUID, order: Order, now: datetime) -> None:
        await self.database.execute(
            "insert into run (id, model, dataset, dataset_version, started_at) "
            "values ($1, $2, $3, $4, $5) on conflict (id) do update "
            "set started_at = $5, outcome = null, reason = null, finished_at = null",
            run,
            order.model,
            order.dataset,
            order.dataset_version,
            now,
        )

    async def break_off(self, run: UUID, now: datetime) -> bool:
        """End a run whose attempts were all in vain; False if it has not begun, or is over."""
        return bool(
            await self.database.execute(
                "update run set outcome = 'failed', reason = 'crashed', finished_at = $2 "
                "where id = $1 and outcome is null",
                run,
                now,
            )
        )

    async def count_crash(self, run: UUID) -> int:
        """How often the child of this run has crashed, with this time."""
        sql = "update run set crashes = crashes + 1 where id = $1 returning crashes"
        return int(await self.database.fetchval(sql, run) or 1)

    async def count_out_of_memory(self, run: UUID) -> int:
        """How often this run had too little memory, with this time."""
        sql = (
            "update run set out_of_memory = out_of_memory + 1 where id = $1 returning out_of_memory"
        )
        return int(await self.database.fetchval(sql, run) or 1)

    async def end_run(
        self,
        run: UUID,
        outcome: Literal["completed", "failed"],
        reason: str,
        result: Json | None,
        now: datetime,
    ) -> None:
        await self.database.execute(
            "update run set outcome = $2, reason = $3, result = $4, finished_at = $5 where id = $1",
            run,
            outcome,
            reason,
            result,
            now,
        )

    async def runs(
        self,
        *,
        model: str,
        before: tuple[datetime, UUID] | None,
        limit: int,
        owners: Sequence[str] | None = None,
    ) -> list[Json]:
        """Newest first; only of these teams' models, if any are named."""
        rows = await self.database.fetch(
            _RUNS
            + " and ($1 = '' or j.subject = $1) and ($2::timestamptz is null or "
            + "(j.created_at, j.id) < ($2, $3)) and ($5::text[] is null or exists (select 1 "
            + "from model m where m.model = j.subject and m.spec ->> 'owner' = any($5))) "
            + "order by j.created_at desc, j.id desc limit $4",
            model,
            before[0] if before else None,
            before[1] if before else None,
            limit,
            owners,
        )
        return [_run(row) for row in rows]

    async def owner(self, model: str) -> str | None:
        """The team of a model; None when it was never defined."""
        found: str | None = await self.database.fetchval(
            "select spec ->> 'owner' from model where model = $1", model
        )
        return found

    async def run(self, run: UUID) -> Json | None:
        row = await self.database.fetchrow(_RUNS + " and j.id = $1", run)
        return _run(row) if row else None


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _version(row: Row) -> DatasetVersion:
    return DatasetVersion(
        dataset=row["dataset"],
        version=row["version"],
        digest=Digest(row["digest"]),
        format=row["format"],
        size_bytes=row["size_bytes"],
        rows=row["rows"],
        columns=_columns(row["columns"]),
    )


def _definition(row: Row) -> Definition:
    return Definition(**{name: row[name] for name in Definition.__slots__})


def _reference(row: Row) -> Reference:
    return Reference(what=row["what"], rows=row["rows"], columns=_columns(row["columns"]))


def _columns(pairs: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    return dict(pairs)


def _run(row: Row) -> Json:
    plain: dict[str, Any] = {
        "run": row["id"],
        "model": row["subject"],
        "dataset": row["dataset"],
        "dataset_version": row["dataset_version"],
        "trigger": row["trigger"],
        "requested_by": row["requested_by"],
        "state": row["state"],
        "attempt": row["attempt"],
        "queued_at": row["created_at"],
        "not_before": row["run_after"],
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "detail": row["detail"],
        "cascade": row["correlation"],
    }
    return plain | {"result": row["result"]}
