"""Closes windows that are old although no row comes that would show it."""

from dataclasses import dataclass

from services.drift_monitor.handlers.predictions import Predictions
from services.drift_monitor.memory import Key
from services.drift_monitor.windows import LEAST_ROWS
from shared import telemetry
from shared.errors import NotFound, Unprocessable
from shared.ids import derived


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """Looks at the open windows now and then; several monitors may do so side by side."""

    predictions: Predictions

    async def close_old(self) -> int:
        """Close what is too old to stay open; how many windows that were."""
        store, now = self.predictions.store, self.predictions.judging.now
        closed = 0
        for key, season in await store.old_windows(now(), LEAST_ROWS):
            try:
                closed += await self._close(key, season)
            except (NotFound, Unprocessable) as error:
                # Its profile is gone or broken; the others do not wait for it.
                telemetry.log("closing_failed", level="error", model=key[0], reason=str(error))
        return closed

    async def _close(self, key: Key, season: str) -> int:
        store, judging = self.predictions.store, self.predictions.judging
        async with store.database.transaction() as transaction:
            await store.lock([key[0]])
            # Somebody else may have closed it while the lock was waited for.
            if (key, season) not in await store.old_windows(judging.now(), LEAST_ROWS):
                return 0
            closed = await self.predictions.placing.close(key, season)
            for window in closed:
                said = await self.predictions.conclude([window])
                base = derived(None, "aged", *key, window.number)
                await transaction.say(said, base=base)
        return len(closed)
