"""The facts behind the answers of one version, each found by its index."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.registry.provenance import Origin, every, first
from services.registry.store.history import History, heard_of
from services.registry.store.log import fact_of
from shared.events import (
    DatasetAnnotated,
    DatasetPublished,
    DeploymentDesired,
    EvaluationCompleted,
    Event,
    Heard,
    ModelRegistered,
    RolloutProposed,
    TrainingCompleted,
)
from shared.postgres import Database

MOST_LATER: Final = 5
_OF_VERSION: Final = """
    select * from event_log where subject = $1 and type = $2
        and (data ->> 'version')::int = $3 and time <= $4
    order by time desc, sequence desc limit 1
"""
_REGISTRATION: Final = """
    select e.* from event_log e join model_version v on v.event_id = coalesce(e.key, e.event_id)
    where v.model = $1 and v.version = $2
"""
_TRAINING: Final = """
    select * from event_log where subject = $1 and type = $2 and data ->> 'run' = $3
    order by time desc limit 1
"""
_PUBLICATION: Final = """
    select e.* from event_log e join dataset_version v on v.event_id = coalesce(e.key, e.event_id)
    where v.dataset = $1 and v.version = $2
"""
_ANNOTATIONS: Final = """
    select distinct on (data ->> 'annotation') * from event_log
    where subject = $1 and type = $2 and time <= $3 and data ->> 'annotation' = any($4)
    order by data ->> 'annotation', time desc
"""
_GENERATION: Final = """
    select * from event_log where subject = $1 and type = $2 and (data ->> 'generation')::int = $3
    order by time desc limit 1
"""
_DESIRED: Final = """
    select * from event_log where subject = $1 and type = $2 and time <= $3
    order by time desc, sequence desc limit 1
"""


@dataclass(frozen=True, slots=True)
class Origins:
    """Reads the log backwards, from an answer to what it rests on."""

    database: Database
    history: History

    async def of(
        self, model: str, version: int | None, at: datetime, generation: int | None = None
    ) -> Origin:
        """Everything behind what this version, or the rule, answered at a moment."""
        desired = await self._desired(model, at, generation)
        later = await self.history.crownings_after(model, at, MOST_LATER)
        registered = None if version is None else await self._registration(model, version)
        if version is None or registered is None:
            return Origin(desired=desired, later=later)
        data = registered.event
        trained = await self.history.one(
            TrainingCompleted, _TRAINING, model, TrainingCompleted.TYPE, str(data.run)
        )
        rollout = await self._rollout(model, version, at)
        return Origin(
            registered=registered,
            trained=trained,
            published=await self.history.one(
                DatasetPublished, _PUBLICATION, data.dataset, data.dataset_version
            ),
            annotations=await self._annotations(trained),
            verdict=await self._verdict(model, version, at, rollout),
            rollout=rollout,
            desired=desired,
            later=later,
        )

    async def _registration(self, model: str, version: int) -> Heard[ModelRegistered] | None:
        return await self.history.one(ModelRegistered, _REGISTRATION, model, version)

    async def _desired(
        self, model: str, at: datetime, generation: int | None
    ) -> Heard[DeploymentDesired] | None:
        sql, place = (_DESIRED, at) if generation is None else (_GENERATION, generation)
        arguments: tuple[Any, ...] = (model, DeploymentDesired.TYPE, place)
        return await self.history.one(DeploymentDesired, sql, *arguments)

    async def _rollout(self, model: str, version: int, at: datetime) -> Sequence[Heard[Event]]:
        proposed = await self.history.one(
            RolloutProposed, _OF_VERSION, model, RolloutProposed.TYPE, version, at
        )
        if proposed is None:
            return ()
        return await self.history.rollout(model, UUID(str(proposed.event.rollout)))

    async def _verdict(
        self, model: str, version: int, at: datetime, rollout: Sequence[Heard[Event]]
    ) -> Heard[EvaluationCompleted] | None:
        proposed = first(rollout, RolloutProposed)
        if proposed is not None:
            return await self.history.by_id(EvaluationCompleted, proposed.event.evaluation)
        arguments = (model, EvaluationCompleted.TYPE, version, at)
        return await self.history.one(EvaluationCompleted, _OF_VERSION, *arguments)

    async def _annotations(
        self, trained: Heard[TrainingCompleted] | None
    ) -> Sequence[Heard[DatasetAnnotated]]:
        """As they stood when the run ended: a later word about a period changed nothing in it."""
        if trained is None or not trained.event.periods:
            return ()
        ids = [str(one) for one in trained.event.periods]
        arguments = (trained.event.dataset, DatasetAnnotated.TYPE, trained.time, ids)
        rows = await self.database.fetch(_ANNOTATIONS, *arguments)
        return every([heard_of(fact_of(row)) for row in rows], DatasetAnnotated)
