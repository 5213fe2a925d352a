"""What the deployer does about verdicts, and about what serving and the monitor tell.

Each reaction locks the endpoint, takes one step of the state machine, saves, and says.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from services.deployer.domain import (
    ANSWERING,
    CaughtUp,
    Degraded,
    Due,
    Endpoint,
    FallenBehind,
    Judged,
    Labelled,
    Measured,
    Policy,
    Unusable,
    policy_of,
    rollout_id,
)
from services.deployer.handlers.acting import Acting, Outcome
from shared import telemetry
from shared.errors import NotFound, Unprocessable
from shared.events import (
    Digest,
    EvaluationCompleted,
    Event,
    FallbackAdvised,
    FallbackEnded,
    Heard,
    Json,
    LossesObserved,
    QualityDegraded,
    ReplicaAnnounced,
    ServingApplied,
    ServingMeasured,
    ServingRefused,
)
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
            on(LossesObserved, self.compare),
            on(QualityDegraded, self.reconsider),
            on(FallbackAdvised, self.fall_back),
            on(FallbackEnded, self.come_back),
            on(ServingApplied, self.note_applied, together=10),
            on(ReplicaAnnounced, self.note_replica, together=10),
        ]

    # --- reactions ----------------------------------------------------------------------------

    async def take_up(self, heard: Heard[EvaluationCompleted]) -> Iterable[Event]:
        """A verdict: begin a rollout, wait, or let the baseline rule answer."""
        verdict = heard.event
        rule = await self._rule_in(verdict)
        now = self.acting.now()
        endpoint = await self.acting.lock(verdict.model, now=now)
        asked = heard.id if verdict.best else None
        own = rollout_id(verdict.model, verdict.version, asked)
        await self.acting.governance.note_verdict(heard, own)
        if endpoint is not None:
            judged = Judged(
                evaluation=heard.id,
                correlation=heard.correlation,
                version=verdict.version,
                manifest=verdict.manifest,
                dataset_version=verdict.dataset_version,
                accepted=verdict.accepted,
                champion=verdict.champion,
                # A specification that cannot be read is a reason to reject, and no policy.
                policy=policy_of(verdict.spec, verdict.gates) if verdict.accepted else Policy(),
                rule=rule,
                owner=str(verdict.spec.get("owner", "")),
                authors=verdict.authors,
                best=verdict.best is not None,
                requested_by=verdict.best.by if verdict.best else "",
            )
            await self.acting.act(endpoint, judged, Cause.of(heard))
        return ()

    async def _rule_in(self, verdict: EvaluationCompleted) -> Json | None:
        """The baseline rule of a version; None where it was rejected for want of its files."""
        try:
            return await self.rule_of(verdict.manifest)
        except (NotFound, Unprocessable) as error:
            if verdict.accepted:
                raise
            telemetry.log(
                "no_rule", level="warning", model=verdict.model, version=verdict.version,
                reason=str(error),
            )  # fmt: skip
            return None

    async def weigh(self, heard: Heard[ServingMeasured]) -> Iterable[Event]:
        """Counts of a replica: evidence about challengers and a young champion."""
        said = heard.event
        endpoint = await self.acting.lock(said.model)
        if endpoint is not None and _is_watched(endpoint):
            measured = Measured(
                replica=said.replica,
                sequence=said.replica_sequence,
                generation=said.generation,
                arms=said.arms,
            )
            await self.acting.act(endpoint, measured, _cause_in(heard, endpoint))
        return ()

    async def compare(self, heard: Heard[LossesObserved]) -> Iterable[Event]:
        """Labels came for two versions: evidence about the losses of both."""
        said = heard.event
        endpoint = await self.acting.lock(said.model)
        if endpoint is not None and _is_watched(endpoint):
            labelled = Labelled(
                champion=said.champion,
                challenger=said.challenger,
                metric=said.metric,
                pairs=said.pairs,
                singles=said.singles,
            )
            await self.acting.act(endpoint, labelled, _cause_in(heard, endpoint))
        return ()

    async def withdraw(self, heard: Heard[ServingRefused]) -> Iterable[Event]:
        """A replica will not use a version: stop offering it."""
        said = heard.event
        endpoint = await self.acting.lock(said.model)
        if endpoint is not None:
            detail = f"replica {said.replica}: {said.reason}; {said.detail}"
            refusal = Unusable(version=said.version, detail=detail)
            await self.acting.act(endpoint, refusal, _cause_in(heard, endpoint))
        return ()

    async def reconsider(self, heard: Heard[QualityDegraded]) -> Iterable[Event]:
        """Quality fell: a champion in probation makes way."""
        said = heard.event
        endpoint = await self.acting.lock(said.model)
        if endpoint is not None:
            degraded = Degraded(version=said.version, detail=_worsened(said))
            await self.acting.act(endpoint, degraded, Cause.of(heard))
        return ()

    async def fall_back(self, heard: Heard[FallbackAdvised]) -> Iterable[Event]:
        """While a disturbance passes, the rule answers for the champion."""
        said = heard.event
        endpoint = await self.acting.lock(said.model)
        if endpoint is not None:
            behind = FallenBehind(version=said.version, detail=said.detail)
            await self.acting.act(endpoint, behind, Cause.of(heard))
        return ()

    async def come_back(self, heard: Heard[FallbackEnded]) -> Iterable[Event]:
        """The champion does as well as the rule again."""
        said = heard.event
        endpoint = await self.acting.lock(said.model)
        if endpoint is not None:
            await self.acting.act(endpoint, CaughtUp(version=said.version), Cause.of(heard))
        return ()

    async def note_applied(self, heard: Heard[ServingApplied]) -> Iterable[Event]:
        """A replica answers by a generation."""
        await self.acting.store.note_applied(heard.event, self.acting.now())
        return ()

    async def note_replica(self, heard: Heard[ReplicaAnnounced]) -> Iterable[Event]:
        """A replica is alive."""
        await self.acting.store.note_replica(heard.event, self.acting.now())
        return ()

    async def look_again(self, endpoint: Endpoint, seq: int) -> Outcome:
        """The timer of a locked endpoint ran out."""
        cause = (
            Cause(id=endpoint.evaluation, correlation=endpoint.correlation)
            if endpoint.evaluation and endpoint.correlation
            else Cause.outside()
        )
        return await self.acting.act(endpoint, Due(seq=seq), cause, said_as=f"due:{endpoint.seq}")


def _cause_in(heard: Heard[Event], endpoint: Endpoint) -> Cause:
    """What serving tells belongs to the cascade of the rollout that it tells about."""
    correlation = endpoint.correlation or heard.correlation
    return replace(Cause.of(heard), correlation=correlation)


def _is_watched(endpoint: Endpoint) -> bool:
    """Whether anything depends on what the arms do."""
    on_trial = any(rollout.stage in ANSWERING for rollout in endpoint.active)
    return on_trial or endpoint.probation is not None


def _worsened(said: QualityDegraded) -> str:
    if said.by == "detector":
        seen = f"losses add up to {said.evidence or 0:.3g} times what no change lets expect"
        return f"{said.metric} has worsened on {said.labels} labels: {seen}"
    return f"{said.metric} {said.value:.6g} on {said.labels} labels is beyond {said.bound:.6g}"
