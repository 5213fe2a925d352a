"""What is fetched while models are locked: once for all who want it, and not waited for for long.

PostgreSQL ends a transaction that idles for a minute. Whoever waited longer for an artifact store
that hangs would lose everything it has counted, and begin again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from shared.errors import StoreUnavailable, Unavailable
from shared.events import Digest

T = TypeVar("T")

MOST_SECONDS: Final = 10.0
"""That anybody waits for an artifact."""
SILENT_SECONDS: Final = 10.0
"""So long nothing else is asked for after somebody has waited in vain."""
GIVEN_UP_SECONDS: Final = 300.0
"""What has not come by then is asked for anew."""
MOST_OVERDUE: Final = 4
"""Fetches that nobody waits for any more; each holds a thread until the store answers."""


class NotFetched(StoreUnavailable):
    """An artifact is not given out now; the database is well."""


class NotAsked(NotFetched):
    """It was not even asked for: others have just been asked for in vain."""


@dataclass(slots=True, kw_only=True)
class _Pending:
    task: "asyncio.Task[Any]"
    began: float
    is_overdue: bool = False


@dataclass(slots=True, kw_only=True)
class Fetching:
    """Fetches by digest; what is late is not waited for again, and kept by its `load` if it comes.

    Attributes:
        most_seconds: that one call may wait.
    """

    most_seconds: float = MOST_SECONDS
    _pending: dict[Digest, _Pending] = field(default_factory=dict)
    _silent_until: float = 0.0

    async def get(
        self,
        digest: Digest,
        load: Callable[[Digest], Awaitable[T]],
        *,
        anew: bool = False,
        one_of_many: bool = False,
    ) -> T:
        """What `load` makes of a digest; callers at the same time share one call of it.

        Args:
            anew: ask for it though something else did not come a moment ago.
            one_of_many: others follow with models locked, and each may take a while to fail: where
                the store is not there, they are not asked for.

        Raises:
            NotFetched: it did not come in time, or is not asked for now (`NotAsked`).
            Exception: whatever else `load` raises.
        """
        pending = self._pending.get(digest) or self._begin(digest, load, anew=anew)
        if not pending.is_overdue:
            # Leaves the task alone when the time is over, or when this caller is cancelled.
            await asyncio.wait({pending.task}, timeout=self.most_seconds)
        if not pending.task.done():
            self._note(digest, pending)
            raise NotFetched(f"{digest} did not come within {self.most_seconds:g} s")
        try:
            found: T = pending.task.result()
        except Unavailable as error:
            if one_of_many:
                self._silent_until = time.monotonic() + SILENT_SECONDS
            raise NotFetched(str(error)) from error
        return found

    def _begin(
        self, digest: Digest, load: Callable[[Digest], Awaitable[T]], *, anew: bool
    ) -> _Pending:
        overdue = sum(one.is_overdue for one in self._pending.values())
        if overdue >= MOST_OVERDUE or (time.monotonic() < self._silent_until and not anew):
            raise NotAsked("the artifact store has not answered others")
        # Of no transaction: that of the first caller may be over long before.
        task = asyncio.create_task(_call(load, digest), context=Context())
        pending = self._pending[digest] = _Pending(task=task, began=time.monotonic())
        task.add_done_callback(partial(self._end, digest))
        return pending

    def _note(self, digest: Digest, pending: _Pending) -> None:
        now = time.monotonic()
        if not pending.is_overdue:
            pending.is_overdue, self._silent_until = True, now + SILENT_SECONDS
        elif now > pending.began + GIVEN_UP_SECONDS:
            pending.task.cancel()
            self._pending.pop(digest, None)

    def _end(self, digest: Digest, task: "asyncio.Task[Any]") -> None:
        pending = self._pending.get(digest)
        if pending is not None and pending.task is task:
            del self._pending[digest]
        if not task.cancelled():
            task.exception()  # else asyncio complains that nobody has asked


async def _call(load: Callable[[Digest], Awaitable[T]], digest: Digest) -> T:
    return await load(digest)
