"""Predictions fill windows: each counts once, whatever is delivered again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from services.drift_monitor.comparison import Unseen
from services.drift_monitor.handlers.judging import Judging, judged
from services.drift_monitor.handlers.telling import Telling
from services.drift_monitor.quality import is_usable
from services.drift_monitor.store import Judged, Key, PostgresStore
from services.drift_monitor.windows import Kept, Watched, Window, fill
from shared import telemetry
from shared.events import Event, Heard, PredictionsLogged
from shared.streams import Positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Takes micro-batches of serving; its windows are saved with the place in the stream."""

    store: PostgresStore
    judging: Judging
    telling: Telling

    async def take(
        self, heards: Sequence[Heard[PredictionsLogged]], _positions: Positions
    ) -> Iterable[Event]:
        """Count the rows of batches that were never counted; close the windows they fill.

        The kernel keeps the place in the stream by the ids of these events in the same
        transaction; a batch that a replica sent twice under two ids is known by its number.
        """
        batches = [heard.event for heard in heards]
        new = await self.store.note_batches([(b.replica, b.batch) for b in batches])
        rows: dict[str, Kept] = {}
        unseen: dict[str, Unseen] = {}
        for batch in batches:
            if (batch.replica, batch.batch) in new:
                new.discard((batch.replica, batch.batch))
                for row in batch.rows:
                    if row.shadow_of is None:
                        rows.setdefault(row.id, Kept.of(batch, row))
                    else:
                        unseen.setdefault(row.id, Unseen.of(row))
        return await self._absorb(rows, list(unseen.values()))

    async def take_one(self, heard: Heard[PredictionsLogged]) -> Iterable[Event]:
        """One batch by itself: how a dead letter is tried again."""
        return await self.take([heard], {})

    async def _absorb(self, rows: dict[str, Kept], unseen: Sequence[Unseen]) -> list[Event]:
        if not rows and not unseen:
            return []
        await self.store.lock([r.model for r in rows.values()] + [one.model for one in unseen])
        unseen = await self.store.add_unseen(unseen)
        known = await self.store.known_ids(list(rows))
        versions = await self.store.versions(_keys(rows.values()))
        fresh = await self._labelled(
            [row for row in rows.values() if row.id not in known], versions
        )
        placed, touched = await self.place(fresh, versions)
        await self.store.add_predictions(placed)
        said = await self.conclude(touched, versions)
        told = await self.telling.tell_late(unseen, [row for row, _, _ in placed])
        return [*said, *told]

    async def _labelled(self, rows: list[Kept], versions: dict[Key, Watched]) -> list[Kept]:
        """The rows, with the labels that came before them."""
        early = await self.store.take_waiting([row.id for row in rows])
        own = {row.id: row for row in rows}
        for waiting in early:
            row = own[waiting.prediction]
            version = versions.get((row.model, row.version or 0))
            outcome = "early"
            if waiting.model != row.model:
                outcome = "conflict"
            elif version and not is_usable(waiting.label.value, version.classes):
                outcome = "invalid"
            else:
                own[row.id] = replace(row, label=waiting.label)
            telemetry.count("tidewheel_labels_total", outcome=outcome)
        return list(own.values())

    async def place(
        self, rows: Sequence[Kept], versions: dict[Key, Watched]
    ) -> tuple[list[Judged], list[Window]]:
        """Put rows into windows, and save those; rows of no known version are kept without one."""
        open_windows = await self.store.open_windows(versions)
        placed = {row.id: row for row in rows}
        own: dict[Key, list[Kept]] = {key: [] for key in versions}
        for row in rows:
            if row.version is not None and (row.model, row.version) in own:
                own[row.model, row.version].append(row)
        touched: list[Window] = []
        for key, version in versions.items():
            reference = await self.judging.profiles.of(version.reference)
            for window, taken in fill(*open_windows[key], own[key], version, reference.layout):
                touched.append(window)
                placed |= {row.id: row for row in taken}
        await self.store.save_windows(touched, self.judging.now())
        return [
            judged(row, versions.get((row.model, row.version or 0))) for row in placed.values()
        ], touched

    async def conclude(
        self, touched: Sequence[Window], versions: dict[Key, Watched]
    ) -> list[Event]:
        """Compare the windows that are full, and measure those whose labels were there before."""
        said: list[Event] = []
        for window in touched:
            if not window.is_closed:
                continue
            version = versions[window.model, window.version]
            version, drift = await self.judging.close(version, window)
            version, quality = await self.judging.look(version, window)
            versions[window.model, window.version] = version
            said += [*drift, *quality]
        return said


def _keys(rows: Iterable[Kept]) -> set[Key]:
    return {(row.model, row.version) for row in rows if row.version is not None}
