"""What the monitor remembers between two batches: plans of versions and sketches of open windows.

Memory is never ahead of the database: it holds what a committed transaction has saved, or what an
open one is about to save. Which of both is known by number and rows of the window. Whoever finds
another number or other rows in the database, under the lock of the model, reads the sketch anew:
so it does not matter which process counted last, or whether this one's transaction came to nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import Final
from weakref import ReferenceType, ref

from services.drift_monitor.detection.filling import Filling, Group, Known
from services.drift_monitor.layouts import Grid
from services.drift_monitor.windows import Kept, Open, Plan
from shared.sketch import Parts

Key = tuple[str, int]
"""Model and version."""
Slot = tuple[str, int, str]
"""Model, version, season."""
Mark = tuple[int, int]
"""Number of a window and how many rows it has; it only ever grows."""

MOST_SLOTS: Final = 20_000
_NOTHING: Final = (0, 0)


@lru_cache(maxsize=4 * MOST_SLOTS)
def interned(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same object for the same names, so that comparing them costs nothing."""
    return names


class Turn:
    """Somebody is about to save what was counted."""

    __slots__ = ("__weakref__",)


@dataclass(slots=True)
class Memory:
    """Plans by version, and the sketches of open windows; the least recently used go first."""

    most: int = MOST_SLOTS
    plans: dict[Key, Plan] = field(default_factory=dict)
    filling: Filling[Slot] = field(default_factory=Filling)
    _marks: dict[Slot, Mark] = field(default_factory=dict)
    _turns: dict[Slot, ReferenceType[Turn]] = field(default_factory=dict)

    def plan_all(self, plans: Mapping[Key, Plan]) -> None:
        """Remember how versions are cut; it never changes."""
        self.plans |= plans

    def knows(self, slot: Slot) -> bool:
        """Whether there is a sketch here, or somebody is about to bring one."""
        return slot in self.filling or slot in self._turns

    def holds(self, slot: Slot, window: Open) -> bool:
        """Whether the sketch of this window is here as the database has it."""
        return self._marks.get(slot) == (window.number, window.rows)

    def begin(self, slots: Iterable[Slot]) -> Turn:
        """From here on the sketches of these are ahead of the database, until `settle`.

        Whoever can settle the turn holds it; once nobody does, its transaction came to nothing.
        """
        turn = Turn()
        known = ref(turn)
        for slot in slots:
            self._marks.pop(slot, None)
            self._turns[slot] = known
        return turn

    def settle(self, turn: Turn, marks: Mapping[Slot, Mark]) -> None:
        """The transaction is committed: what it counted is what the database has.

        Where somebody else began meanwhile, only the latter knows what is in the sketch.
        """
        for slot, mark in marks.items():
            began = self._turns.get(slot)
            if began is not None and began() is turn:
                del self._turns[slot]
                self._marks[slot] = mark
        self._make_room(marks)

    def open(self, slot: Slot, plan: Plan, grid: Grid, saved: bytes | None) -> None:
        """Begin with what is saved of a window, or with none of it."""
        self.open_all([(slot, plan, grid, saved)])

    def open_all(self, every: Iterable[tuple[Slot, Plan, Grid, bytes | None]]) -> None:
        """The same for many windows, no slot twice."""
        self.filling.restore_all(
            Known(slot, grid, Parts.read(saved) if saved is not None else None, plan.window)
            for slot, plan, grid, saved in every
        )

    def count(self, rows: Iterable[tuple[Slot, Plan, Sequence[Kept]]]) -> None:
        """Count rows, each in its slot; no slot twice."""
        self.filling.count([Group(slot, *plan.values(some)) for slot, plan, some in rows])

    def is_blank(self, slot: Slot) -> bool:
        """Whether a slot is there and has no window."""
        return self._marks.get(slot) == _NOTHING

    def forget(self, slots: Collection[Slot]) -> None:
        """Drop what is known of these slots."""
        for slot in slots:
            self._marks.pop(slot, None)
            self._turns.pop(slot, None)
            self.filling.drop(slot)
            self.plans.pop((slot[0], slot[1]), None)

    def _make_room(self, used: Mapping[Slot, Mark]) -> None:
        for slot in used:
            if slot in self._marks:
                self._marks[slot] = self._marks.pop(slot)
        excess = len(self._marks) + len(self._turns) - self.most
        if excess > 0:
            came_to_nothing = [slot for slot, turn in self._turns.items() if turn() is None]
            self.forget(list(islice(chain(came_to_nothing, self._marks), excess)))


def after_parts(window: Open, *, closes: bool) -> Mark:
    """What a slot holds once its newest window is as given."""
    return _NOTHING if closes else (window.number, window.rows)
