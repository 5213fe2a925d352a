"""Puts rows into windows: in memory, and in the same transaction into the database."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest

from services.drift_monitor.handlers.profiles import Profiles
from services.drift_monitor.layouts import Grid
from services.drift_monitor.memory import Key, Mark, Memory, Slot, Turn, after_parts, interned
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.sketches import Filled, Place, Progress
from services.drift_monitor.windows import Kept, Open, Part, Plan, Watched, Window, allot
from shared import telemetry
from shared.clock import Clock
from shared.seasons import season_of
from shared.sketch import Sketch, read_sketch


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What became of rows.

    Attributes:
        rows: in their order.
        windows: the number of the window of each, by its id; none where no version claims it.
        closed: windows that were closed, in the order in which they were filled, with sketches.
    """

    rows: Sequence[Kept]
    windows: Mapping[str, int]
    closed: list[Window]


@dataclass(slots=True)
class _Round:
    """What is saved at the end, and what memory holds from then on."""

    filled: dict[Place, Filled] = field(default_factory=dict)
    sketches: dict[Place, Sketch] = field(default_factory=dict)
    marks: dict[Slot, Mark] = field(default_factory=dict)
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Knows the open windows. Whoever calls holds the lock of the models."""

    store: PostgresStore
    profiles: Profiles
    memory: Memory
    now: Clock

    async def place(self, rows: Sequence[Kept], plans: Mapping[Key, Plan] | None = None) -> Placed:
        """Count rows in their windows, and close those that are full or old.

        Rows of versions that are not known, or that others wait for, are left without a window.

        Args:
            plans: of their versions, where these rows are those that were waited for.
        """
        own: dict[Key, list[Kept]] = defaultdict(list)
        for row in rows:
            if row.version is not None:
                own[row.model, row.version].append(row)
        if plans is None:
            plans = await self.plans(own)
            if len(plans) < len(own):
                await self.store.mark_behind(own.keys() - plans.keys())
        progress = await self.store.progress(plans, _seasons(own, plans))
        parts = {
            key: allot(progress[key].opened, progress[key].newest, own[key], plan)
            for key, plan in plans.items()
            if key in progress
        }
        closed = await self._fill(parts, plans, progress)
        windows = {
            row.id: part.window.number
            for some in parts.values()
            for part in some
            for row in part.rows
        }
        return Placed(rows=rows, windows=windows, closed=closed)

    async def close(self, key: Key, season: str) -> list[Window]:
        """Close an open window as it is."""
        plans = await self.plans([key])
        progress = await self.store.progress([key], [season])
        window = progress[key].opened.get(season) if key in progress else None
        if window is None or key not in plans:
            return []
        part = Part(window=window, rows=(), closes=True)
        return await self._fill({key: [part]}, plans, progress)

    async def recall(self) -> int:
        """Bring back the open windows after a start; how many there were."""
        found = await self.store.every_open(self.memory.most)
        # Versions whose cells were not kept yet are read from their profiles when rows come.
        planned = await self.store.planned({key for key, _, _ in found})
        self.memory.plan_all({key: plan for key, (plan, _) in planned.items()})
        # What is there already is newer: rows may have come since the start, or come now.
        fresh = {
            (*key, window.season): (window, *planned[key], saved)
            for key, window, saved in reversed(found)
            if key in planned and not self.memory.knows((*key, window.season))
        }
        self.memory.open_all((slot, *one[1:]) for slot, one in fresh.items())
        marks = {slot: (window.number, window.rows) for slot, (window, *_) in fresh.items()}
        self.memory.settle(self.memory.begin(marks), marks)
        return len(marks)

    async def plans(self, keys: Collection[Key]) -> dict[Key, Plan]:
        """How versions are cut into windows; without those that nobody has registered."""
        known = self.memory.plans
        found = {key: known[key] for key in keys if key in known}
        missing = [key for key in keys if key not in found]
        if missing:
            found |= await self.store.plans(missing)
            if left := [key for key in missing if key not in found]:
                found |= await self._plan_old(await self.store.without_cells(left))
            async with self.store.database.transaction() as transaction:
                # What comes to nothing is not remembered: its cells would not be there.
                transaction.after_commit.append(partial(self.memory.plan_all, found))
        return found

    async def _plan_old(self, keys: Collection[Key]) -> dict[Key, Plan]:
        """Of versions that were registered before their cells were kept."""
        found: dict[Key, Plan] = {}
        for key, version in (await self.store.versions(keys)).items() if keys else ():
            # Rows that came while the profile could not be read are counted before newer ones.
            if await self.store.has_unclaimed(key):
                continue
            if await self.profiles.failure(version) is None:
                found[key] = await self.plan_old(version)
        return found

    async def plan_old(self, version: Watched) -> Plan:
        """The plan of such a version; its cells are kept from now on.

        Raises:
            StoreUnavailable, NotFound, Unprocessable: its profile cannot be had, or cannot be read.
        """
        layout = (await self.profiles.of(version.reference)).layout
        plan = Plan(
            columns=interned(version.columns),
            width=len(layout.features),
            window=version.policy.window,
        )
        await self.store.plan_version((str(version.model), version.version), plan, Grid.of(layout))
        return plan

    async def _fill(
        self,
        parts: Mapping[Key, Sequence[Part]],
        plans: Mapping[Key, Plan],
        progress: Mapping[Key, Progress],
    ) -> list[Window]:
        by_slot: dict[Slot, list[Part]] = defaultdict(list)
        for key, some in parts.items():
            for part in some:
                by_slot[*key, part.window.season].append(part)
        missing = self._missing(by_slot, progress)
        # From here on nobody drops what is in memory, though others may run meanwhile.
        turn = self.memory.begin(by_slot)
        await self._load(missing, plans)
        done = _Round()
        for together in zip_longest(*by_slot.values()):
            pairs = [
                (slot, part)
                for slot, part in zip(by_slot, together, strict=True)
                if part is not None
            ]
            self._count(pairs, plans, done)
        saved = await self.store.save_windows(list(done.filled.values()), self.now())
        async with self.store.database.transaction() as transaction:
            transaction.after_commit.append(lambda: self._settle(turn, done))
        return [
            replace(saved[key[0], key[1], part.window.number], sketch=done.sketches[place])
            for key, some in parts.items()
            for part in some
            if (place := (key[0], key[1], part.window.number)) in done.sketches and part.closes
        ]

    def _count(
        self, pairs: Sequence[tuple[Slot, Part]], plans: Mapping[Key, Plan], done: _Round
    ) -> None:
        """One part of every slot at most: what follows it is counted after it has closed."""
        self.memory.count((slot, plans[slot[0], slot[1]], part.rows) for slot, part in pairs)
        done.rows += sum(len(part.rows) for _, part in pairs)
        for slot, part in pairs:
            self._note(slot, part, done)

    def _note(self, slot: Slot, part: Part, done: _Round) -> None:
        model, version, _ = slot
        place = (model, version, part.window.number)
        parts = self.memory.filling.parts(slot)
        done.filled[place] = Filled(
            key=(model, version),
            window=part.window,
            # What is written again soon is not squeezed: that costs more than the database saves.
            sketch=parts.to_bytes(1 if part.closes else 0),
            is_closed=part.closes,
        )
        done.marks[slot] = after_parts(part.window, closes=part.closes)
        if part.closes:
            done.sketches[place] = read_sketch(parts)
            self.memory.filling.clear(slot)

    def _settle(self, turn: Turn, done: _Round) -> None:
        self.memory.settle(turn, done.marks)
        telemetry.count("tidewheel_monitor_rows_total", done.rows)

    def _missing(
        self, slots: Iterable[Slot], progress: Mapping[Key, Progress]
    ) -> dict[Slot, Open | None]:
        """Slots whose sketches are not in memory as the database has them."""
        found: dict[Slot, Open | None] = {}
        for slot in slots:
            window = progress[slot[0], slot[1]].opened.get(slot[2])
            held = self.memory.is_blank(slot) if window is None else self.memory.holds(slot, window)
            if not held:
                found[slot] = window
        return found

    async def _load(self, missing: Mapping[Slot, Open | None], plans: Mapping[Key, Plan]) -> None:
        if not missing:
            return
        grids = await self.store.grids({(slot[0], slot[1]) for slot in missing})
        places = [(*slot[:2], window.number) for slot, window in missing.items() if window]
        saved = await self.store.sketches(places) if places else {}
        self.memory.open_all(
            (
                slot,
                plans[slot[:2]],
                grids[slot[:2]],
                saved[*slot[:2], window.number] if window else None,
            )
            for slot, window in missing.items()
        )


def _seasons(own: Mapping[Key, Iterable[Kept]], plans: Mapping[Key, Plan]) -> set[str]:
    found = {""}
    for key, plan in plans.items():
        if plan.season is not None:
            found |= {season_of(plan.season, row.at) for row in own[key]}
    return found
