"""The state machine of an endpoint: what happened and the time in, what is now true out.

accepted → (approval) → (window) → shadow, canary steps or experiment → promoted | aborted |
superseded. A version judged against another champion waits for a new verdict. Rollback is a later
fact, not an outcome.
"""

from datetime import datetime
from typing import Final, assert_never

from services.deployer.domain import (
    CaughtUp,
    Change,
    Decided,
    Degraded,
    Due,
    Endpoint,
    FallenBehind,
    Happening,
    Judged,
    Labelled,
    Limits,
    Measured,
    Overridden,
    RollbackAsked,
    Stage,
    Stirred,
    Unusable,
)
from services.deployer.permission import Surroundings
from services.deployer.probation import Watch

NOTHING_AROUND: Final = Surroundings()


def step(
    endpoint: Endpoint,
    happened: Happening,
    now: datetime,
    limits: Limits,
    around: Surroundings = NOTHING_AROUND,
) -> Change:
    """What follows from one happening; one that no longer concerns the endpoint changes nothing.

    Args:
        around: freezes, datasets and people that concern this model.

    Raises:
        Conflict: a person asked for what the state does not allow.
        NotPermitted: a person approved their own work.
    """
    decisions = _Decisions(now=now, limits=limits, around=around, endpoint=endpoint)
    decisions.follow(happened)
    return decisions.change(before=endpoint)


class _Decisions(Watch):
    """What follows from each kind of happening."""

    __slots__ = ()

    def follow(self, happened: Happening) -> None:
        """Hand it to whom it concerns."""
        match happened:
            case Judged():
                self.judged(happened)
            case Decided():
                self.decided(happened)
            case Overridden():
                self.overridden(happened)
            case RollbackAsked():
                self.rollback_asked(happened)
            case Due():
                self.due(happened)
            case Stirred():
                self.stirred(happened)
            case _:
                self._learn(happened)

    def _learn(
        self, seen: Measured | Labelled | Unusable | Degraded | FallenBehind | CaughtUp
    ) -> None:
        match seen:
            case Measured():
                self.watch(seen)
                self.observe(seen)
            case Labelled():
                self.watch_losses(seen)
                self.label(seen)
            case Unusable():
                self.unusable(seen)
            case Degraded():
                self.degraded(seen)
            case FallenBehind():
                self.fallen_behind(seen)
            case CaughtUp():
                self.caught_up(seen)
            case _:
                assert_never(seen)

    def due(self, timer: Due) -> None:
        """A moment has come; a timer made before the last transition means nothing."""
        if timer.seq != self.endpoint.seq:
            return
        self.end_probation()
        waiting = self.endpoint.awaiting
        if waiting is not None and waiting.at + waiting.rules.give_up_after <= self.now:
            self.abort(waiting, "stale_verdict", "no new verdict came in time")
        for known in self.endpoint.active:
            rollout = self.endpoint.find(known.id)
            if rollout is not None and rollout.stage is not Stage.AWAITING_VERDICT:
                self.look_at(rollout)
