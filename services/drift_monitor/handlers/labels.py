"""Labels find their predictions: late, early, twice, revised; order makes no difference."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Final

from services.drift_monitor.handlers.judging import Judging, judged
from services.drift_monitor.handlers.telling import Telling
from services.drift_monitor.quality import Label, becomes, is_usable
from services.drift_monitor.store import Key, PostgresStore, Waiting
from services.drift_monitor.windows import Kept, Watched
from shared import telemetry
from shared.events import Event, GroundTruthObserved, Heard
from shared.streams import Positions

MOST_CHARACTERS: Final = 1000
MOST_REVISIONS: Final = 2**31
Place = tuple[str, int, int]
"""Model, version, window."""


@dataclass(slots=True)
class _Changes:
    """What a few labels change, worked out before anything is written."""

    rows: dict[str, Kept]
    waiting: dict[tuple[str, str], Waiting]
    changed: dict[str, Kept] = field(default_factory=dict)
    parked: dict[tuple[str, str], Waiting] = field(default_factory=dict)
    joined: Counter[Place] = field(default_factory=Counter)
    revised: set[Place] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Takes ground truth, from anybody at all: what cannot be used is counted, never believed."""

    store: PostgresStore
    judging: Judging
    telling: Telling

    async def take(
        self, heards: Sequence[Heard[GroundTruthObserved]], _positions: Positions
    ) -> Iterable[Event]:
        """Join labels to predictions, keep those without one, measure the windows they complete."""
        told = len(heards)
        heards = [heard for heard in heards if is_sane(heard.event)]
        telemetry.count("tidewheel_labels_total", told - len(heards), outcome="invalid")
        if not heards:
            return []
        ids = list({heard.event.prediction for heard in heards})
        await self.store.lock(heard.event.model for heard in heards)
        rows = await self.store.predictions(ids)
        unknown = [prediction for prediction in ids if prediction not in rows]
        changes = _Changes(rows, await self.store.waiting(unknown))
        versions = await self.store.versions(
            {(row.model, row.version) for row in rows.values() if row.version is not None}
        )
        for heard in heards:
            outcome = _apply(heard, changes, versions)
            telemetry.count("tidewheel_labels_total", outcome=outcome)
        await self.store.label(
            [
                judged(row, versions.get((row.model, row.version or 0)))
                for row in changes.changed.values()
            ]
        )
        await self.store.wait_for(list(changes.parked.values()))
        said = await self._conclude(changes, versions)
        return [*said, *await self.telling.tell(list(changes.changed.values()))]

    async def take_one(self, heard: Heard[GroundTruthObserved]) -> Iterable[Event]:
        """One label by itself: how a dead letter is tried again."""
        return await self.take([heard], {})

    async def _conclude(self, changes: _Changes, versions: dict[Key, Watched]) -> list[Event]:
        counted = Counter(dict.fromkeys(changes.revised, 0))
        counted.update(changes.joined)
        said: list[Event] = []
        for window in await self.store.count_labels(counted):
            key = (window.model, window.version)
            place = (window.model, window.version, window.number)
            versions[key], events = await self.judging.look(
                versions[key], window, revised=place in changes.revised
            )
            said += events
        return said


def is_sane(told: GroundTruthObserved) -> bool:
    """Whether a label can be kept at all; anybody may have sent it."""
    texts = [told.prediction, str(told.model), told.value if isinstance(told.value, str) else ""]
    return (
        all("\0" not in text and len(text) <= MOST_CHARACTERS for text in texts)
        and 0 <= told.revision < MOST_REVISIONS
        and told.observed_at.tzinfo is not None
        and (not isinstance(told.value, float) or isfinite(told.value))
    )


def _apply(
    heard: Heard[GroundTruthObserved], changes: _Changes, versions: dict[Key, Watched]
) -> str:
    """Take one label in; what became of it, for the counter."""
    told = heard.event
    label = Label(
        value=told.value,
        revision=told.revision,
        observed_at=told.observed_at,
        event=heard.id,
    )
    row = changes.rows.get(told.prediction)
    if row is None:
        return _park(told, label, changes)
    if row.model != told.model:
        return "conflict"
    version = versions.get((row.model, row.version or 0))
    if version is not None and not is_usable(label.value, version.classes):
        return "invalid"
    outcome = becomes(row.label, label)
    if outcome in ("joined", "revised"):
        labelled = replace(row, label=label)
        changes.rows[row.id] = changes.changed[row.id] = labelled
        if row.version is not None and row.window is not None:
            place = (str(row.model), row.version, row.window)
            if row.label is None:
                changes.joined[place] += 1
            elif row.label.value != label.value:
                changes.revised.add(place)
    return outcome


def _park(told: GroundTruthObserved, label: Label, changes: _Changes) -> str:
    place = (told.prediction, str(told.model))
    known = changes.waiting.get(place)
    outcome = becomes(known.label if known else None, label)
    if outcome not in ("joined", "revised"):
        return outcome
    waiting = Waiting(prediction=told.prediction, model=told.model, label=label)
    changes.waiting[place] = changes.parked[place] = waiting
    return "unknown"
