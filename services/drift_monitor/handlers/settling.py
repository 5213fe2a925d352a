"""What only time brings: no more labels are to come, and losses reach the age to be fed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor, log2
from typing import Final

from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.apart import apart
from services.drift_monitor.handlers.failing import AFTER_FAILURE
from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.handlers.measuring import fed_age
from services.drift_monitor.quality import Delays
from services.drift_monitor.quality.delays import STEPS_PER_DECADE
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.store.outcomes import Fed
from services.drift_monitor.store.qualities import Look
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.windows import Watched
from shared.events import Event
from shared.ids import derived
from shared.postgres import Cause

TOGETHER: Final = 200
"""Models that are asked for at a time."""
MOST_WINDOWS: Final = 100
"""Of one model that are looked at together."""
OF_DELAY: Final = 0.05
"""Of the age at which labels are there: so late may be noticed that they are."""
PAUSE: Final = timedelta(seconds=15)
LONGEST_PAUSE: Final = timedelta(minutes=30)
AGES_APART: Final = 10 ** (1 / STEPS_PER_DECADE) - 1
"""Relative; delays are known no finer."""
LONGEST: Final = timedelta(days=7)
"""A moment that somebody's clock has put into the far future is not waited for any longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Looks at the models that are due, one after the other.

    Labels that come, and windows that close, make a model due; looking at it says when it is due
    again. So a round costs what has changed, however many models there are. A version whose profile
    cannot be had waits for a while, with its windows and its losses; others of its model do not.
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
            failing.tell("settling_failed", model, error)
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
            events = await self._settle(model, now)
            await transaction.say(events)
        return len(events)

    async def _settle(self, model: str, now: datetime) -> list[Event]:
        """What time has brought for a locked model, and when it is due again."""
        delays = await self.judging.measuring.learn_delays(model)
        said = await self._settle_windows(model, delays, now)
        settled = delays.settled if delays else None
        events, failed = await self._feed(model, settled, now)
        said += events
        moments = await self._fed_at(model, settled, failed)
        window = await self.store.next_look(model)
        if window is not None:
            moments = [*moments, window]
        pause = min(max(PAUSE, timedelta(seconds=OF_DELAY * (settled or 0.0))), LONGEST_PAUSE)
        await self.store.settle_again(model, soonest(moments, now, pause), now + pause)
        return said

    async def _settle_windows(
        self, model: str, delays: Delays | None, now: datetime
    ) -> list[Event]:
        """Measure windows whose labels are all there by now, for the last time."""
        looks = await self.store.looks(await self._windows_due(model, now))
        settled = delays.settled if delays else None
        again = {place: look_again_at(look, settled, now) for place, look in looks.items()}
        is_ripe = self.judging.measuring.is_ripe
        ripe = [place for place, look in looks.items() if is_ripe(look, delays)]

        async def measure(places: Sequence[Place]) -> list[Event]:
            return await self.judging.look_at({place: looks[place] for place in places})

        async def note(place: Place, error: Exception) -> None:
            failing.tell("measuring_failed", model, error, version=place[1], window=place[2])
            again[place] = max(again[place], now + AFTER_FAILURE)

        said = await apart(self.store.database, sorted(ripe), measure, note)
        await self.store.look_again(again)
        return said

    async def _windows_due(self, model: str, now: datetime) -> list[Place]:
        """Windows of versions whose profiles can be had; those of the others are due later."""
        while True:
            places = await self.store.windows_due(model, now, MOST_WINDOWS)
            keys = {place[:2] for place in places}
            unread = keys - await self.judging.measurable(keys)
            if not unread:
                return places
            # All of them, or they would be in the way of other versions' the next time.
            versions = [version for _, version in unread]
            await self.store.look_later(model, versions, now, now + AFTER_FAILURE)

    async def _feed(
        self, model: str, settled: float | None, now: datetime
    ) -> tuple[list[Event], set[Key]]:
        """Feed the losses that have reached their age; the versions where that failed."""
        unfed = await self.store.unfed(model)
        versions = await self._versions(unfed)
        ripe: dict[Key, Watched] = {}
        for key, version in versions.items():
            age = fed_age(version, settled)
            if age is not None and now - unfed[key] >= age:
                ripe[key] = version
        ready = await self.judging.measurable(ripe)
        failed = ripe.keys() - ready

        async def feed(keys: Sequence[Key]) -> list[Event]:
            return await self.judging.feed({key: ripe[key] for key in keys}, _no_news)

        async def note(key: Key, error: Exception) -> None:
            failing.tell("feeding_failed", model, error, version=key[1])
            failed.add(key)

        return await apart(self.store.database, sorted(ready), feed, note), failed

    async def _fed_at(
        self, model: str, settled: float | None, failed: Collection[Key]
    ) -> list[datetime]:
        """When losses that nobody has fed are to be fed."""
        unfed, now = await self.store.unfed(model), self.judging.now()
        ages = {
            key: fed_age(version, settled) for key, version in (await self._versions(unfed)).items()
        }
        return [
            max(fed_at(unfed[key], age, now), now + AFTER_FAILURE if key in failed else now)
            for key, age in ages.items()
            if age is not None
        ]

    async def _versions(self, keys: Mapping[Key, datetime]) -> dict[Key, Watched]:
        return await self.judging.profiles.versions(self.store, keys) if keys else {}


def _no_news(_key: Key, _until: datetime) -> Sequence[Fed]:
    """No label has come now."""
    return ()


# --- what is due when -------------------------------------------------------------------------


def look_again_at(look: Look, settled: float | None, now: datetime) -> datetime:
    """When a window that is not settled is looked at next.

    First at the age at which nearly all labels are there; later whenever it has grown by about a
    third, which is as finely as delays are known, and in step with other windows.
    """
    age = (now - look.ended_at).total_seconds()
    if settled is not None and age < settled:
        return now + min(timedelta(seconds=settled - age), LONGEST)
    step = 2 ** floor(log2(min(max(age * AGES_APART, PAUSE.total_seconds()), 2**19)))
    return now + timedelta(seconds=1.5 * step - (now.timestamp() + step / 2) % step)


def fed_at(at: datetime, age: timedelta, now: datetime) -> datetime:
    """When a loss is fed; one that cannot be is tried again and again, ever less often."""
    waits = age - (now - at)
    if waits > timedelta(0):
        return now + min(waits, LONGEST)
    return now - waits * OF_DELAY


def soonest(moments: Sequence[datetime], now: datetime, pause: timedelta) -> datetime | None:
    """The first of these moments, neither at once nor beyond all reason; None without any."""
    if not moments:
        return None
    return min(max(min(moments), now + pause), now + LONGEST)
