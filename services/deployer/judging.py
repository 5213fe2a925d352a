"""Verdicts and what people decide about them: which version is on its way."""

from dataclasses import replace
from typing import Any

from services.deployer import permission
from services.deployer.domain import (
    Decided,
    Evidence,
    Judged,
    Overridden,
    Rollout,
    Stage,
    Stirred,
    rollout_id,
)
from services.deployer.trial import Trial
from shared import events as e
from shared.errors import Conflict


class Judging(Trial):
    """From a verdict to the first answer."""

    __slots__ = ()

    # --- verdicts ---------------------------------------------------------------------------------

    def judged(self, verdict: Judged) -> None:
        """Take an accepted version up, unless it comes too late or was compared with another."""
        endpoint = self.endpoint
        again = self._is_awaited(verdict)
        if not verdict.accepted:
            self._note_rejection(verdict, again=again)
        elif again or not self._is_known(verdict):
            rollout = self._rollout_of(verdict, again=again)
            self.set(owner=verdict.owner or endpoint.owner)
            if verdict.version <= endpoint.fence and not (again or verdict.best):
                self.supersede(rollout, by=endpoint.fence)
                self.remember(rollout)
            elif verdict.champion != endpoint.champion_version:
                self.await_verdict(rollout)
            else:
                self._propose(rollout)

    def _is_awaited(self, verdict: Judged) -> bool:
        waiting = self.endpoint.awaiting
        return (
            waiting is not None
            and waiting.version == verdict.version
            and (waiting.best or not verdict.best)
        )

    def _is_known(self, verdict: Judged) -> bool:
        endpoint = self.endpoint
        if verdict.best:
            is_champion = verdict.version == endpoint.champion_version
            return is_champion or verdict.evaluation in endpoint.asked_for
        return verdict.version in endpoint.taken_up

    def _note_rejection(self, verdict: Judged, *, again: bool) -> None:
        if again:
            self.end_waiting(Stage.REJECTED, "rejected when judged again")
        if self.endpoint.champion is None:
            # Nothing has ever been good enough, so the baseline rule answers.
            rule = self.endpoint.rule if verdict.rule is None else verdict.rule
            self.set(rule=rule, owner=verdict.owner or self.endpoint.owner)

    def _rollout_of(self, verdict: Judged, *, again: bool) -> Rollout:
        waiting = self.endpoint.awaiting if again else None
        own = rollout_id(
            self.endpoint.model, verdict.version, verdict.evaluation if verdict.best else None
        )
        return Rollout(
            id=waiting.id if waiting else own,
            version=verdict.version,
            manifest=verdict.manifest,
            dataset_version=verdict.dataset_version,
            rule=verdict.rule or {},
            evaluation=verdict.evaluation,
            correlation=verdict.correlation,
            champion=verdict.champion,
            policy=verdict.policy,
            stage=Stage.AWAITING_VERDICT,
            at=self.now,
            proposed_at=waiting.proposed_at if waiting else self.now,
            best=waiting.best if waiting else verdict.best,
            requested_by=waiting.requested_by if waiting else verdict.requested_by,
            authors=verdict.authors,
        )

    def _propose(self, rollout: Rollout) -> None:
        self._make_way(rollout)
        self.remember(rollout)
        rollout = replace(
            rollout, evidence=self._shown_before(rollout), approvals=self._unapproved(rollout)
        )
        self.set(
            rollout=rollout,
            fence=max(self.endpoint.fence, rollout.version),
            # While others stay on their shares nobody may be thrown anew.
            salt=self.endpoint.salt if self.endpoint.experiments else rollout.evaluation.hex,
            evaluation=rollout.evaluation,
            correlation=rollout.correlation,
        )
        rules, is_direct = rollout.rules, self.is_direct(rollout)
        self.say(
            e.RolloutProposed,
            rollout,
            manifest=rollout.manifest,
            champion=rollout.champion,
            dataset_version=rollout.dataset_version,
            evaluation=rollout.evaluation,
            steps=rules.steps if rules.strategy.endswith("canary") and not is_direct else (),
            approval=rules.approval.word,
            strategy="direct" if is_direct else rules.strategy,
            authors=self.authors_of(rollout),
            requested_by=rollout.requested_by,
        )
        self.enter(rollout)

    def _make_way(self, rollout: Rollout) -> None:
        """What is on its way ends; experiments stay beside another one, of another version."""
        if self.endpoint.rollout is not None:
            self.supersede(self.endpoint.rollout, by=rollout.version)
        self.supersede_waiting(rollout)
        is_beside = rollout.rules.strategy == "experiment"
        for one in self.endpoint.experiments:
            if not is_beside or one.version == rollout.version:
                self.supersede(one, by=rollout.version)

    def _shown_before(self, rollout: Rollout) -> Evidence:
        """The same artifact beside the same champion begins with what it has shown, not anew."""
        pair = (rollout.version, rollout.champion)
        found = (t.evidence for t in self.endpoint.tried if (t.version, t.champion) == pair)
        return next(found, Evidence())

    def _unapproved(self, rollout: Rollout) -> permission.Approvals:
        return permission.Approvals(
            manifest=rollout.manifest, evaluation=rollout.evaluation, asked_at=self.now
        )

    # --- people -----------------------------------------------------------------------------------

    def decided(self, decision: Decided) -> None:
        """A person let the rollout go on, ended it, or took an approval back."""
        rollout, approvals = self._to_decide(decision)
        rules, authors = rollout.rules, self.authors_of(rollout)
        approvals = permission.decide(
            approvals,
            rules.approval,
            authors,
            decision=decision.decision,
            by=decision.by,
            now=self.now,
            manifest=decision.manifest,
            evaluation=decision.evaluation,
            request=decision.request,
        )
        rollout = self.move(rollout, approvals=approvals)
        said: dict[str, Any] = {
            "manifest": rollout.manifest,
            "by": decision.by,
            "comment": decision.comment,
        }
        missing = permission.missing(approvals, rules.approval, authors)
        if decision.decision == "deny":
            self.say(e.ApprovalDenied, rollout, request=decision.request, **said)
            comment = decision.comment
            self.abort(rollout, "denied", f"{decision.by}: {comment}" if comment else "")
        elif decision.decision == "withdraw":
            self.say(e.ApprovalWithdrawn, rollout, missing=missing, **said)
            if missing and rollout.stage is Stage.AWAITING_WINDOW:
                self.ask_approval(rollout)
        else:
            self.say(e.ApprovalGranted, rollout, missing=missing, request=decision.request, **said)
            if not missing:
                self.enter(rollout)

    def _to_decide(self, decision: Decided) -> tuple[Rollout, permission.Approvals]:
        rollout = self.endpoint.find(decision.rollout)
        if rollout is None:
            raise Conflict("This rollout has ended; see the rollouts of its model.")
        approvals = rollout.approvals
        if approvals is not None and rollout.stage is Stage.AWAITING_APPROVAL:
            return rollout, approvals
        waits = rollout.stage is Stage.AWAITING_WINDOW and rollout.rules.approval.needed > 0
        if approvals is None or decision.decision == "grant" or not waits:
            raise Conflict(f"This rollout waits for no approval; it is in stage {rollout.stage}.")
        # The time to approve is over, the time to think better of it is not.
        return rollout, replace(approvals, asked_at=self.now)

    def overridden(self, opened: Overridden) -> None:
        """A person lets a rollout go on while changes are not allowed; approvals still count."""
        rollout = self.endpoint.find(opened.rollout)
        if rollout is None:
            raise Conflict("This rollout has ended; see the rollouts of its model.")
        if not rollout.is_held:
            raise Conflict("This rollout waits for no time, so there is nothing to open.")
        if rollout.opened_by:
            raise Conflict(f"{rollout.opened_by} opened its windows already.")
        self.say(e.WindowOverridden, rollout, by=opened.by, reason=opened.reason)
        self.look_at(self.move(rollout, opened_by=opened.by))

    def stirred(self, _: Stirred) -> None:
        """A freeze or a dataset has changed when changes are allowed."""
        for known in self.endpoint.active:
            rollout = self.endpoint.find(known.id)
            if rollout is not None and rollout.is_held:
                self.look_at(rollout)

    def look_at(self, rollout: Rollout) -> None:
        """See what an active rollout may do now."""
        if rollout.stage is Stage.AWAITING_WINDOW:
            self.enter(rollout)
        elif rollout.stage is Stage.AWAITING_APPROVAL:
            self._see_whether_expired(rollout)
        else:
            self.consider(rollout)

    def _see_whether_expired(self, rollout: Rollout) -> None:
        approvals, policy = rollout.approvals, rollout.rules.approval
        if approvals is None or self.now < permission.expires_at(approvals, policy):
            return
        self.say(
            e.ApprovalExpired,
            rollout,
            manifest=rollout.manifest,
            granted_by=approvals.granted_by,
            needed=policy.needed,
        )
        self.abort(rollout, "expired", "not enough people approved it in time")
