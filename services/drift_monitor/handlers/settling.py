"""What only time brings: no more labels are to come, and losses reach the age to be fed."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.store import PostgresStore
from shared import telemetry
from shared.ids import derived
from shared.postgres import Cause

TOGETHER: Final = 200
"""Models that are asked for at a time."""
PAUSE: Final = timedelta(seconds=15)
LONGEST_PAUSE: Final = timedelta(minutes=15)
OF_DELAY: Final = 0.02
"""Of the age at which labels are there: so late may be noticed that they are."""
AFTER_FAILURE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Looks at the models that are due, one after the other.

    Labels that come, and windows that close, make a model due; looking at it says when it is due
    again. So a round costs what has changed, however many models there are.
    """

    store: PostgresStore
    judging: Judging

    async def settle(self) -> int:
        """One round, each model in a transaction of its own; how many events were said."""
        began, said = self.judging.now(), 0
        # Whoever was looked at, or could not be, is due later than now: the round has an end.
        while models := await self.store.models_due(began, TOGETHER):
            for model in models:
                said += await self._settle_or_postpone(model)
        return said

    async def _settle_or_postpone(self, model: str) -> int:
        try:
            return await self.settle_one(model)
        except Exception as error:  # noqa: BLE001 - the others do not wait, whatever it was
            telemetry.log("settling_failed", level="error", model=model, exc_info=error)
        # Fails where it is the database that is away; then the round is over.
        later = self.judging.now() + AFTER_FAILURE
        await self.store.settle_again(model, later, later)
        return 0

    async def settle_one(self, model: str) -> int:
        """One model, if it is still due; how many events were said."""
        now = self.judging.now()
        cause = derived(None, "settle", model, now.isoformat())
        async with self.store.database.transaction(
            Cause(id=cause, correlation=cause)
        ) as transaction:
            await self.store.lock([model])
            if not await self.store.is_settling_due(model, now):
                return 0
            events = await self.judging.settle(model)
            pause = await self._pause(model)
            due_at = await self.judging.next_due(model, pause)
            await self.store.settle_again(model, due_at, now + pause)
            await transaction.say(events)
        return len(events)

    async def _pause(self, model: str) -> timedelta:
        """How long news of a model are gathered before it is looked at again."""
        settled = (await self.store.settled([model])).get(model)
        return min(max(PAUSE, timedelta(seconds=OF_DELAY * (settled or 0.0))), LONGEST_PAUSE)
