"""The state machine of an endpoint: what happened and the time in, what is now true out.

accepted → (approval) → (window) → canary steps → promoted | aborted | superseded. A version judged
against another champion waits for a new verdict. Rollback is a later fact, not an outcome.
"""

from datetime import datetime
from typing import Final, assert_never

from services.deployer import canary
from services.deployer.course import Course
from services.deployer.domain import (
    Champion,
    Change,
    Decided,
    Degraded,
    Due,
    Endpoint,
    Happening,
    Judged,
    Limits,
    Measured,
    RollbackAsked,
    Rollout,
    Stage,
    Unusable,
    rollout_id,
)
from services.deployer.routing import gives_up_at
from shared import events as e
from shared import windows
from shared.errors import Conflict

ITSELF: Final = "tidewheel"
"""Who rolls back when nobody did."""


def step(endpoint: Endpoint, happened: Happening, now: datetime, limits: Limits) -> Change:
    """What follows from one happening; one that no longer concerns the endpoint changes nothing.

    Raises:
        Conflict: a person asked for what the state does not allow.
    """
    course = _Decisions(now=now, limits=limits, endpoint=endpoint)
    match happened:
        case Judged():
            course.judged(happened)
        case Decided():
            course.decided(happened)
        case Due():
            course.due(happened)
        case Measured():
            course.measured(happened)
        case Unusable():
            course.unusable(happened)
        case Degraded():
            course.degraded(happened)
        case RollbackAsked():
            course.rollback_asked(happened)
        case _:
            assert_never(happened)
    return course.change(before=endpoint)


