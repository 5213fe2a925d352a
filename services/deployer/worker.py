"""The clock's door: looks at an endpoint when its moment has come."""

import asyncio
import random
from typing import Final

from services.deployer.handlers import Rollouts
from services.deployer.store import Store
from shared import telemetry
from shared.clock import Clock
from shared.errors import Unavailable
from shared.postgres import Database

_LOOK_SECONDS: Final = 1.0
"""Timers armed meanwhile are seen after at most so long."""
_RETRY_SECONDS: Final = 2.0


class Timers:
    """Claims timers that ran out; several processes may do this side by side."""

    def __init__(self, database: Database, store: Store, rollouts: Rollouts, now: Clock) -> None:
        self._database = database
        self._store = store
        self._rollouts = rollouts
        self._now = now

    async def run(self) -> None:
        """Until cancelled; a database that is away is waited for."""
        while True:
            try:
                while await self.take_one():
                    pass
                await asyncio.sleep(await self._rest())
            except Unavailable as error:
                telemetry.log("timers_wait", level="warning", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries

    async def take_one(self) -> bool:
        """Look at one endpoint whose moment has come; whether there was one."""
        async with self._database.transaction():
            await self._rollouts.acting.governance.hold()
            found = await self._store.lock_due(self._now())
            if found is not None:
                await self._rollouts.look_again(*found)
        return found is not None

    async def _rest(self) -> float:
        due = await self._store.next_due()
        if due is None:
            return _LOOK_SECONDS
        return min(max((due - self._now()).total_seconds(), 0.01), _LOOK_SECONDS)
