"""A window that is full is compared; one whose labels have come is measured; both are said."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import assert_never

from services.drift_monitor.answers import after_alarm, after_measure, after_quiet
from services.drift_monitor.brake import USUAL, Limits
from services.drift_monitor.detection import HISTORY, Comparison, compare
from services.drift_monitor.domain import Decided, Subject
from services.drift_monitor.drift import after_estimate, after_window
from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.apart import apart
from services.drift_monitor.handlers.deciding import Deciding
from services.drift_monitor.handlers.history import readable
from services.drift_monitor.handlers.measuring import (
    First,
    Measuring,
    below_rule,
    is_due,
)
from services.drift_monitor.handlers.profiles import Profiles
from services.drift_monitor.quality import Alarm, Quiet
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.store.qualities import Look
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.windows import Watched, Window
from shared import telemetry
from shared.artifacts import digest_of
from shared.clock import Clock
from shared.events import Digest, Event, WindowEvaluated
from shared.manifest import Manifest
from shared.sketch import Sketch


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Dependencies of every verdict about a window."""

    store: PostgresStore
    profiles: Profiles
    now: Clock
    alpha: float
    limits: Limits = USUAL
    _manifests: dict[Digest, Manifest] = field(default_factory=dict)

    @property
    def measuring(self) -> Measuring:
        """How good answers are."""
        return Measuring(store=self.store, profiles=self.profiles, now=self.now, alpha=self.alpha)

    @property
    def deciding(self) -> Deciding:
        """Where signs lead."""
        return Deciding(
            store=self.store,
            fetch=self.profiles.fetch,
            now=self.now,
            limits=self.limits,
            manifests=self._manifests,
            fetching=self.profiles.fetching,
        )

    async def close(self, version: Watched, window: Window) -> tuple[Watched, list[Event]]:
        """Compare a full window with the reference; the version as it stands afterwards."""
        reference = await self.profiles.of(version.reference)
        place = (str(window.model), window.version, window.number)
        kept = await self.store.sketches_before(place, window.season, HISTORY - 1)
        with telemetry.timed("tidewheel_monitor_window_close_seconds"):
            layout = reference.layout
            newest = window.sketch or layout.of_counts(window.counts)
            found = compare(
                reference,
                [newest, *readable(self.store, layout, place, kept).values()],
                alpha=self.alpha,
                shift=version.policy.shift,
                season=window.season,
            )
        counts = digest_of(newest.to_bytes())
        await self.store.save_comparison(window, found, counts)
        await self.store.wake(window.model)
        self._count(window, found.tier)
        subject = await self._subject(version, window)
        version, estimated = await self._estimate(version, window, subject)
        decided = after_window(version.watch, subject, found)
        version, said = await self.deciding.settle(version, subject, decided)
        return version, [_evaluated(version, window, newest, counts, found), *estimated, *said]

    async def give_up(self, version: Watched, window: Window, reason: str) -> list[Event]:
        """Say that a full window cannot be compared; the caller holds the lock of its model."""
        detail = f"no verdict; {reason}"
        await self.store.save_no_verdict(window, detail)
        await self.store.wake(window.model)
        self._count(window, "insufficient")
        return [_not_evaluated(version, window, self.alpha, detail)]

    def _count(self, window: Window, verdict: str) -> None:
        counted = partial(telemetry.count, "tidewheel_drift_windows_total", model=window.model)
        self.store.database.after_commit(partial(counted, verdict=verdict))

    async def look(
        self, version: Watched, look: Look, *, revised: bool = False
    ) -> tuple[Watched, list[Event]]:
        """Measure a closed window when its labels have reached a further step, or one changed."""
        told = await self.measuring.look(version, look, revised=revised)
        if told is None:
            return version, []
        found = told.found
        subject = await self._subject(version, _window(version, look))
        said: list[Event] = [told.said]
        key = (str(version.model), version.version)
        if await self.store.change_rule(key, found.rule) and found.rule == "worse":
            said.append(below_rule(version, look.number, found))
        decided = after_measure(version.watch, subject, version.metric, found)
        version, follows = await self.deciding.settle(version, subject, decided)
        return version, [*said, *follows]

    async def after_labels(
        self, joined: Collection[Place], revised: Collection[Place] = ()
    ) -> list[Event]:
        """Measure the windows whose labels have reached a further step, or in which one changed.

        What cannot be measured now is when more labels come, or when no more are to come.
        """
        looks = await self.store.looks({*joined, *revised})
        due = {place: look for place, look in looks.items() if is_due(look, place in revised)}
        keys = await self.measurable({place[:2] for place in due})

        async def measure(places: Sequence[Place]) -> list[Event]:
            return await self.look_at({place: due[place] for place in places}, revised)

        async def note(place: Place, error: Exception) -> None:
            failing.tell("measuring_failed", place[0], error, version=place[1], window=place[2])

        ready = [place for place in sorted(due) if place[:2] in keys]
        return await apart(self.store.database, ready, measure, note)

    async def measurable(self, keys: Collection[Key]) -> set[Key]:
        """Those of the versions whose labels can be held against their profiles now."""
        if not keys:
            return set()
        known = await self.profiles.versions(self.store, keys)
        return {
            key
            for key, version in known.items()
            if await self.profiles.failure(version, for_labels=True) is None
        }

    async def look_at(
        self, looks: Mapping[Place, Look], revised: Collection[Place] = ()
    ) -> list[Event]:
        """Measure these windows, as far as there is something new to say; what that leads to."""
        keys = {(model, version) for model, version, _ in looks}
        versions = await self.store.versions(keys) if keys else {}
        said: list[Event] = []
        for place, look in sorted(looks.items(), key=lambda one: one[0]):
            key = (place[0], place[1])
            if key in versions:
                versions[key], events = await self.look(
                    versions[key], look, revised=place in revised
                )
                said += events
        return said

    async def feed(self, versions: Mapping[Key, Watched], first: First) -> list[Event]:
        """Feed the running tests of versions; what their alarms lead to."""
        said: list[Event] = []
        for alarmed in await self.measuring.feed(versions, first):
            key = (str(alarmed.version.model), alarmed.version.version)
            look = (await self.store.looks([(*key, alarmed.window)])).get((*key, alarmed.window))
            version = (await self.store.versions([key]))[key]
            window = _window(version, look) if look else _nowhere(version, self.now())
            subject = await self._subject(version, window)
            decided = _after_test(version, subject, alarmed.found)
            _, events = await self.deciding.settle(version, subject, decided)
            said += events
        return said

    async def _estimate(
        self, version: Watched, window: Window, subject: Subject
    ) -> tuple[Watched, list[Event]]:
        """What the scores of a closed window let expect, before its drift is judged."""
        estimated = await self.measuring.estimate(version, window)
        if estimated is None:
            return version, []
        found, said = estimated
        decided = after_estimate(version.watch, subject, found)
        version, follows = await self.deciding.settle(version, subject, decided)
        return version, [said, *follows]

    async def _subject(self, version: Watched, window: Window) -> Subject:
        standing = await self.store.standing(version.model)
        return Subject(
            model=version.model,
            version=version.version,
            window=window.number,
            policy=version.policy,
            is_champion=standing.champion == version.version,
            asked_at=standing.asked_at,
            now=self.now(),
            started_at=window.started_at,
            ended_at=window.ended_at,
            season=window.season,
        )


