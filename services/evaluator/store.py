"""What the evaluator remembers: candidates, champions, verdicts, and the queue of work."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal, Protocol
from uuid import UUID

from pydantic import TypeAdapter

from services.evaluator.domain import Champion, natural_key, policy_digest, proven_gains, spec_of
from shared import codec
from shared.events import Digest, Event, Gate, Heard, Json, ModelName, ModelRegistered
from shared.jobs import Jobs
from shared.postgres import Cause, Database
from shared.topics import EVALUATION

State = Literal["waiting", "accepted", "rejected", "promoted", "ended"]

_REGISTERED: Final = TypeAdapter(ModelRegistered)
_GATES: Final = TypeAdapter(tuple[Gate, ...])


def registered_from(plain: Any) -> ModelRegistered:
    """The registration in a job or a row."""
    return _REGISTERED.validate_python(plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A numbered version and the cascade that it belongs to."""

    registered: ModelRegistered
    correlation: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was decided, for whom, against whom, by which rules."""

    model: ModelName
    version: int
    champion: int | None
    policy: str
    job: UUID
    accepted: bool
    gates: tuple[Gate, ...]
    judged_at: datetime


class Store(Protocol):
    """Every method joins the open transaction."""

    async def add_candidate(self, registered: ModelRegistered, cause: Cause) -> None: ...

    async def queue(self, registered: ModelRegistered, cause: Cause) -> None: ...

    async def set_state(self, model: ModelName, version: int, state: State) -> None: ...

    async def crown(
        self, model: ModelName, version: int | None, manifest: Digest | None
    ) -> None: ...

    async def newest_accepted(self, model: ModelName) -> Candidate | None: ...


class PostgresStore:
    """The store in the evaluator's own database."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        self.database = database
        self._jobs = jobs

    async def add_candidate(self, registered: ModelRegistered, cause: Cause) -> None:
        """Remember a numbered version; and its model, so that there is a row to lock."""
        await self.database.execute(
            "insert into champion (model) values ($1) on conflict do nothing", registered.model
        )
        await self.database.execute(
            "insert into candidate (model, version, registered, cause, correlation) "
            "values ($1, $2, $3, $4, $5) on conflict do nothing",
            registered.model,
            registered.version,
            _REGISTERED.dump_python(registered, mode="json"),
            cause.id,
            cause.correlation,
        )

    async def queue(self, registered: ModelRegistered, cause: Cause) -> None:
        """Have a candidate judged against whoever is champion then."""
        champion = await self.database.fetchval(
            "select version from champion where model = $1", registered.model
        )
        policy = policy_digest(spec_of(registered.spec))
        await self._jobs.add(
            natural_key(registered, champion, policy),
            registered.model,
            _REGISTERED.dump_python(registered, mode="json"),
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

    async def crown(self, model: ModelName, version: int | None, manifest: Digest | None) -> None:
        """Note who answers from now on."""
        await self.database.execute(
            "insert into champion (model, version, manifest) values ($1, $2, $3) "
            "on conflict (model) do update "
            "set version = excluded.version, manifest = excluded.manifest",
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

    # --- while judging ------------------------------------------------------------------------

    async def champion(self, model: ModelName) -> Champion | None:
        """Who the next candidate of a model is compared with."""
        row = await self.database.fetchrow(
            "select c.version, c.manifest, k.registered ->> 'code_digest' as code_digest, "
            "(select v.gates from verdict v where v.model = c.model and v.version = c.version "
            "and v.accepted order by v.judged_at desc limit 1) as gates "
            "from champion c left join candidate k on k.model = c.model and k.version = c.version "
            "where c.model = $1 and c.version is not null",
            model,
        )
        if row is None:
            return None
        return Champion(
            version=row["version"],
            manifest=Digest(row["manifest"]),
            code_digest=row["code_digest"],
            proven=proven_gains(row["gates"] or []),
        )

    async def champion_is_still(self, model: ModelName, version: int | None) -> bool:
        """Whether nobody else became champion; holds until the transaction ends."""
        row = await self.database.fetchrow(
            "select version from champion where model = $1 for share", model
        )
        return (row["version"] if row else None) == version

    async def has_verdict(
        self, registered: ModelRegistered, champion: int | None, policy: str
    ) -> bool:
        """Whether this comparison was made already."""
        found = await self.database.fetchval(
            "select true from verdict "
            "where model = $1 and version = $2 and champion = $3 and policy = $4",
            registered.model,
            registered.version,
            champion or 0,
            policy,
        )
        return bool(found)

    async def add_verdict(self, verdict: Verdict) -> None:
        """Keep a verdict, and with it the candidate's state."""
        await self.database.execute(
            "insert into verdict (model, version, champion, policy, job, accepted, gates, "
            "judged_at) values ($1, $2, $3, $4, $5, $6, $7, $8)",
            verdict.model,
            verdict.version,
            verdict.champion or 0,
            verdict.policy,
            verdict.job,
            verdict.accepted,
            _GATES.dump_python(verdict.gates, mode="json"),
            verdict.judged_at,
        )
        await self.set_state(
            verdict.model, verdict.version, "accepted" if verdict.accepted else "rejected"
        )

    # --- for people ---------------------------------------------------------------------------

    async def verdicts(self, model: str, *, below: int, limit: int) -> list[Json]:
        """What was said of a model's candidates, newest first."""
        rows = await self.database.fetch(
            "select payload from said where topic = $1 and subject = $2 and sequence < $3 "
            "order by sequence desc limit $4",
            EVALUATION.name,
            model,
            below,
            limit,
        )
        return [_shown(codec.decode(row["payload"])) for row in rows]

    async def verdict(self, event_id: UUID) -> Json | None:
        """One verdict as it was said."""
        payload = await self.database.fetchval(
            "select payload from said where topic = $1 and event_id = $2",
            EVALUATION.name,
            event_id,
        )
        return None if payload is None else _shown(codec.decode(payload))


def _shown(heard: Heard[Event]) -> Json:
    return {
        "event_id": heard.id,
        "sequence": heard.sequence,
        "judged_at": heard.time,
        "cascade": heard.correlation,
        **{field.name: getattr(heard.event, field.name) for field in fields(heard.event)},
    }
