"""What only time brings: no more labels are to come, and losses reach the age to be fed."""

from dataclasses import dataclass

from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.store import PostgresStore
from shared import telemetry
from shared.errors import NotFound, Unprocessable
from shared.ids import derived
from shared.postgres import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Looks at every model that labels have come for, one after the other."""

    store: PostgresStore
    judging: Judging

    async def settle(self) -> int:
        """One round, each model in a transaction of its own; how many events were said."""
        said = 0
        for model in await self.store.labelled_models():
            try:
                said += await self.settle_one(model)
            except (NotFound, Unprocessable) as error:
                # Its profile is gone or broken; the others do not wait for it.
                telemetry.log("settling_failed", level="error", model=model, reason=str(error))
        return said

    async def settle_one(self, model: str) -> int:
        """One model; how many events were said."""
        cause = derived(None, "settle", model, self.judging.now().isoformat())
        async with self.store.database.transaction(
            Cause(id=cause, correlation=cause)
        ) as transaction:
            await self.store.lock([model])
            events = await self.judging.settle(model)
            await transaction.say(events)
        return len(events)
