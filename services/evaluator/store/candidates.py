"""Candidates, champions and anchors: what reactions change."""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.evaluator.domain import Champion, fleet_of, natural_key, policy_of, spec_of
from services.evaluator.store.rows import Candidate, State, registered_from, registered_to_plain
from shared.events import BestAsked, Digest, Json, ModelName, ModelRegistered
from shared.jobs import Jobs
from shared.postgres import Cause, Database


class Candidates:
    """The part of the store that reactions change; every method joins the open transaction."""

    def __init__(self, database: Database, jobs: Jobs, best_jobs: Jobs) -> None:
        self.database = database
        self._jobs = jobs
        self._best_jobs = best_jobs

    async def add_candidate(self, registered: ModelRegistered, cause: Cause) -> None:
        """Remember a numbered version; and its model, so that there is a row to lock."""
        await self.database.execute(
            "insert into champion (model) values ($1) on conflict do nothing", registered.model
        )
        await self._know(registered.model, registered.version, registered.spec)
        await self.database.execute(
            "insert into candidate (model, version, registered, cause, correlation) "
            "values ($1, $2, $3, $4, $5) on conflict do nothing",
            registered.model,
            registered.version,
            registered_to_plain(registered),
            cause.id,
            cause.correlation,
        )

    async def _know(self, model: str, version: int, plain_spec: Json) -> None:
        spec = spec_of(plain_spec)
        if spec is not None:
            await self.database.execute(
                "insert into known_model as k (model, owner, fleet, version) "
                "values ($1, $2, $3, $4) on conflict (model) do update set owner = excluded.owner, "
                "fleet = excluded.fleet, version = excluded.version "
                "where excluded.version >= k.version",
                model,
                spec.owner,
                fleet_of(spec),
                version,
            )

    async def know_all(self) -> None:
        """Learn whose the models are that were registered before anybody kept that."""
        rows = await self.database.fetch(
            "select distinct on (model) model, version, registered -> 'spec' as spec "
            "from candidate where model not in (select model from known_model) "
            "order by model, version desc"
        )
        for row in rows:
            await self._know(row["model"], row["version"], row["spec"])

    async def queue(self, registered: ModelRegistered, cause: Cause) -> None:
        """Have a candidate judged against whoever is champion then."""
        row = await self.database.fetchrow(
            "select version, reign from champion where model = $1", registered.model
        )
        champion, reign = (row["version"], row["reign"]) if row else (None, 0)
        await self._jobs.add(
            natural_key(registered, champion, reign, policy_of(registered.spec)),
            registered.model,
            registered_to_plain(registered),
            cause,
        )

    async def set_state(self, model: ModelName, version: int, state: State) -> None:
        """Note what became of a candidate."""
        await self.database.execute(
            "update candidate set state = $3 where model = $1 and version = $2",
            model,
            version,
            state,
        )

    async def set_judged(self, model: ModelName, version: int, state: State, *, anew: bool) -> None:
        """Note a verdict; one that comes after the rollout's end changes that no more.

        Args:
            anew: the version was asked for, so it begins a rollout whatever became of its own.
        """
        await self.database.execute(
            "update candidate set state = $3 where model = $1 and version = $2 "
            "and ($4 or state not in ('promoted', 'ended'))",
            model,
            version,
            state,
            anew,
        )

    async def crown(self, model: ModelName, version: int | None, manifest: Digest | None) -> None:
        """Note who answers from now on; each crowning begins a reign."""
        await self.database.execute(
            "insert into champion as c (model, version, manifest, reign) values ($1, $2, $3, 1) "
            "on conflict (model) do update set version = excluded.version, "
            "manifest = excluded.manifest, reign = c.reign + 1",
            model,
            version,
            manifest,
        )

    async def newest_accepted(self, model: ModelName) -> Candidate | None:
        """The newest version above the champion that was accepted and is still to be rolled out."""
        row = await self.database.fetchrow(
            "select registered, correlation from candidate "
            "where model = $1 and state = 'accepted' and version > "
            "coalesce((select version from champion where model = $1), 0) "
            "order by version desc limit 1",
            model,
        )
        if row is None:
            return None
        return Candidate(
            registered=registered_from(row["registered"]), correlation=row["correlation"]
        )

    async def newest(self, model: str, limit: int) -> list[ModelRegistered]:
        """The newest versions of a model, newest first."""
        rows = await self.database.fetch(
            "select registered from candidate where model = $1 order by version desc limit $2",
            model,
            limit,
        )
        return [registered_from(row["registered"]) for row in rows]

    async def queue_best(
        self, model: ModelName, asked: BestAsked, key: str, cause: Cause
    ) -> UUID | None:
        """Have the newest versions ranked; the job, or None for a model without a version.

        Args:
            key: tells one request from another; the same key again asks nothing new.
        """
        if not await self.newest(model, 1):
            return None
        payload = {"model": model, "by": asked.by, "metric": asked.metric, "reason": asked.reason}
        job, _ = await self._best_jobs.add(f"{model}/{key}", model, payload, cause)
        return job

    async def anchor(self, model: ModelName) -> Champion | None:
        """The best champion so far; it may be the champion itself."""
        row = await self.database.fetchrow(
            "select version, manifest from anchor where model = $1 and retired_at is null "
            "order by place desc limit 1",
            model,
        )
        return Champion(version=row["version"], manifest=row["manifest"]) if row else None

    async def set_anchor(
        self, model: ModelName, version: int, manifest: Digest, moment: datetime
    ) -> None:
        """This champion is the best so far from now on."""
        await self.database.execute(
            "insert into anchor (model, place, version, manifest, since) values ($1, "
            "(select coalesce(max(place), 0) + 1 from anchor where model = $1), $2, $3, $4)",
            model,
            version,
            manifest,
            moment,
        )

    async def retire_anchor(
        self, model: ModelName, version: int, by: str, reason: str, moment: datetime
    ) -> None:
        """This version is an anchor no more; the one before it is again."""
        await self.database.execute(
            "update anchor set retired_at = $5, retired_by = $3, reason = $4 "
            "where model = $1 and version = $2 and retired_at is null",
            model,
            version,
            by,
            reason,
            moment,
        )

    async def retire_anchors(
        self, model: ModelName, by: str, reason: str, moment: datetime
    ) -> None:
        """All that there were count no more."""
        await self.database.execute(
            "update anchor set retired_at = $4, retired_by = $2, reason = $3 "
            "where model = $1 and retired_at is null",
            model,
            by,
            reason,
            moment,
        )

    async def anchors(self, model: str) -> list[dict[str, Any]]:
        """All that ever were, newest first."""
        rows = await self.database.fetch(
            "select version, manifest, since, retired_at, retired_by, reason from anchor "
            "where model = $1 order by place desc",
            model,
        )
        return [dict(row) for row in rows]

    async def locked_champion(self, model: ModelName) -> Champion | None:
        """Who answers now; nobody is crowned and no anchor moves until the transaction ends."""
        row = await self.database.fetchrow(
            "select version, manifest from champion where model = $1 for update", model
        )
        if row is None or row["version"] is None:
            return None
        return Champion(version=row["version"], manifest=row["manifest"])
