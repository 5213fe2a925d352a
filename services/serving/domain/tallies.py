"""What an arm did since it was last measured, and whom it met."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from shared.latency import CELLS, cell_of

MOST_MET: Final = 100_000
"""Entities that are remembered per endpoint, some 10 MB; beyond, new ones are counted no longer."""


FAILED: Final = 1
SLOW: Final = 2


@dataclass(slots=True, kw_only=True)
class Visits:
    """Who asked an arm since the last measure, and whether anything of theirs went wrong.

    An entity that asks again and again with the same rows meets the same fault again and again;
    counted row by row it would look like many independent faults.

    A measure grows while the broker is away. So rows without an entity, each for itself, are
    counted by their fate, and beyond `most` entities new ones are passed over.
    """

    most: int = MOST_MET
    fates: dict[int, int] = field(default_factory=dict)
    """By the hash of an entity."""
    alone: dict[int, int] = field(default_factory=dict)
    """Rows without an entity, by fate."""

    def note(self, entity: str | None, fate: int) -> None:
        """A row was answered, or was not."""
        if entity is None:
            self.alone[fate] = self.alone.get(fate, 0) + 1
            return
        key = hash(entity)
        if key in self.fates or len(self.fates) < self.most:
            self.fates[key] = self.fates.get(key, 0) | fate

    def count(self, fate: int = 0) -> int:
        """Visits with this fate; all without one."""
        of_entities = sum(1 for found in self.fates.values() if found & fate == fate)
        return of_entities + sum(n for found, n in self.alone.items() if found & fate == fate)


@dataclass(slots=True, kw_only=True)
class ArmTally:
    """What one arm did since the last measure.

    Attributes:
        requests: rows that were routed here, or that a shadow was asked about.
        errors: of those, the rows without an answer of its own that may be given.
        counts: rows per latency cell; for a shadow the time of its own answer alone.
        dropped, compared, disagreed: of shadows only.
    """

    requests: int = 0
    errors: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * CELLS)
    new_entities: int = 0
    dropped: int = 0
    compared: int = 0
    disagreed: int = 0
    visits: Visits = field(default_factory=Visits)

    def add(self, rows: int, errors: int, seconds: float) -> None:
        """So many rows were routed here; `errors` of them a lower rung had to answer."""
        self.requests += rows
        self.errors += errors
        self.counts[cell_of(seconds)] += rows

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say."""
        return not self.requests and not self.dropped

    def clear(self) -> None:
        """Begin anew."""
        self.requests = self.errors = self.new_entities = 0
        self.dropped = self.compared = self.disagreed = 0
        self.visits = Visits()
        self.counts = [0] * CELLS


@dataclass(slots=True, kw_only=True)
class Met:
    """The entities that asked in one generation; each meets the same arm as long as it lasts."""

    most: int = MOST_MET
    hashes: set[int] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        """Whether new entities can no longer be told from known ones."""
        return len(self.hashes) >= self.most

    def count_new(self, entities: Iterable[str | None]) -> int:
        """How many of them are here for the first time; 0 once it is full."""
        if self.is_full:
            return 0
        before = len(self.hashes)
        self.hashes.update(hash(entity) for entity in entities if entity is not None)
        return len(self.hashes) - before
