"""Windows of versions that do not answer any more do not stay open for ever."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.ageing import Ageing
from services.drift_monitor.memory import Slot
from services.drift_monitor.windows import LEAST_ROWS
from shared import telemetry

TOGETHER: Final = 200
"""Windows that are asked for at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retiring:
    """Closes what was left open, or drops it where it has too few rows to say anything.

    Attributes:
        horizon: how long predictions are kept; a window none of whose rows is kept any more has
            had no row for at least so long.
    """

    ageing: Ageing
    horizon: timedelta

    async def retire(self) -> int:
        """One round; how many windows are open no more. Each has a transaction of its own.

        Raises:
            Unavailable: the database is away.
        """
        predictions = self.ageing.predictions
        before, retired = predictions.judging.now() - self.horizon, 0
        last: Slot = ("", 0, "")
        while slots := await predictions.store.idle_windows(before, after=last, limit=TOGETHER):
            for slot in slots:
                with failing.left_out("retiring_failed", slot[0], version=slot[1]):
                    retired += await self._retire(slot, before)
            last = slots[-1]
        return retired

    async def _retire(self, slot: Slot, before: datetime) -> int:
        store = self.ageing.predictions.store
        async with store.database.transaction():
            await store.lock([slot[0]])
            # Rows may have come while the lock was waited for.
            rows = await store.idle_rows(slot, before)
            if rows is None:
                return 0
            if rows >= LEAST_ROWS:
                return await self.ageing.close(slot)
            await store.drop_open(slot)
        telemetry.log("window_dropped", model=slot[0], version=slot[1], season=slot[2], rows=rows)
        return 1
