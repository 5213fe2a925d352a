"""Every closed window gets its verdict: at once, or as soon as there is what it takes.

A verdict needs the profile of its version, which may be gone or broken. Then the window waits with
its rows and its sketch, those after it wait behind it, and other models do not notice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.apart import apart
from services.drift_monitor.handlers.checking import Checking
from services.drift_monitor.handlers.failing import AFTER_FAILURE
from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.memory import Key
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.windows import Watched, Window
from shared import telemetry
from shared.errors import Unavailable
from shared.events import Event
from shared.ids import derived

TOGETHER: Final = 200
"""Windows that are asked for at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Compares closed windows and inspects their data, those of a version in their order."""

    store: PostgresStore
    judging: Judging
    checking: Checking

    async def judge(self, closed: Sequence[Window]) -> list[Event]:
        """Judge windows that have closed now; the caller holds the locks of their models."""
        if not closed:
            return []
        keys = {_key(one) for one in closed}
        versions = await self.store.versions(keys)
        waits = await self._waits(versions)
        for window in closed:
            if _key(window) in waits:
                await self.store.judge_later(_place(window), waits[_key(window)])
        ready = [window for window in closed if _key(window) not in waits]
        return await apart(self.store.database, ready, self._judge, self._note)

    async def _waits(self, versions: dict[Key, Watched]) -> dict[Key, datetime]:
        """Versions none of whose windows can be judged now, and when that is tried again."""
        waits = await self.store.unjudged_of(versions)
        for key in versions.keys() - waits.keys():
            if await self.judging.profiles.failure(versions[key]) is not None:
                waits[key] = self.judging.now() + AFTER_FAILURE
        return waits

    async def _judge(self, windows: Sequence[Window]) -> list[Event]:
        versions = await self.store.versions({_key(one) for one in windows})
        said: list[Event] = []
        for window in windows:
            version, drift = await self.judging.close(versions[_key(window)], window)
            said += [*drift, *await self.checking.check(version, window)]
            versions[_key(window)] = version
        return said

    async def _note(self, window: Window, error: Exception) -> None:
        _tell(_place(window), error)
        await self.store.judge_later(_place(window), self.judging.now() + AFTER_FAILURE)

    # --- later ------------------------------------------------------------------------------------

    async def judge_due(self) -> int:
        """One round: judge what could not be judged before; how many windows have a verdict.

        Each has a transaction of its own, and whatever fails keeps no other waiting.

        Raises:
            Unavailable: the database is away, or the artifact store; the next round goes on behind
                the version that could not be asked for.
        """
        began, judged = self.judging.now(), 0
        # Whoever was judged, or could not be, is not due any more: the round has an end.
        while places := await self.store.unjudged_due(began, TOGETHER):
            for key, some in groupby(places, lambda place: place[:2]):
                if await self._is_readable(key):
                    for place in some:
                        judged += await self._judge_or_postpone(place)
        return judged

    async def tell(self) -> None:
        """How many windows wait for their verdicts."""
        telemetry.gauge("tidewheel_monitor_windows_unjudged", await self.store.count_unjudged())

    async def _is_readable(self, key: Key) -> bool:
        """Whether the profile of a version can be read by now; its windows wait on where not.

        Nothing is locked meanwhile: an artifact store may take minutes to say no.
        """
        version = (await self.store.versions([key]))[key]
        error = await self.judging.profiles.failure(version, anew=True)
        if error is not None:
            await self.store.judge_all_later(key, self.judging.now() + AFTER_FAILURE)
        if isinstance(error, Unavailable):
            raise error
        return error is None

    async def _judge_or_postpone(self, place: Place) -> int:
        try:
            return await self._judge_one(place)
        except Exception as error:  # noqa: BLE001 - the others do not wait, whatever it was
            _tell(place, error)
        # Fails where it is the database that is away; then the round is over.
        await self.store.judge_later(place, self.judging.now() + AFTER_FAILURE)
        return 0

    async def _judge_one(self, place: Place) -> int:
        async with self.store.database.transaction() as transaction:
            await self.store.lock([place[0]])
            # Somebody else may have judged it while the lock was waited for.
            window = await self.store.unjudged(place, self.judging.now())
            if window is None:
                return 0
            said = await self._judge([window])
            said += await self.judging.after_labels([place])
            await transaction.say(said, base=derived(None, "judged", *place))
        return 1


def _key(window: Window) -> Key:
    return str(window.model), window.version


def _place(window: Window) -> Place:
    return str(window.model), window.version, window.number


def _tell(place: Place, error: Exception) -> None:
    failing.tell("judging_failed", place[0], error, version=place[1], window=place[2])
