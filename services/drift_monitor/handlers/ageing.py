"""Closes windows that are old although no row comes that would show it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.failing import AFTER_FAILURE
from services.drift_monitor.handlers.predictions import Predictions
from services.drift_monitor.memory import Key, Slot
from services.drift_monitor.windows import LEAST_ROWS
from shared.ids import derived

TOGETHER: Final = 200
"""Windows that are asked for at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """Looks at the open windows now and then; several monitors may do so side by side.

    Attributes:
        failed: windows that could not be closed, and when that is tried again.
        unchecked: models whose champion's age could not be looked at, and the same.
    """

    predictions: Predictions
    failed: dict[Slot, datetime] = field(default_factory=dict)
    unchecked: dict[str, datetime] = field(default_factory=dict)

    async def check_age(self) -> int:
        """Say which champions are stale, and which are not any more; how many alarms changed."""
        return await self.predictions.checking.check_age(self.unchecked)

    async def close_old(self) -> int:
        """Close what is too old to stay open; how many windows that were.

        Each has a transaction of its own, and one that cannot be closed keeps no other waiting.

        Raises:
            Unavailable: the database is away.
        """
        store, now = self.predictions.store, self.predictions.judging.now()
        for slot in [slot for slot, at in self.failed.items() if at <= now]:
            del self.failed[slot]
        closed, last = 0, ("", 0, "")
        while slots := await store.old_windows(now, LEAST_ROWS, after=last, limit=TOGETHER):
            for slot in slots:
                if slot in self.failed:
                    continue
                with failing.left_out("closing_failed", slot[0]) as tried:
                    closed += await self._close(slot)
                if tried.error is not None:
                    self.failed[slot] = self.predictions.judging.now() + AFTER_FAILURE
            last = slots[-1]
        return closed

    async def _close(self, slot: Slot) -> int:
        store, judging = self.predictions.store, self.predictions.judging
        async with store.database.transaction():
            await store.lock([slot[0]])
            # Somebody else may have closed it while the lock was waited for.
            if not await store.is_old(slot, judging.now(), LEAST_ROWS):
                return 0
            return await self.close(slot)

    async def close(self, slot: Slot) -> int:
        """Close an open window as it is; the caller holds the lock of its model."""
        model, version, season = slot
        key: Key = (model, version)
        async with self.predictions.store.database.transaction() as transaction:
            closed = await self.predictions.placing.close(key, season)
            for window in closed:
                said = await self.predictions.conclude([window])
                base = derived(None, "aged", *key, window.number)
                await transaction.say(said, base=base)
        return len(closed)
