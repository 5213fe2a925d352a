"""When an endpoint is measured, and what it says of its arms."""

from dataclasses import dataclass

from services.serving.domain.endpoints import Endpoint
from services.serving.domain.tallies import FAILED, SLOW
from shared.events import ArmMeasure


@dataclass(slots=True, kw_only=True)
class Measure:
    """The running measure of one endpoint; generations are never mixed in one."""

    endpoint: Endpoint
    since: float
    is_replaced: bool = False

    def is_due(self, now: float) -> bool:
        """Each second while it is watched, else each minute, and at once when it was replaced."""
        every = 1.0 if self.endpoint.is_watched else 60.0
        return self.is_replaced or now - self.since >= every

    @property
    def is_empty(self) -> bool:
        """Whether nobody asked since it was said."""
        return all(tally.is_empty for tally in self.endpoint.tallies)

    def take(self) -> tuple[ArmMeasure, ...]:
        """What the arms did, and begin anew; empty when nobody asked."""
        arms = self.endpoint.desired.arms
        found = tuple(
            ArmMeasure(
                version=arm.version,
                role=arm.role,
                requests=tally.requests,
                errors=tally.errors,
                latency_counts=tuple(tally.counts),
                visits=tally.visits.count() if self.endpoint.is_watched else None,
                visits_failed=tally.visits.count(FAILED),
                visits_slow=tally.visits.count(SLOW),
                new_entities=tally.new_entities,
                dropped=tally.dropped,
                compared=tally.compared,
                disagreed=tally.disagreed,
            )
            for arm, tally in zip(arms, self.endpoint.tallies, strict=False)
        )
        if self.is_empty:
            return ()
        for tally in self.endpoint.tallies:
            tally.clear()
        return found
