"""What the deployer does about verdicts, and about what serving and the monitor tell.

Each reaction locks the endpoint, takes one step of the state machine, saves, and says.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from services.deployer.domain import (
    Counts,
    Degraded,
    Due,
    Endpoint,
    Judged,
    Measured,
    Stage,
    Unusable,
    policy_of,
)
from services.deployer.handlers.acting import Acting, Outcome
from shared.events import (
    ArmMeasure,
    Digest,
    EvaluationCompleted,
    Event,
    Heard,
    Json,
    ModelDefined,
    QualityDegraded,
    ReplicaAnnounced,
    ServingApplied,
    ServingMeasured,
    ServingRefused,
)
from shared.latency import slower_than
from shared.postgres import Cause
from shared.reactions import Reaction, on


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """The reactions that bring versions to the endpoints, and the timers.

    Attributes:
        rule_of: the fitted baseline rule in a version's manifest.
    """

    acting: Acting
    rule_of: Callable[[Digest], Awaitable[Json]]

    def reactions(self) -> list[Reaction]:
        """All that it does about what it hears."""
        return [
            on(EvaluationCompleted, self.take_up),
            on(ServingMeasured, self.weigh, together=10),
            on(ServingRefused, self.withdraw),
            on(QualityDegraded, self.reconsider),
            on(ServingApplied, self.note_applied, together=10),
            on(ReplicaAnnounced, self.note_replica, together=10),
            on(ModelDefined, self.note_author),
        ]

    # --- reactions ----------------------------------------------------------------------------

    async def take_up(self, heard: Heard[EvaluationCompleted]) -> Iterable[Event]:
        """A verdict: begin a rollout, wait, or let the baseline rule answer."""
        verdict = heard.event
        rule = await self.rule_of(verdict.manifest)
        now = self.acting.now()
        endpoint = await self.acting.store.lock(verdict.model, now=now)
        if endpoint is not None:
            judged = Judged(
                evaluation=heard.id,
                correlation=heard.correlation,
                version=verdict.version,
                manifest=verdict.manifest,
                dataset_version=verdict.dataset_version,
                accepted=verdict.accepted,
                champion=verdict.champion,
                policy=policy_of(verdict.spec),
                rule=rule,
            )
            await self.acting.act(endpoint, judged, Cause.of(heard))
        return ()

    async def weigh(self, heard: Heard[ServingMeasured]) -> Iterable[Event]:
        """Counts of a replica: evidence for a canary, if there is one."""
        said = heard.event
        endpoint = await self.acting.store.lock(said.model)
        rollout = endpoint.rollout if endpoint else None
        if endpoint is None or rollout is None or rollout.stage is not Stage.CANARY:
            return ()
        objective = rollout.policy.objective.total_seconds()
        arms = {arm.role: arm for arm in said.arms}
        challenger, champion = arms.get("challenger"), arms.get("champion")
        if challenger is not None:
            measured = Measured(
                replica=said.replica,
                sequence=said.replica_sequence,
                generation=said.generation,
                version=challenger.version,
                canary=_counts(challenger, objective),
                champion=_counts(champion, objective) if champion else Counts(),
            )
            await self.acting.act(endpoint, measured, _cause_in(heard, rollout.correlation))
        return ()

    async def withdraw(self, heard: Heard[ServingRefused]) -> Iterable[Event]:
        """A replica will not use a version: stop offering it."""
        said = heard.event
        endpoint = await self.acting.store.lock(said.model)
        if endpoint is not None:
            detail = f"replica {said.replica}: {said.reason}; {said.detail}"
            refusal = Unusable(version=said.version, detail=detail)
            await self.acting.act(
                endpoint, refusal, _cause_in(heard, endpoint.correlation or heard.correlation)
            )
        return ()

    async def reconsider(self, heard: Heard[QualityDegraded]) -> Iterable[Event]:
        """Quality fell: a champion in probation makes way."""
        said = heard.event
        endpoint = await self.acting.store.lock(said.model)
        if endpoint is not None:
            detail = (
                f"{said.metric} {said.value:.6g} on {said.labels} labels is beyond {said.bound:.6g}"
            )
            await self.acting.act(
                endpoint, Degraded(version=said.version, detail=detail), Cause.of(heard)
            )
        return ()

    async def note_applied(self, heard: Heard[ServingApplied]) -> Iterable[Event]:
        """A replica answers by a generation."""
        await self.acting.store.note_applied(heard.event, self.acting.now())
        return ()

    async def note_replica(self, heard: Heard[ReplicaAnnounced]) -> Iterable[Event]:
        """A replica is alive."""
        await self.acting.store.note_replica(heard.event, self.acting.now())
        return ()

    async def note_author(self, heard: Heard[ModelDefined]) -> Iterable[Event]:
        """Somebody defined a model, and may therefore not approve its versions."""
        await self.acting.store.note_author(heard.event.model, heard.event.defined_by)
        return ()

    async def look_again(self, endpoint: Endpoint, seq: int) -> Outcome:
        """The timer of a locked endpoint ran out."""
        cause = (
            Cause(id=endpoint.evaluation, correlation=endpoint.correlation)
            if endpoint.evaluation and endpoint.correlation
            else Cause.outside()
        )
        return await self.acting.act(endpoint, Due(seq=seq), cause, said_as=f"due:{endpoint.seq}")


def _cause_in(heard: Heard[Event], correlation: UUID) -> Cause:
    return Cause(id=heard.id, correlation=correlation, traceparent=heard.traceparent)


def _counts(arm: ArmMeasure, objective_seconds: float) -> Counts:
    return Counts(
        requests=arm.requests,
        errors=min(arm.errors, arm.requests),
        slow=min(slower_than(arm.latency_counts, objective_seconds), arm.requests),
    )
