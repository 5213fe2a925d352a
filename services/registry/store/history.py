"""The facts that tell what was in production at a moment, each found by its index."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from services.registry.production import Crowning, Known
from services.registry.store.log import Fact, fact_of
from shared import codec
from shared.events import (
    DeploymentDesired,
    DeploymentRolledBack,
    EvaluationCompleted,
    Event,
    Heard,
    ModelPromoted,
    ModelRegistered,
    as_kind,
)
from shared.postgres import Database

E = TypeVar("E", bound=Event)

_LAST: Final = """
    select * from event_log where subject = $1 and type = $2 and time <= $3
    order by time desc, sequence desc limit 1
"""
_NEXT: Final = """
    select * from event_log where subject = $1 and type = $2 and time > $3
    order by time, sequence limit 1
"""
_PROMOTION_OF: Final = """
    select * from event_log where subject = $1 and type = $2 and time <= $3
        and (data ->> 'version')::int = $4
    order by time desc, sequence desc limit 1
"""
_AFTER: Final = """
    select * from event_log where subject = $1 and type = any($2) and time > $3
    order by time, sequence limit $4
"""
FOR_EVER: Final = datetime(9999, 12, 31, tzinfo=UTC)
_ROLLOUT: Final = """
    select * from event_log where data ? 'rollout' and data ->> 'rollout' = $2 and subject = $1
        and time <= $3 order by sequence nulls last, seq
"""
_FACT: Final = "select * from event_log where coalesce(key, event_id) = $1"
_REGISTRATION: Final = """
    select e.* from event_log e join model_version v on v.event_id = coalesce(e.key, e.event_id)
    where v.model = $1 and v.version = $2
"""


@dataclass(frozen=True, slots=True)
class History:
    """Reads the log as the story of one model."""

    database: Database

    async def known(self, model: str, at: datetime) -> Known:
        """Everything that tells what was in production at a moment."""
        crowned = _latest(await self._crownings(_LAST, model, at))
        ended = _latest(await self._crownings(_NEXT, model, at), first=True)
        promoted = await self._promoted(model, crowned)
        if promoted is None:
            desired = await self.one(DeploymentDesired, _LAST, model, DeploymentDesired.TYPE, at)
            return Known(crowned=crowned, ended=ended, desired=desired)
        event = promoted.event
        return Known(
            crowned=crowned,
            ended=ended,
            promoted=promoted,
            rollout=await self.rollout(model, event.rollout, promoted.time),
            verdict=await self.by_id(EvaluationCompleted, event.evaluation),
            registered=await self.one(ModelRegistered, _REGISTRATION, model, event.version),
        )

    async def _crownings(self, sql: str, model: str, at: datetime) -> list[Heard[Crowning]]:
        found: list[Heard[Crowning]] = []
        for kind in (ModelPromoted, DeploymentRolledBack):
            row = await self.database.fetchrow(sql, model, kind.TYPE, at)
            if row is not None:
                found.append(cast("Heard[Crowning]", heard_of(fact_of(row))))
        return found

    async def _promoted(
        self, model: str, crowned: Heard[Crowning] | None
    ) -> Heard[ModelPromoted] | None:
        """The promotion of the version that answers; a rollback goes back to an earlier one."""
        if crowned is None or isinstance(crowned.event, ModelPromoted):
            return cast("Heard[ModelPromoted] | None", crowned)
        if crowned.event.to_version is None:
            return None
        arguments = (model, ModelPromoted.TYPE, crowned.time, crowned.event.to_version)
        return await self.one(ModelPromoted, _PROMOTION_OF, *arguments)

    async def rollout(
        self, model: str, rollout: UUID, until: datetime = FOR_EVER
    ) -> Sequence[Heard[Event]]:
        """Every fact of a rollout up to a moment, in order."""
        rows = await self.database.fetch(_ROLLOUT, model, str(rollout), until)
        return [heard_of(fact_of(row)) for row in rows]

    async def crownings_after(self, model: str, at: datetime, most: int) -> list[Heard[Crowning]]:
        """Who became champion after a moment, the next first."""
        kinds = [ModelPromoted.TYPE, DeploymentRolledBack.TYPE]
        rows = await self.database.fetch(_AFTER, model, kinds, at, most)
        return [cast("Heard[Crowning]", heard_of(fact_of(row))) for row in rows]

    async def by_id(self, kind: type[E], event_id: UUID) -> Heard[E] | None:
        """The fact with this id, if it is of the kind."""
        return await self.one(kind, _FACT, event_id)

    async def one(self, kind: type[E], sql: str, *arguments: Any) -> Heard[E] | None:
        """What a query for one row finds, if it is of the kind."""
        row = await self.database.fetchrow(sql, *arguments)
        return as_kind(heard_of(fact_of(row)), kind) if row else None


def _latest(found: Sequence[Heard[Crowning]], *, first: bool = False) -> Heard[Crowning] | None:
    """The last of several, or the first; the deployer numbers both kinds in one order."""
    pick = min if first else max
    return pick(found, key=lambda heard: (heard.time, heard.sequence or 0), default=None)


def heard_of(fact: Fact) -> Heard[Event]:
    """A row of the log as the event that it was."""
    attributes = {
        "type": fact.type,
        "id": str(fact.event_id),
        "source": fact.source,
        "time": fact.time.isoformat(),
        "correlationid": str(fact.correlation),
    }
    if fact.causation:
        attributes["causationid"] = str(fact.causation)
    if fact.sequence is not None:
        attributes["sequence"] = str(fact.sequence)
    return codec.interpret(attributes, dict(fact.data))