def _after_test(version: Watched, subject: Subject, found: Alarm | Quiet) -> Decided:
    match found:
        case Alarm():
            return after_alarm(version.watch, subject, version.metric, found)
        case Quiet():
            return after_quiet(version.watch, subject, version.metric, found.level)
        case _:
            assert_never(found)


def _window(version: Watched, look: Look) -> Window:
    return Window(
        model=version.model,
        version=version.version,
        number=look.number,
        rows=look.rows,
        started_at=look.begun_at,
        ended_at=look.ended_at,
        season=look.season,
        is_closed=look.is_closed,
    )


def _nowhere(version: Watched, now: datetime) -> Window:
    """For an alarm about rows that are in no window that is kept."""
    return Window(
        model=version.model,
        version=version.version,
        number=0,
        rows=0,
        started_at=now,
        ended_at=now,
    )


def _not_evaluated(version: Watched, window: Window, alpha: float, detail: str) -> WindowEvaluated:
    return WindowEvaluated(
        model=window.model,
        version=window.version,
        window=window.number,
        rows=window.rows,
        started_at=window.started_at,
        ended_at=window.ended_at,
        drifted=False,
        alpha=alpha,
        features=(),
        detail=detail,
        tier="insufficient",
        mode="insufficient",
        reference=version.reference,
    )


def _evaluated(
    version: Watched, window: Window, sketch: Sketch, counts: Digest, found: Comparison
) -> WindowEvaluated:
    return replace(
        _not_evaluated(version, window, found.alpha, found.detail),
        drifted=found.severity is not None,
        features=found.features,
        tier=found.tier,
        mode=found.mode,
        scales=found.scales,
        family_p=found.family_p,
        counts=counts,
        invalid=int(sketch.invalid.sum()),
    )
