"""What the registry says of itself and of all models as metrics, from what the log knows."""

from dataclasses import dataclass

from services.registry.freshness import longest_waits
from services.registry.store import Store
from shared import telemetry
from shared.clock import Clock
from shared.outcomes import State

_NO_ENDS = frozenset({State.IN_PROGRESS.value, State.WAITING.value})


@dataclass(frozen=True, slots=True)
class Vitals:
    """Sets the gauges anew every time, so that a restart shows the same figures."""

    store: Store
    now: Clock

    async def tell(self) -> None:
        """How old each model's data is, what stands still, and how stories ended since."""
        now = self.now()
        standings = await self.store.freshness.standings()
        telemetry.gauges(
            "tidewheel_model_info",
            [({"model": s.model, "owner": s.owner, "dataset": s.dataset}, 1) for s in standings],
        )
        telemetry.gauges(
            "tidewheel_model_staleness_seconds",
            [({"model": s.model}, s.staleness(now)) for s in standings],
        )
        telemetry.gauges(
            "tidewheel_model_freshness_objective_seconds",
            [({"model": s.model}, s.objective.total_seconds()) for s in standings if s.objective],
        )
        for stage, seconds in longest_waits(await self.store.freshness.pending(), now).items():
            telemetry.gauge("tidewheel_cascade_oldest_pending_seconds", seconds, stage=stage)
        await self.tell_ends()

    async def tell_ends(self) -> None:
        """Stories whose end this replica folded; each is told once by whoever folded it."""
        events = self.store.log.take_ends()
        for state, seconds in await self.store.freshness.ended(events) if events else []:
            if state not in _NO_ENDS:
                telemetry.observe(
                    "tidewheel_cascade_duration_seconds", max(0.0, seconds), outcome=state
                )
