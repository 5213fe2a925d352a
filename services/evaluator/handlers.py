"""What the evaluator does about what it hears: queue candidates, and know the champion."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from services.evaluator.domain import anchor_moves
from services.evaluator.store import Store
from shared import telemetry
from shared.access import Role, act
from shared.errors import Fault, InvalidInput, Refused
from shared.events import (
    AnchorMoved,
    AnchorRetired,
    BestAsked,
    BestRefused,
    BestRequested,
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
from shared.requests import Askers, readable
from shared.spec_gate import OF_TASK, check_metric, judges

MAY_ASK: Final = frozenset({Role.DATA_SCIENTIST, Role.OPERATOR})
"""Who may have the best version looked for."""
_MOST_CHARACTERS: Final = 100
"""Of what somebody sent and is told again."""


def must_judge(metric: str, versions: Sequence[ModelRegistered]) -> None:
    """See that a metric can rank these versions; what is hopeless is refused before any work.

    Raises:
        InvalidInput: it judges another task.
        ValueError: it is no metric.
    """
    check_metric(metric)
    task = str(versions[0].spec.get("task")) if versions else ""
    if task in OF_TASK and not judges(metric, task):
        fault = Fault(
            "/metric", f"{metric} judges no {task}", f"{', '.join(sorted(OF_TASK[task]))}"
        )
        raise InvalidInput(f"{metric} judges no {task}.", [fault])


@dataclass(frozen=True, slots=True)
class Evaluator:
    """The reactions. Judging itself is long work and happens in the worker."""

    store: Store
    askers: Askers

    def reactions(self) -> list[Reaction]:
        """All that it does about what it hears."""
        return [
            on(ModelRegistered, self.queue_candidate),
            on(ModelPromoted, self.crown_promoted),
            on(DeploymentRolledBack, self.crown_returned),
            on(RolloutAborted, self.note_aborted),
            on(RolloutSuperseded, self.note_superseded),
            on(BestRequested, self.look_for_best),
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
        return await self._anchored(heard)

    async def _anchored(self, heard: Heard[ModelPromoted]) -> Iterable[Event]:
        """Who is shown to be better than the best so far is the best from now on."""
        said = heard.event
        before = await self.store.anchor(said.model)
        verdict = await self.store.evaluation(said.evaluation)
        reason = anchor_moves(said.version, before, verdict)
        if reason is None:
            return ()
        await self.store.set_anchor(said.model, said.version, said.manifest, heard.time)
        moved = AnchorMoved(
            model=said.model,
            version=said.version,
            manifest=said.manifest,
            previous=before.version if before else None,
            reason=reason,
        )
        return (moved,)

    async def crown_returned(self, heard: Heard[DeploymentRolledBack]) -> Iterable[Event]:
        """A former champion answers again."""
        said = heard.event
        await self.store.crown(said.model, said.to_version, said.to_manifest)
        said_of_anchor = await self._unanchored(heard)
        await self._judge_again(said.model, heard)
        return said_of_anchor

    async def _unanchored(self, heard: Heard[DeploymentRolledBack]) -> Iterable[Event]:
        """Who was rolled back is not the best so far; the one before it is again."""
        said = heard.event
        anchor = await self.store.anchor(said.model)
        if anchor is None or anchor.version != said.from_version:
            return ()
        await self.store.retire_anchor(
            said.model, anchor.version, said.by, f"rolled back: {said.reason}", heard.time
        )
        previous = await self.store.anchor(said.model)
        version, manifest = (
            (previous.version, previous.manifest)
            if previous
            else (said.to_version, said.to_manifest)
        )
        if version is None or manifest is None:
            reason = f"rolled back: {said.reason}"
            return (
                AnchorRetired(model=said.model, version=anchor.version, by=said.by, reason=reason),
            )
        if previous is None:
            await self.store.set_anchor(said.model, version, manifest, heard.time)
        moved = AnchorMoved(
            model=said.model,
            version=version,
            manifest=manifest,
            previous=anchor.version,
            reason="rolled_back",
        )
        return (moved,)

    async def note_aborted(self, heard: Heard[RolloutAborted]) -> Iterable[Event]:
        """This version had its chance; it is not judged again.

        Only somebody's wish for the best is as good as before when the champion has changed.
        """
        said = heard.event
        asked = await self._wish_behind(said) if said.reason == "champion_changed" else None
        if asked is not None:
            # Once per reign: whatever the deployer takes for its champion, this comes to an end.
            reign = (await self.store.standing(said.model)).reign
            key = f"again/{reign}/{asked.by}/{asked.metric}"
            await self.store.queue_best(said.model, asked, key, Cause.of(heard))
        await self.store.set_state(said.model, said.version, "ended")
        return ()

    async def _wish_behind(self, said: RolloutAborted) -> BestAsked | None:
        """Who wanted the best version, when that is what the rollout began with."""
        named = said.evidence.get("evaluation")
        verdict = await self.store.evaluation(UUID(str(named))) if named else None
        return verdict.best if verdict is not None else None

    async def note_superseded(self, heard: Heard[RolloutSuperseded]) -> Iterable[Event]:
        """A newer version took its place; it is not judged again."""
        await self.store.set_state(heard.event.model, heard.event.version, "ended")
        return ()

    async def look_for_best(self, heard: Heard[BestRequested]) -> Iterable[Event]:
        """Somebody who may ask wants the best version; who may not is told why not."""
        said = heard.event
        try:
            who = await self.askers.believe(heard, said.by)
            if who is None:
                return ()
            act(who, await self.store.owner(said.model), MAY_ASK)
            must_judge(said.metric, await self.store.newest(said.model, 1))
        except (Refused, ValueError) as error:
            telemetry.log(
                "request_refused",
                level="warning",
                model=readable(said.model),
                by=readable(said.by),
                reason=readable(str(error)),
            )
            return await self._refused(heard, error)
        asked = BestAsked(by=said.by, metric=said.metric, reason=said.reason, ranking=())
        # The key and not the id: somebody else may have signed another request with the same one.
        await self.store.queue_best(said.model, asked, str(heard.told_apart_by), Cause.of(heard))
        return ()

    async def _refused(
        self, heard: Heard[BestRequested], error: Refused | ValueError
    ) -> Iterable[Event]:
        """Said of models that there are; anybody may have made up the others."""
        said = heard.event
        if not await self.store.newest(said.model, 1):
            return ()
        refused = BestRefused(
            model=said.model,
            metric=readable(said.metric, longest=_MOST_CHARACTERS),
            by=readable(said.by, longest=_MOST_CHARACTERS),
            code=error.code if isinstance(error, Refused) else "unknown_metric",
            detail=readable(str(error), longest=10 * _MOST_CHARACTERS),
            request=heard.id,
        )
        return (refused,)

    async def _judge_again(self, model: ModelName, heard: Heard[Event]) -> None:
        """The newest accepted version waits for a verdict against the present champion.

        Candidates without a verdict need nothing: their comparison takes whoever is champion.
        """
        waiting = await self.store.newest_accepted(model)
        if waiting is not None:
            cause = replace(Cause.of(heard), correlation=waiting.correlation)
            await self.store.queue(waiting.registered, cause)
