"""What the evaluator does about what it hears: queue candidates, and know the champion."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.evaluator.store import Store
from shared.events import (
    DeploymentRolledBack,
    Event,
    Heard,
    ModelName,
    ModelPromoted,
    ModelRegistered,
    RolloutAborted,
    RolloutSuperseded,
)
from shared.postgres import Cause
from shared.reactions import Reaction, on


@dataclass(frozen=True, slots=True)
class Evaluator:
    """The reactions. Judging itself is long work and happens in the worker."""

    store: Store

    def reactions(self) -> list[Reaction]:
        """All that it does about what it hears."""
        return [
            on(ModelRegistered, self.queue_candidate),
            on(ModelPromoted, self.crown_promoted),
            on(DeploymentRolledBack, self.crown_returned),
            on(RolloutAborted, self.note_aborted),
            on(RolloutSuperseded, self.note_superseded),
        ]

    async def queue_candidate(self, heard: Heard[ModelRegistered]) -> Iterable[Event]:
        """A numbered candidate is to be judged."""
        cause = Cause.of(heard)
        await self.store.add_candidate(heard.event, cause)
        await self.store.queue(heard.event, cause)
        return ()

    async def crown_promoted(self, heard: Heard[ModelPromoted]) -> Iterable[Event]:
        """There is a new champion; who waits was compared with the old one."""
        said = heard.event
        await self.store.crown(said.model, said.version, said.manifest)
        await self.store.set_state(said.model, said.version, "promoted")
        await self._judge_again(said.model, heard)
        return ()

    async def crown_returned(self, heard: Heard[DeploymentRolledBack]) -> Iterable[Event]:
        """A former champion answers again."""
        said = heard.event
        await self.store.crown(said.model, said.to_version, said.to_manifest)
        await self._judge_again(said.model, heard)
        return ()

    async def note_aborted(self, heard: Heard[RolloutAborted]) -> Iterable[Event]:
        """This version had its chance; it is not judged again."""
        await self.store.set_state(heard.event.model, heard.event.version, "ended")
        return ()

    async def note_superseded(self, heard: Heard[RolloutSuperseded]) -> Iterable[Event]:
        """A newer version took its place; it is not judged again."""
        await self.store.set_state(heard.event.model, heard.event.version, "ended")
        return ()

    async def _judge_again(self, model: ModelName, heard: Heard[Event]) -> None:
        """The newest accepted version waits for a verdict against the present champion.

        Candidates without a verdict need nothing: their comparison takes whoever is champion.
        """
        waiting = await self.store.newest_accepted(model)
        if waiting is not None:
            cause = Cause(
                id=heard.id, correlation=waiting.correlation, traceparent=heard.traceparent
            )
            await self.store.queue(waiting.registered, cause)