class _Decisions(Course):
    """What follows from each kind of happening."""

    __slots__ = ()

    def judged(self, verdict: Judged) -> None:
        """Take an accepted version up, unless it comes too late or was compared with another."""
        endpoint = self.endpoint
        again = endpoint.awaiting is not None and endpoint.awaiting.version == verdict.version
        if not verdict.accepted:
            self._note_rejection(verdict, again=again)
        elif again or verdict.version not in endpoint.taken_up:
            rollout = self._rollout_of(verdict)
            if verdict.version <= endpoint.fence and not again:
                self.supersede(rollout, by=endpoint.fence)
                self.remember(verdict.version)
            elif verdict.champion != endpoint.champion_version:
                self.await_verdict(rollout)
            else:
                self._propose(rollout)

    def _note_rejection(self, verdict: Judged, *, again: bool) -> None:
        if again:
            self.end_waiting(Stage.REJECTED, "rejected when judged again")
        if self.endpoint.champion is None:
            # Nothing has ever been good enough, so the baseline rule answers.
            self.set(rule=verdict.rule)

    def _rollout_of(self, verdict: Judged) -> Rollout:
        return Rollout(
            id=rollout_id(self.endpoint.model, verdict.version),
            version=verdict.version,
            manifest=verdict.manifest,
            dataset_version=verdict.dataset_version,
            rule=verdict.rule,
            evaluation=verdict.evaluation,
            correlation=verdict.correlation,
            champion=verdict.champion,
            policy=verdict.policy,
            stage=Stage.AWAITING_VERDICT,
            at=self.now,
            proposed_at=self.now,
        )

    def _propose(self, rollout: Rollout) -> None:
        if self.endpoint.rollout is not None:
            self.supersede(self.endpoint.rollout, by=rollout.version)
        self.supersede_waiting(by=rollout.version)
        self.remember(rollout.version)
        self.set(
            rollout=rollout,
            fence=max(self.endpoint.fence, rollout.version),
            salt=rollout.evaluation.hex,
            evaluation=rollout.evaluation,
            correlation=rollout.correlation,
        )
        self.say(
            e.RolloutProposed,
            manifest=rollout.manifest,
            champion=rollout.champion,
            dataset_version=rollout.dataset_version,
            evaluation=rollout.evaluation,
            steps=() if self._is_direct(rollout) else rollout.policy.steps,
            approval=rollout.policy.approval,
        )
        if rollout.policy.approval == "manual":
            self.move(stage=Stage.AWAITING_APPROVAL)
            self.say(e.ApprovalRequested, manifest=rollout.manifest)
        else:
            self._enter()

    def decided(self, decision: Decided) -> None:
        """A person let the rollout go on, or ended it."""
        rollout = self.endpoint.rollout
        if rollout is None or rollout.id != decision.rollout:
            raise Conflict("This rollout has ended; see the rollouts of its model.")
        if rollout.stage is not Stage.AWAITING_APPROVAL:
            raise Conflict(f"This rollout waits for no approval; it is in stage {rollout.stage}.")
        kind = e.ApprovalGranted if decision.granted else e.ApprovalDenied
        self.say(kind, manifest=rollout.manifest, by=decision.by, comment=decision.comment)
        if decision.granted:
            self._enter()
        else:
            self.abort("denied", f"{decision.by}: {decision.comment}" if decision.comment else "")

    def _enter(self) -> None:
        """Begin to answer, when changes are allowed and somebody is there to compare with."""
        rollout = self.active
        if not self._is_open(Stage.AWAITING_WINDOW):
            return
        if self._is_direct(rollout):
            self.promote({"strategy": "direct", "reason": self._why_direct(rollout)})
        else:
            self.move(
                stage=Stage.CANARY,
                canary_at=self.now,
                first_generation=self.endpoint.generation + 1,
                held_until=None,
            )
            self._answer_share(0, {})

    def _is_direct(self, rollout: Rollout) -> bool:
        policy = rollout.policy
        return self.endpoint.champion is None or policy.strategy == "direct" or not policy.steps

    def _why_direct(self, rollout: Rollout) -> str:
        if self.endpoint.champion is None:
            return "there is no champion to compare it with"
        return f"the specification asks for strategy {rollout.policy.strategy}"

    def _is_open(self, waiting: Stage) -> bool:
        """Whether changes are allowed; if not, wait in this stage and say so once."""
        rollout = self.active
        try:
            window = rollout.policy.window
            opens_at = windows.next_opening(
                windows.read_window(window) if window else None, self.now
            )
        except ValueError as error:
            self.abort("expired", str(error))
            return False
        if opens_at <= self.now:
            return True
        if rollout.held_until != opens_at:
            self.move(stage=waiting, held_until=opens_at)
            self.say(e.WindowAwaited, opens_at=opens_at)
        return False

    def _answer_share(self, number: int, evidence: e.Json) -> None:
        self.move(
            step=number,
            at=self.now,
            step_requests=0,
            step_generation=self.endpoint.generation + 1,
            held_until=None,
        )
        weight = self.active.weight
        self.say(e.RolloutAdvanced, step=number, weight=weight, evidence=evidence)

    def measured(self, measure: Measured) -> None:
        """Add what canary and champion did, and act on it when it is enough."""
        rollout = self.endpoint.rollout
        if (
            rollout is None
            or rollout.stage is not Stage.CANARY
            or rollout.version != measure.version
            or not rollout.first_generation <= measure.generation <= self.endpoint.generation
        ):
            return
        evidence = canary.gathered(rollout.evidence, measure, self.limits)
        if evidence is rollout.evidence:
            return
        in_step = measure.canary.requests if measure.generation >= rollout.step_generation else 0
        self.move(evidence=evidence, step_requests=rollout.step_requests + in_step)
        self._consider_canary()

    def _consider_canary(self) -> None:
        rollout = self.active
        weighed = canary.weigh(rollout.evidence, self.limits)
        if weighed.abort:
            self.abort("worse", weighed.detail, weighed.figures)
        elif weighed.advance and self._step_is_over(rollout):
            if self._is_open(Stage.CANARY):
                self._advance(rollout, weighed.figures)
        elif self.now >= gives_up_at(rollout):
            self.abort("undecided", weighed.detail, weighed.figures)

    def _step_is_over(self, rollout: Rollout) -> bool:
        policy = rollout.policy
        return self.now >= rollout.at + policy.step_for and rollout.step_requests >= max(
            1, policy.minimum_requests
        )

    def _advance(self, rollout: Rollout, figures: e.Json) -> None:
        if rollout.step + 1 < len(rollout.policy.steps):
            self._answer_share(rollout.step + 1, figures)
        else:
            self.promote({"strategy": "canary", "canary": figures})

    def due(self, timer: Due) -> None:
        """A moment has come; a timer made before the last transition means nothing."""
        if timer.seq != self.endpoint.seq:
            return
        if self.endpoint.probation_until and self.endpoint.probation_until <= self.now:
            self.set(probation_until=None)
        waiting = self.endpoint.awaiting
        if waiting is not None and waiting.at + waiting.policy.give_up_after <= self.now:
            self.end_waiting(Stage.ABORTED, "no new verdict came in time")
            self.say_aborted(waiting, "stale_verdict", "no new verdict came in time", {})
        if self.endpoint.rollout is not None:
            self._rollout_due(self.endpoint.rollout)

    def _rollout_due(self, rollout: Rollout) -> None:
        if rollout.stage is Stage.CANARY:
            self._consider_canary()
        elif rollout.stage is Stage.AWAITING_WINDOW:
            self._enter()
        elif rollout.at + self.limits.approval_expires <= self.now:
            self.abort("expired", "nobody decided in time")

    def unusable(self, refusal: Unusable) -> None:
        """Serving will not use the files: stop offering them."""
        rollout, champion = self.endpoint.rollout, self.endpoint.champion
        if rollout is not None and rollout.version == refusal.version:
            if rollout.stage is Stage.CANARY:
                self.abort("refused_by_serving", refusal.detail)
        elif champion is not None and champion.version == refusal.version and self._is_young:
            self.reconsider_rollout()
            self.roll_back(self.endpoint.previous, ITSELF, refusal.detail)

    def degraded(self, degraded: Degraded) -> None:
        """A young champion that does worse than promised makes way for the one before it."""
        champion, previous = self.endpoint.champion, self.endpoint.previous
        if champion is None or champion.version != degraded.version or not self._is_young:
            return
        if previous is not None:
            self.reconsider_rollout()
            self.roll_back(previous, ITSELF, degraded.detail)

    def rollback_asked(self, asked: RollbackAsked) -> None:
        """The previous champion, or the named one, answers again; a running rollout ends."""
        target = self._target(asked.to)
        if self.endpoint.rollout is not None:
            self.abort("stale_verdict", f"{asked.by} rolled its champion back")
        self.roll_back(target, asked.by, asked.reason)

    def _target(self, version: int | None) -> Champion:
        champion = self.endpoint.champion
        if champion is None:
            raise Conflict("No version answers, so none can be rolled back.")
        if version is None:
            if self.endpoint.previous is None:
                raise Conflict("There is no champion before this one.")
            return self.endpoint.previous
        found = next((c for c in self.endpoint.past if c.version == version), None)
        if found is None:
            past = ", ".join(str(c.version) for c in self.endpoint.past) or "none"
            raise Conflict(f"Version {version} is no former champion; there are: {past}.")
        return found

    @property
    def _is_young(self) -> bool:
        until = self.endpoint.probation_until
        return until is not None and self.now < until
