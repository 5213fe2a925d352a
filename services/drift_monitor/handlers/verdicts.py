"""Every closed window gets its verdict: at once, or as soon as there is what it takes.

A verdict needs the profile of its version, which may be gone or broken. Then the window waits with
its rows and its sketch, those after it wait behind it, and other models do not notice.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Final

from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.apart import apart
from services.drift_monitor.handlers.checking import Checking
from services.drift_monitor.handlers.failing import AFTER_FAILURE
from services.drift_monitor.handlers.fetching import NotFetched
from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.memory import Key
from services.drift_monitor.periods import base_of_verdict
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.windows import Watched, Window
from shared import telemetry
from shared.errors import ArtifactCorrupt, NotFound, Unavailable
from shared.events import Event
from shared.postgres import Cause

TOGETHER: Final = 200
"""Windows that are asked for at a time."""
MOST_TRIES: Final = 12
"""Of a verdict that fails, over an hour; whatever passes by itself is no try."""
LONGEST_REASON: Final = 500
Said = tuple[Cause, Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Compares closed windows and inspects their data, those of a version in their order."""

    store: PostgresStore
    judging: Judging
    checking: Checking

    async def judge(self, closed: Sequence[Window]) -> None:
        """Judge windows that have closed now, and say it; the caller holds their models' locks."""
        if not closed:
            return
        keys = {_key(one) for one in closed}
        versions = await self.store.versions(keys)
        waits = await self._waits(keys, versions)
        for window in closed:
            if _key(window) in waits:
                await self.store.judge_later(_place(window), waits[_key(window)])
        ready = [window for window in closed if _key(window) not in waits]
        failed: set[Key] = set()

        async def judge(windows: Sequence[Window]) -> list[Said]:
            for window in windows:
                if _key(window) in failed:  # one before it has; those after it wait behind it
                    await self._postpone(window)
            return await self._judge([one for one in windows if _key(one) not in failed])

        async def note(window: Window, error: Exception) -> None:
            _tell(_place(window), error)
            failed.add(_key(window))
            await self._postpone(window)

        async with self.store.database.transaction() as transaction:
            await transaction.say_each(await apart(self.store.database, ready, judge, note))

    async def _waits(
        self, keys: Collection[Key], versions: Mapping[Key, Watched]
    ) -> dict[Key, datetime]:
        """Versions none of whose windows can be judged now, and when that is tried again."""
        later = self.judging.now() + AFTER_FAILURE
        waits = {key: later for key in keys if key not in versions}
        waits |= await self.store.unjudged_of(versions)
        for key in versions.keys() - waits.keys():
            if await self.judging.profiles.failure(versions[key]) is not None:
                waits[key] = later
        return waits

    async def _judge(self, windows: Sequence[Window]) -> list[Said]:
        """Say the verdict of each window, and what follows, before the next one is looked at.

        What is decided then may name it as evidence. Its id is a function of the window alone.

        Returns:
            What is about something that others speak of, too: it is to be said at once for all
            windows. The lock of a model is held, so its own place can be taken at any time; two
            who took the places of two datasets one after the other would wait for each other.
        """
        others: list[Said] = []
        keys = {_key(one) for one in windows}
        versions = await self.store.versions(keys) if keys else {}
        async with self.store.database.transaction() as transaction:
            for window in windows:
                version, drift = await self.judging.close(versions[_key(window)], window)
                said = [*drift, *await self.checking.check(version, window)]
                base = base_of_verdict(*_place(window))
                cause = replace(transaction.cause_of(window.model), base=base)
                await transaction.say([e for e in said if e.subject == window.model], cause=cause)
                others += [(cause, event) for event in said if event.subject != window.model]
                versions[_key(window)] = version
        return others

    async def _postpone(self, window: Window) -> None:
        await self.store.judge_later(_place(window), self.judging.now() + AFTER_FAILURE)

    # --- later ------------------------------------------------------------------------------------

    async def judge_due(self) -> int:
        """One round: judge what could not be judged before; how many windows have a verdict.

        Each has a transaction of its own. What fails holds up the windows of its version that came
        after it, and nothing else.

        Raises:
            Unavailable: the database is away.
        """
        began, judged = self.judging.now(), 0
        # Whoever was judged, or could not be, is not due any more: the round has an end.
        while places := await self.store.unjudged_due(began, TOGETHER):
            for key, some in groupby(places, lambda place: place[:2]):
                judged += await self._judge_version(key, list(some))
        return judged

    async def tell(self) -> None:
        """How many windows wait for their verdicts."""
        telemetry.gauge("tidewheel_monitor_windows_unjudged", await self.store.count_unjudged())

    async def _judge_version(self, key: Key, places: Sequence[Place]) -> int:
        """Judge windows of a version in their order, up to the first that fails."""
        judged, waits = 0, True
        with failing.left_out("judging_failed", key[0], version=key[1]):
            waits = not await self._is_readable(key)
            for place in places if not waits else ():
                waits = True  # unless this one gets its verdict
                done = await self._judge_or_note(place)
                if done is None:
                    break
                judged, waits = judged + done, False
        if waits:
            await self.store.judge_all_later(key, self.judging.now() + AFTER_FAILURE)
        return judged

    async def _is_readable(self, key: Key) -> bool:
        """Whether what verdicts of a version need can be had by now; its windows wait on if not.

        Nothing is locked meanwhile: it may take a while until an artifact store says no.
        """
        version = (await self.store.versions([key])).get(key)
        if version is None or await self.judging.profiles.failure(version, anew=True) is not None:
            return False
        # Not every verdict needs it; those that do find it, or fail at once.
        await self.judging.deciding.lacks(version)
        return True

    async def _judge_or_note(self, place: Place) -> int | None:
        """Judge a window; None if that failed, and those after it wait.

        Raises:
            Unavailable: the database is away.
        """
        try:
            return await self._judge_one(place)
        except NotFetched as error:
            _tell(place, error)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the others do not wait, whatever it was
            _tell(place, error)
            return await self._note_try(place, error)
        return None

    async def _note_try(self, place: Place, error: Exception) -> int | None:
        """After many tries a window goes without a verdict, so that others get theirs."""
        async with self.store.database.transaction() as transaction:
            await self.store.lock([place[0]])
            version = (await self.store.versions([place[:2]]))[place[:2]]
            is_gone = isinstance(error, NotFound | ArtifactCorrupt)
            if is_gone and await self.judging.deciding.lacks(version):
                return None  # it may be brought back, and until then no other would fare better
            if await self.store.note_try(place) < MOST_TRIES:
                return None
            window = await self.store.unreadable(place, self.judging.now())
            if window is None:
                return 0
            reason = f"judged in vain {MOST_TRIES} times: {type(error).__name__}: {error}"
            said = await self.judging.give_up(version, window, reason[:LONGEST_REASON])
            await transaction.say(said, base=base_of_verdict(*place))
        return 0

    async def _judge_one(self, place: Place) -> int:
        async with self.store.database.transaction() as transaction:
            await self.store.lock([place[0]])
            # Somebody else may have judged it while the lock was waited for.
            window = await self.store.unjudged(place, self.judging.now())
            if window is None:
                return 0
            await transaction.say_each(await self._judge([window]))
            said = await self.judging.after_labels([place])
            await transaction.say(said, base=base_of_verdict(*place))
        return 1


def _key(window: Window) -> Key:
    return str(window.model), window.version


def _place(window: Window) -> Place:
    return str(window.model), window.version, window.number


def _tell(place: Place, error: Exception) -> None:
    failing.tell("judging_failed", place[0], error, version=place[1], window=place[2])
