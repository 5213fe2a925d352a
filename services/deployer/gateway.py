"""What lets a rollout begin, go on and be completed: people first, then the calendar."""

from dataclasses import replace

from services.deployer import permission
from services.deployer.course import Course
from services.deployer.domain import ANSWERING, Rollout, Stage
from shared import events as e


class Gateway(Course):
    """Asked before a challenger answers anybody, answers more, or becomes champion."""

    __slots__ = ()

    def may_go_on(self, rollout: Rollout) -> bool:
        """Whether people and calendar allow it now; if not, what then follows is done and said."""
        if not self.is_approved(rollout):
            self.ask_approval(rollout)
            return False
        return bool(rollout.opened_by) or self._is_open(rollout)

    def authors_of(self, rollout: Rollout) -> dict[str, str]:
        """Everybody whose work the version is."""
        return dict(self.around.authors(rollout.authors, rollout.requested_by))

    def is_approved(self, rollout: Rollout) -> bool:
        """Whether enough people, and the right ones, allowed this artifact after this verdict."""
        approvals = rollout.approvals
        return (
            approvals is not None
            and approvals.manifest == rollout.manifest
            and approvals.evaluation == rollout.evaluation
            and permission.is_approved(approvals, rollout.rules.approval, self.authors_of(rollout))
        )

    def ask_approval(self, rollout: Rollout) -> None:
        """Wait for people; what answered until now on approvals that count no more goes back."""
        policy, authors = rollout.rules.approval, self.authors_of(rollout)
        if rollout.stage is Stage.EXPERIMENT:
            self.abort(rollout, "denied", "who approved it may not any more")
            return
        old = rollout.approvals
        looked_at = (rollout.manifest, rollout.evaluation)
        is_same = old is not None and (old.manifest, old.evaluation) == looked_at
        grants = old.grants if old is not None and is_same else ()
        approvals = permission.Approvals(
            manifest=rollout.manifest,
            evaluation=rollout.evaluation,
            asked_at=self.now,
            grants=grants,
        )
        rollout = self.move(
            rollout,
            stage=Stage.AWAITING_APPROVAL,
            at=self.now,
            approvals=approvals,
            held_until=None,
            held_why="",
        )
        self.say(
            e.ApprovalRequested,
            rollout,
            manifest=rollout.manifest,
            needed=permission.missing(approvals, policy, authors),
            excluded=permission.excluded(policy, authors),
            expires_at=permission.expires_at(approvals, policy),
        )

    def _is_open(self, rollout: Rollout) -> bool:
        """Whether changes are allowed; if not, wait and say so once."""
        try:
            opening = permission.opening(
                rollout.rules,
                self.around.freezes,
                self.around.published,
                rollout.proposed_at,
                self.now,
            )
        except ValueError as error:
            self.abort(rollout, "expired", str(error))
            return False
        if opening.opens_at is not None and opening.opens_at <= self.now:
            return True
        held = replace(
            rollout,
            stage=rollout.stage if rollout.stage in ANSWERING else Stage.AWAITING_WINDOW,
            held_until=opening.opens_at,
            held_why=opening.reason,
        )
        if held != rollout:
            self.move(held)
            self.say(e.WindowAwaited, held, opens_at=opening.opens_at, reason=opening.reason)
        return False
