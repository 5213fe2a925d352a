"""A young champion under watch, and the way back to the one before."""

from dataclasses import replace
from typing import Final

from services.deployer.canary import GUARDS, lower_rate, upper_rate
from services.deployer.domain import (
    CaughtUp,
    Champion,
    Counts,
    Degraded,
    Fallback,
    FallenBehind,
    Labelled,
    Limits,
    Measured,
    Probation,
    RollbackAsked,
    Unusable,
    counts_of,
)
from services.deployer.judging import Judging
from services.deployer.observing import labelled
from services.deployer.shadow import reached
from shared.errors import Conflict

ITSELF: Final = "tidewheel"
"""Who rolls back when nobody did."""


class Watch(Judging):
    """What becomes of a champion after its promotion."""

    __slots__ = ()

    def watch(self, measure: Measured) -> None:
        """Count what a young champion does; go back when it surely does worse than allowed."""
        probation = self._young
        if probation is None:
            return
        arm = measure.arm("champion", probation.version)
        first, last = probation.measures.get(measure.replica, (measure.sequence, 0))
        if (
            arm is None
            or measure.sequence <= last
            or not probation.first_generation <= measure.generation <= self.endpoint.generation
        ):
            return
        young = probation.young.plus(counts_of(arm, probation.policy.objective))
        spans = {**probation.measures, measure.replica: (first, measure.sequence)}
        self._reconsider(replace(probation, young=young, measures=spans))

    def watch_losses(self, labels: Labelled) -> None:
        """Compare a young champion's losses with those of the one before it, which nobody sees."""
        probation, previous = self._young, self.endpoint.previous
        if probation is None or previous is None or not probation.has_shadow:
            return
        if (labels.champion, labels.challenger) == (probation.version, previous.version):
            losses = labelled(probation.losses, replace(labels, singles=()), probation.policy)
            self._reconsider(replace(probation, losses=losses))

    def _reconsider(self, probation: Probation) -> None:
        self.set(probation=probation)
        previous, fault = self.endpoint.previous, fault_of(probation, self.limits)
        if fault and previous is not None:
            self.go_back(previous, fault)

    def go_back(self, target: Champion | None, why: str) -> None:
        """Roll back by itself; what was compared with the young champion is judged again."""
        self.reconsider_rollout()
        self.roll_back(target, ITSELF, why)

    def unusable(self, refusal: Unusable) -> None:
        """Serving will not use a version: stop offering it."""
        for rollout in self.endpoint.active:
            if rollout.version == refusal.version and (rollout.weight or rollout.shadow_share):
                self.abort(rollout, "refused_by_serving", refusal.detail)
                return
        champion = self.endpoint.champion
        if champion is not None and champion.version == refusal.version and self._young:
            self.go_back(self.endpoint.previous, refusal.detail)

    def degraded(self, degraded: Degraded) -> None:
        """A young champion that does worse than promised makes way for the one before it."""
        probation, previous = self._young, self.endpoint.previous
        if probation is not None and probation.version == degraded.version and previous:
            self.go_back(previous, degraded.detail)

    def fallen_behind(self, behind: FallenBehind) -> None:
        """The rule answers for the champion, which goes on unseen, until it does as well again."""
        if self.endpoint.champion_version == behind.version and self.endpoint.fallback is None:
            begun = Fallback(version=behind.version, since=self.now, detail=behind.detail)
            self.set(fallback=begun)

    def caught_up(self, caught: CaughtUp) -> None:
        """The champion answers again."""
        fallback = self.endpoint.fallback
        if fallback is not None and fallback.version == caught.version:
            self.set(fallback=None)

    def rollback_asked(self, asked: RollbackAsked) -> None:
        """The previous champion, or the named one, answers again; a running rollout ends."""
        target = self._target(asked.to)
        if self.endpoint.rollout is not None:
            why = f"{asked.by} rolled its champion back"
            self.abort(self.endpoint.rollout, "stale_verdict", why)
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

    def end_probation(self) -> None:
        """The champion is young no more; what it did is kept for the next one's probation."""
        probation = self.endpoint.probation
        if probation is not None and probation.until <= self.now:
            self.set(champion=self.retired(), probation=None)

    @property
    def _young(self) -> Probation | None:
        """The probation, while it lasts."""
        probation, champion = self.endpoint.probation, self.endpoint.champion
        if probation is None or champion is None or self.now >= probation.until:
            return None
        return probation if probation.version == champion.version else None


def fault_of(probation: Probation, limits: Limits) -> str:
    """What a young champion surely does worse than allowed, for people; empty if nothing.

    Three comparisons share alpha; in two of them each side has an interval of its own.
    """
    young, former = probation.young, probation.former
    counts = (
        ("errors", (young.errors, former.errors), limits.error_limit),
        ("slow answers", (young.slow, former.slow), 1.0),
    )
    for name, events, limit in counts:
        if detail := _excess(name, events, young, former, limit, limits):
            return detail
    if reached(probation.losses.pairs.much_better, limits.alpha, GUARDS):
        moments = probation.losses.pair_moments
        return (
            f"losses: larger than those of the version before it by more than the margin, "
            f"on {moments.rows} requests that both answered"
        )
    return ""


def _excess(
    name: str, events: tuple[int, int], young: Counts, former: Counts, limit: float, limits: Limits
) -> str:
    alpha = limits.alpha / (2 * GUARDS)
    surely = lower_rate(events[0], young.requests, alpha)
    allowed = (1 + limits.delta) * upper_rate(events[1], former.requests, alpha)
    if surely <= min(allowed, limit):
        return ""
    return (
        f"{name}: {events[0]} of {young.requests} requests, surely more than {surely:.3g}; "
        f"the version before it had {events[1]} of {former.requests}"
    )
