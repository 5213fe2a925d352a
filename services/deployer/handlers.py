"""What the deployer does about what it hears and what people ask.

Each reaction locks the endpoint, takes one step of the state machine, saves, and says. Events are
said here instead of returned, because one step may concern rollouts of several cascades and each
event belongs to the cascade of its own rollout.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from services.deployer.domain import (
    OVER,
    Change,
    Counts,
    Decided,
    Degraded,
    Due,
    Endpoint,
    Happening,
    Judged,
    Limits,
    Measured,
    RollbackAsked,
    Stage,
    Unusable,
    policy_of,
)
from services.deployer.rollout import step
from services.deployer.routing import due_at
from services.deployer.store import Store
from shared import telemetry
from shared.clock import Clock
from shared.errors import NotFound, NotPermitted
from shared.events import (
    ArmMeasure,
    Digest,
    EvaluationCompleted,
    Event,
    Heard,
    Json,
    ModelDefined,
    ModelName,
    QualityDegraded,
    ReplicaAnnounced,
    RolloutId,
    ServingApplied,
    ServingMeasured,
    ServingRefused,
)
from shared.latency import slower_than
from shared.postgres import Cause
from shared.reactions import Reaction, on


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an action of a person led to."""

    endpoint: Endpoint
    said: tuple[Heard[Event], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployer:
    """The reactions, and what people may ask for.

    Attributes:
        rule_of: the fitted baseline rule in a version's manifest.
    """

    store: Store
    rule_of: Callable[[Digest], Awaitable[Json]]
    now: Clock
    limits: Limits

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
        now = self.now()
        endpoint = await self.store.lock(verdict.model, now=now)
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
            await self._act(endpoint, judged, Cause.of(heard))
        return ()

    async def weigh(self, heard: Heard[ServingMeasured]) -> Iterable[Event]:
        """Counts of a replica: evidence for a canary, if there is one."""
        said = heard.event
        endpoint = await self.store.lock(said.model)
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
            await self._act(endpoint, measured, _cause_in(heard, rollout.correlation))
        return ()

    async def withdraw(self, heard: Heard[ServingRefused]) -> Iterable[Event]:
        """A replica will not use a version: stop offering it."""
        said = heard.event
        endpoint = await self.store.lock(said.model)
        if endpoint is not None:
            detail = f"replica {said.replica}: {said.reason}; {said.detail}"
            refusal = Unusable(version=said.version, detail=detail)
            await self._act(
                endpoint, refusal, _cause_in(heard, endpoint.correlation or heard.correlation)
            )
        return ()

    async def reconsider(self, heard: Heard[QualityDegraded]) -> Iterable[Event]:
        """Quality fell: a champion in probation makes way."""
        said = heard.event
        endpoint = await self.store.lock(said.model)
        if endpoint is not None:
            detail = (
                f"{said.metric} {said.value:.6g} on {said.labels} labels is beyond {said.bound:.6g}"
            )
            await self._act(
                endpoint, Degraded(version=said.version, detail=detail), Cause.of(heard)
            )
        return ()

    async def note_applied(self, heard: Heard[ServingApplied]) -> Iterable[Event]:
        """A replica answers by a generation."""
        await self.store.note_applied(heard.event, self.now())
        return ()

    async def note_replica(self, heard: Heard[ReplicaAnnounced]) -> Iterable[Event]:
        """A replica is alive."""
        await self.store.note_replica(heard.event, self.now())
        return ()

    async def note_author(self, heard: Heard[ModelDefined]) -> Iterable[Event]:
        """Somebody defined a model, and may therefore not approve its versions."""
        await self.store.note_author(heard.event.model, heard.event.defined_by)
        return ()

    # --- what people and the clock ask for ------------------------------------------------------

    async def decide(self, rollout: RolloutId, *, granted: bool, by: str, comment: str) -> Outcome:
        """Grant or deny an approval.

        Raises:
            NotFound: there is no such rollout.
            NotPermitted: who defined the model may not approve its versions.
            Conflict: it waits for no approval.
        """
        model = await self.store.model_of(rollout)
        endpoint = await self.store.lock(model) if model else None
        if endpoint is None:
            raise NotFound(f"There is no rollout {rollout}.")
        if granted and await self.store.author_of(endpoint.model) == by:
            raise NotPermitted(
                "You defined this model, so somebody else has to approve its versions.",
                code="self_approval",
            )
        decided = Decided(rollout=rollout, granted=granted, by=by, comment=comment)
        correlation = endpoint.rollout.correlation if endpoint.rollout else None
        return await self._act(endpoint, decided, Cause.outside(correlation))

    async def roll_back(
        self, model: ModelName, *, by: str, reason: str, to: int | None = None
    ) -> Outcome:
        """Let the previous champion, or the named one, answer again.

        Raises:
            NotFound: nothing is known of this model.
            Conflict: there is no such former champion.
        """
        endpoint = await self.store.lock(model)
        if endpoint is None:
            raise NotFound(f"No version of {model} was ever rolled out.")
        asked = RollbackAsked(by=by, reason=reason, to=to)
        return await self._act(endpoint, asked, Cause.outside())

    async def look_again(self, endpoint: Endpoint, seq: int) -> Outcome:
        """The timer of a locked endpoint ran out."""
        cause = (
            Cause(id=endpoint.evaluation, correlation=endpoint.correlation)
            if endpoint.evaluation and endpoint.correlation
            else Cause.outside()
        )
        return await self._act(endpoint, Due(seq=seq), cause, said_as=f"due:{endpoint.seq}")

    async def _act(
        self, endpoint: Endpoint, happened: Happening, cause: Cause, *, said_as: str = ""
    ) -> Outcome:
        now = self.now()
        change = step(endpoint, happened, now, self.limits)
        if change.endpoint is endpoint and not change.ended and not isinstance(happened, Due):
            return Outcome(endpoint=endpoint, said=())
        await self.store.save(
            endpoint,
            change.endpoint,
            change.ended,
            due_at=due_at(change.endpoint, now, self.limits),
            now=now,
        )
        said = [(_cause_of(event, cause, endpoint, change), event) for event in change.events]
        spoken = await self.store.say(said, step=said_as)
        _tell(change)
        return Outcome(endpoint=change.endpoint, said=tuple(spoken))


def _cause_in(heard: Heard[Event], correlation: UUID) -> Cause:
    return Cause(id=heard.id, correlation=correlation, traceparent=heard.traceparent)


def _cause_of(event: Event, cause: Cause, before: Endpoint, change: Change) -> Cause:
    """The cause of a step, in the cascade of the rollout that the event is about."""
    rollouts = [*change.ended, before.rollout, before.awaiting, change.endpoint.rollout]
    about = getattr(event, "rollout", None)
    found = next((r for r in rollouts if r is not None and r.id == about), None)
    if found is None:
        return cause
    return Cause(id=cause.id, correlation=found.correlation, traceparent=cause.traceparent)


def _counts(arm: ArmMeasure, objective_seconds: float) -> Counts:
    return Counts(
        requests=arm.requests,
        errors=min(arm.errors, arm.requests),
        slow=min(slower_than(arm.latency_counts, objective_seconds), arm.requests),
    )


def _tell(change: Change) -> None:
    for rollout in change.ended:
        if rollout.stage in OVER:
            telemetry.count("tidewheel_rollouts_total", outcome=str(rollout.stage))
            telemetry.log(
                "rollout_ended",
                model=change.endpoint.model,
                version=rollout.version,
                outcome=str(rollout.stage),
                detail=rollout.detail,
            )
