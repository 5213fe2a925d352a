"""What a verdict depends on and takes: standing, uses of held-out rows, fleets' streams."""

from datetime import datetime
from typing import Final
from uuid import UUID

from services.evaluator.domain import Champion, Question, Standing
from services.evaluator.fleet import FleetState
from services.evaluator.store.candidates import Candidates
from services.evaluator.store.rows import GATES, Earlier, State, proven
from shared.events import Digest, EvaluationCompleted, ModelName
from shared.postgres import Row

_PROVEN: Final = (
    "(select v.gates from verdict v where v.model = $1 and v.version = {version} and v.accepted "
    "order by v.judged_at desc limit 1)"
)
_STANDING: Final = f"""
    select c.version, c.manifest, c.reign, k.registered ->> 'code_digest' as code_digest,
        {_PROVEN.format(version="c.version")} as gates,
        a.version as anchor, a.manifest as anchor_manifest,
        {_PROVEN.format(version="a.version")} as anchor_gates
    from champion c
    left join candidate k on k.model = c.model and k.version = c.version
    left join lateral (
        select version, manifest from anchor
        where model = c.model and retired_at is null order by place desc limit 1
    ) a on true
    where c.model = $1
"""  # noqa: S608 - put together from constants


class Judging(Candidates):
    """The part of the store that verdicts need."""

    async def standing(self, model: ModelName) -> Standing:
        """Who the next candidate of a model is compared with."""
        row = await self.database.fetchrow(_STANDING, model)
        return _standing(row) if row else Standing()

    async def stands(self, question: Question) -> bool:
        """Whether nobody was crowned and no anchor moved; holds until the transaction ends."""
        await self.database.fetchval(
            "select true from champion where model = $1 for share", question.candidate.model
        )
        now, then = await self.standing(question.candidate.model), question.standing
        return now.reign == then.reign and _version(now.anchor) == _version(then.anchor)

    async def uses(self, model: str, split: str) -> int:
        """How many verdicts a model has had from these held-out rows."""
        found = await self.database.fetchval(
            "select uses from holdout_use where model = $1 and split = $2", model, split
        )
        return int(found or 0)

    async def take_uses(self, model: str, split: str, before: int, after: int) -> bool:
        """Count them, if they are still what they were before."""
        taken = await self.database.execute(
            "insert into holdout_use as h (model, split, uses) values ($1, $2, $4) "
            "on conflict (model, split) do update set uses = $4 where h.uses = $3",
            model,
            split,
            before,
            after,
        )
        return taken > 0

    async def fleet_size(self, fleet: str) -> int:
        """How many models share this budget."""
        found = await self.database.fetchval(
            "select count(*) from known_model where fleet = $1", fleet
        )
        return int(found)

    async def stream(self, name: str) -> FleetState:
        """What was claimed in a fleet's stream so far."""
        row = await self.database.fetchrow(
            "select claims, accepted from fleet_stream where stream = $1", name
        )
        return _stream(row)

    async def locked_stream(self, name: str) -> FleetState:
        """The same; nobody else claims until the transaction ends."""
        await self.database.execute(
            "insert into fleet_stream (stream) values ($1) on conflict do nothing", name
        )
        row = await self.database.fetchrow(
            "select claims, accepted from fleet_stream where stream = $1 for update", name
        )
        return _stream(row)

    async def add_claim(self, stream: str, *, accepted: bool) -> None:
        """One claim more in a stream that is locked."""
        await self.database.execute(
            "update fleet_stream set claims = claims + 1, accepted = accepted + $2 "
            "where stream = $1",
            stream,
            int(accepted),
        )

    async def earlier(self, question: Question) -> Earlier | None:
        """The verdict of the same comparison, if it was made already."""
        row = await self.database.fetchrow(
            "select event_id, reign from verdict where model = $1 and version = $2 "
            "and champion = $3 and anchor = $4 and policy = $5",
            *_key(question),
        )
        return Earlier(event_id=row["event_id"], reign=row["reign"]) if row else None

    async def add_verdict(
        self,
        question: Question,
        event: EvaluationCompleted,
        event_id: UUID,
        job: UUID,
        judged_at: datetime,
    ) -> None:
        """Keep a verdict, and with it the candidate's state."""
        await self.database.execute(
            "insert into verdict (model, version, champion, anchor, policy, reign, job, event_id, "
            "split, accepted, gates, card, card_html, judged_at) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
            "on conflict (model, version, champion, anchor, policy) do update "
            "set reign = excluded.reign, event_id = excluded.event_id, job = excluded.job, "
            "judged_at = excluded.judged_at",
            *_key(question),
            question.standing.reign,
            job,
            event_id,
            None if event.evidence is None else event.split,
            event.accepted,
            GATES.dump_python(event.gates, mode="json"),
            event.card,
            event.card_html,
            judged_at,
        )  # fmt: skip
        if event.accepted or event.best is None:
            state: State = "accepted" if event.accepted else "rejected"
            await self.set_judged(event.model, event.version, state, anew=event.best is not None)


def _key(question: Question) -> tuple[str, int, int, int, str]:
    registered = question.candidate
    return (
        registered.model,
        registered.version,
        _version(question.champion) or 0,
        _version(question.anchor) or 0,
        question.policy,
    )


def _version(champion: Champion | None) -> int | None:
    return champion.version if champion else None


def _standing(row: Row) -> Standing:
    if row["version"] is None:
        return Standing(reign=row["reign"])
    champion = Champion(
        version=row["version"],
        manifest=Digest(row["manifest"]),
        code_digest=row["code_digest"],
        proven=proven(row["gates"]),
    )
    if row["anchor"] in (None, row["version"]):
        return Standing(champion=champion, reign=row["reign"])
    anchor = Champion(
        version=row["anchor"],
        manifest=Digest(row["anchor_manifest"]),
        proven=proven(row["anchor_gates"]),
    )
    return Standing(champion=champion, anchor=anchor, reign=row["reign"])


def _stream(row: Row | None) -> FleetState:
    claims, accepted = (row["claims"], row["accepted"]) if row else (0, 0)
    return FleetState(claims=claims, accepted=accepted)
