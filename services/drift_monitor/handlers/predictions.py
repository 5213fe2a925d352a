"""Predictions fill windows: each counts once, whatever is delivered again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from services.drift_monitor.comparison import Unseen
from services.drift_monitor.handlers.checking import Checking
from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.handlers.labels import Labels
from services.drift_monitor.handlers.placing import Placing
from services.drift_monitor.handlers.telling import Telling
from services.drift_monitor.handlers.verdicts import Verdicts
from services.drift_monitor.memory import Memory, interned
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.windows import Kept, Window
from shared.events import Event, Heard, PredictionsLogged
from shared.streams import Positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Takes micro-batches of serving; windows are saved with the place in the stream."""

    store: PostgresStore
    judging: Judging
    telling: Telling
    memory: Memory = field(default_factory=Memory)

    @property
    def placing(self) -> Placing:
        """Where rows go."""
        judging = self.judging
        return Placing(
            store=self.store, profiles=judging.profiles, memory=self.memory, now=judging.now
        )

    @property
    def labels(self) -> Labels:
        """Who joins labels that came before."""
        return Labels(store=self.store, judging=self.judging, telling=self.telling)

    @property
    def checking(self) -> Checking:
        """What is wrong with the data of a window."""
        return Checking(store=self.store, profiles=self.judging.profiles, now=self.judging.now)

    @property
    def verdicts(self) -> Verdicts:
        """Who judges windows that are closed."""
        return Verdicts(store=self.store, judging=self.judging, checking=self.checking)

    async def take(
        self, heards: Sequence[Heard[PredictionsLogged]], positions: Positions
    ) -> Iterable[Event]:
        """Count the rows of batches that were never counted; close the windows they fill.

        Rows, sketches, what is said and the place in the stream are one transaction. The kernel
        keeps the ids of these events in it, too; a batch that a replica sent twice under two ids
        is known by its number.
        """
        batches = [heard.event for heard in heards]
        new = await self.store.note_batches([(b.replica, b.batch) for b in batches])
        await self.store.note_applied(positions)
        rows: dict[str, Kept] = {}
        unseen: dict[str, Unseen] = {}
        for batch in batches:
            if (batch.replica, batch.batch) in new:
                new.discard((batch.replica, batch.batch))
                # The names of a batch are few; one object for each makes comparing them cheap.
                known = replace(batch, columns=tuple(map(interned, batch.columns)))
                for row in batch.rows:
                    if row.shadow_of is None:
                        rows.setdefault(row.id, Kept.of(known, row))
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
        placed = await self.placing.place([row for row in rows.values() if row.id not in known])
        await self.store.add_predictions(placed.rows, placed.windows)
        said = await self.conclude(placed.closed, placed.rows)
        told = await self.telling.tell_late(unseen, placed.rows)
        return [*said, *told]

    async def conclude(self, closed: Sequence[Window], arrived: Sequence[Kept] = ()) -> list[Event]:
        """Judge windows that were closed, and measure those whose labels were there before.

        Verdicts are said at once, what is measured is returned.

        Args:
            arrived: rows that have come now; labels may have come before them.
        """
        await self.verdicts.judge(closed)
        early = await self.labels.join_early(arrived) if arrived else []
        places = [(str(one.model), one.version, one.number) for one in closed]
        return [*early, *await self.judging.after_labels(places)]
