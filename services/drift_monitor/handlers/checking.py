"""Alarms about the data of windows, and about champions that are older than their data allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.drift_monitor.data_quality import Change, inspect, step
from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.failing import AFTER_FAILURE
from services.drift_monitor.handlers.profiles import Profiles
from services.drift_monitor.memory import Key
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.alarms import Stale
from services.drift_monitor.windows import Watched, Window
from shared.clock import Clock
from shared.events import DataQualityAlarmed, DataQualityCleared, Event, ModelName
from shared.ids import derived


@dataclass(frozen=True, slots=True, kw_only=True)
class Checking:
    """Says what is wrong with data once, and once that it is over."""

    store: PostgresStore
    profiles: Profiles
    now: Clock

    async def check(self, version: Watched, window: Window) -> list[Event]:
        """Inspect a window that has closed; the caller holds the lock of its model."""
        if window.sketch is None:
            return []
        reference = await self.profiles.of(version.reference)
        key: Key = (window.model, window.version)
        alarms = await self.store.alarms(key)
        said: list[Event] = []
        for finding in inspect(reference, window.sketch, window.absent):
            before = alarms.get(finding.kind)
            change = step(before, finding, window.number, version.policy.confirm)
            if change.alarm is not None and change.alarm != before:
                await self.store.save_alarm(key, change.alarm, self.now())
            elif change.alarm is None and before is not None:
                await self.store.drop_alarm(key, finding.kind)
            said += _words_of(window, change)
        return said

    async def check_age(self, waits: dict[str, datetime] | None = None) -> int:
        """Look at all champions; how many alarms changed. Each model has its own transaction.

        Args:
            waits: models that could not be looked at, and when that is tried again; nobody else
                waits for them.

        Raises:
            Unavailable: the database is away.
        """
        now, changed, waits = self.now(), 0, {} if waits is None else waits
        stale = {(one.model, one.version): one for one in await self.store.stale_now(now)}
        keys = stale.keys() ^ await self.store.stale_said()
        for model in sorted({model for model, _ in keys if waits.get(model, now) <= now}):
            waits.pop(model, None)
            with failing.left_out("checking_failed", model) as tried:
                await self._check_age_of(model)
            if tried.error is not None:
                waits[model] = now + AFTER_FAILURE
            else:
                changed += 1
        return changed

    async def _check_age_of(self, model: str) -> None:
        async with self.store.database.transaction() as transaction:
            await self.store.lock([model])
            now = self.now()
            stale = {(o.model, o.version): o for o in await self.store.stale_now(now, [model])}
            said = await self.store.stale_said([model])
            for key in sorted(said - stale.keys()):
                await self.store.drop_alarm(key, "stale")
                base = derived(None, "fresh", *key, now.isoformat())
                await transaction.say([_fresh(key)], base=base)
            for one in [one for key, one in stale.items() if key not in said]:
                alarm = _stale(one)
                await self.store.raise_stale((one.model, one.version), alarm.detail, now)
                # After a rollback the same version may lack the same data a second time.
                told = (one.model, one.version, one.lacking, now.isoformat())
                base = derived(None, "stale", *told)
                await transaction.say([alarm], base=base)


def _words_of(window: Window, change: Change) -> Sequence[Event]:
    match change.said, change.alarm:
        case "raised", alarm if alarm is not None:
            alarmed = DataQualityAlarmed(
                model=window.model,
                version=window.version,
                kind=change.kind,
                window=window.number,
                detail=alarm.detail,
            )
            return [alarmed]
        case "cleared", _:
            cleared = DataQualityCleared(
                model=window.model,
                version=window.version,
                kind=change.kind,
                window=window.number,
            )
            return [cleared]
        case _:
            return []


def _stale(one: Stale) -> DataQualityAlarmed:
    return DataQualityAlarmed(
        model=one.model,
        version=one.version,
        kind="stale",
        window=None,
        detail=f"{one.dataset}@{one.lacking}, published at {one.published_at:%Y-%m-%d %H:%M:%S}, "
        "is in no champion yet",
    )


def _fresh(key: Key) -> DataQualityCleared:
    return DataQualityCleared(model=ModelName(key[0]), version=key[1], kind="stale", window=None)
