"""What becomes of trainings, and what else speaks for or against one: heard from the others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from services.drift_monitor.course import Course, Stepped
from services.drift_monitor.handlers.deciding import Deciding
from services.drift_monitor.trainings import (
    came_to_nothing,
    crowned,
    introduced,
    promoted,
    training_began,
)
from services.drift_monitor.windows import Watched
from shared.events import (
    CandidateSuperseded,
    DatasetAnnotated,
    DatasetPublished,
    DeploymentRolledBack,
    EvaluationCompleted,
    Event,
    Heard,
    ModelName,
    ModelPromoted,
    RolloutAborted,
    TrainingFailed,
    TrainingSkipped,
    TrainingStarted,
)
from shared.reactions import Reaction, on

_NOT_ITS_END = frozenset({"superseded", "trigger_off"})
"""Another run takes the place of one that is superseded."""

Change = Callable[[Course, Watched | None], Course]


@dataclass(frozen=True, slots=True, kw_only=True)
class Courses:
    """Reactions to facts of trainer, evaluator, deployer and registry."""

    deciding: Deciding

    def reactions(self) -> list[Reaction]:
        return [
            on(DatasetPublished, self.note_published),
            on(DatasetAnnotated, self.note_annotation),
            on(TrainingStarted, self.note_training),
            on(TrainingFailed, self.note_failed),
            on(TrainingSkipped, self.note_skipped),
            on(CandidateSuperseded, self.note_superseded),
            on(EvaluationCompleted, self.note_verdict),
            on(RolloutAborted, self.note_aborted),
        ]

    async def note_published(self, heard: Heard[DatasetPublished]) -> Iterable[Event]:
        """There are more rows than a model was made of."""
        await self.deciding.store.note_published(heard)
        return ()

    async def note_annotation(self, heard: Heard[DatasetAnnotated]) -> Iterable[Event]:
        """People say what a period is; what they say is not proposed to them again."""
        await self.deciding.store.note_annotation(heard.event)
        return ()

    async def note_training(self, heard: Heard[TrainingStarted]) -> Iterable[Event]:
        """One is on its way; a second at its side would be the same again."""

        def began(course: Course, champion: Watched | None) -> Course:
            # Heard late, or for the first time by a monitor that did not listen before.
            if champion is not None and heard.time <= champion.registered_at:
                return course
            return training_began(course, heard.time)

        return await self._change(heard.event.model, began)

    async def note_failed(self, heard: Heard[TrainingFailed]) -> Iterable[Event]:
        """Nothing came of it."""
        return await self._vain(heard.event.model)

    async def note_skipped(self, heard: Heard[TrainingSkipped]) -> Iterable[Event]:
        """The trainer saw nothing to learn; of what was asked for, that is the end."""
        told = heard.event
        if told.reason in _NOT_ITS_END or told.trigger not in ("drift", "quality"):
            return ()
        return await self._vain(told.model)

    async def note_superseded(self, heard: Heard[CandidateSuperseded]) -> Iterable[Event]:
        """Newer data had been numbered before it."""
        return await self._vain(heard.event.model)

    async def note_verdict(self, heard: Heard[EvaluationCompleted]) -> Iterable[Event]:
        """A candidate that was rejected: the champion is as good as what could be made."""
        if heard.event.accepted or heard.event.best is not None:
            return ()
        return await self._vain(heard.event.model)

    async def note_aborted(self, heard: Heard[RolloutAborted]) -> Iterable[Event]:
        """A candidate that did not stand its trial."""
        return await self._vain(heard.event.model)

    async def note_promoted(self, said: ModelPromoted) -> list[Event]:
        """A new champion, whose windows begin anew; the caller has locked and crowned it."""
        return await self._of_locked(
            said.model,
            lambda course, version: promoted(
                course, said.version, version.policy if version else None
            ),
        )

    async def note_champion(self, champion: Watched) -> list[Event]:
        """A version was promoted before it was known, and is known now; as above."""
        registered_at, number = champion.registered_at, champion.version
        return await self._of_locked(
            champion.model,
            lambda course, _: introduced(course, number, champion.policy, registered_at),
        )

    async def note_rollback(self, said: DeploymentRolledBack) -> list[Event]:
        """An earlier champion answers again, and not through the rung below it; as above."""
        return await self._of_locked(
            said.model, lambda course, _: crowned(course, said.to_version or 0)
        )

    async def _vain(self, model: ModelName) -> list[Event]:
        return await self._change(
            model,
            lambda course, version: came_to_nothing(course, version.policy if version else None),
        )

    async def _change(self, model: ModelName, change: Change) -> list[Event]:
        await self.deciding.store.lock([model])
        return await self._of_locked(model, change)

    async def _of_locked(self, model: ModelName, change: Change) -> list[Event]:
        def stepped(course: Course, version: Watched | None) -> Stepped:
            changed = change(course, version)
            return Stepped(course=replace(changed))

        return await self.deciding.change(model, stepped)
