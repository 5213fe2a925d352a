"""What versions looked like when they were made, fetched once and kept for a while."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.windows import Watched
from shared.events import Digest
from shared.reference import ANSWER, SCORE, Losses, Reference, read_reference
from shared.scores import Scores
from shared.sketch import NumberCells

MOST_PROFILES: Final = 256
"""Profiles kept in memory; one has 50 to 500 kB as bytes and about as much unpacked."""
MOST_YARDSTICKS: Final = 20_000
"""One has about 3 kB."""

Fetch = Callable[[Digest], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """The part of a profile that labels are held against.

    Attributes:
        cells: of the score, or of the answer where it is a number; None where there is neither.
        is_answer: whether they are cells of the answer.
        scores: what they meant on the held-out rows.
    """

    losses: Losses
    cells: NumberCells | None
    is_answer: bool
    scores: Scores | None

    @classmethod
    def of(cls, reference: Reference) -> "Yardstick":
        """The part of this profile."""
        last = reference.layout.features[-1] if reference.layout.features else None
        is_score = isinstance(last, NumberCells) and last.name in (ANSWER, SCORE)
        cells = last if is_score and isinstance(last, NumberCells) else None
        return cls(
            losses=reference.losses,
            cells=cells,
            is_answer=cells is not None and cells.name == ANSWER,
            scores=reference.scores,
        )


@dataclass(slots=True)
class Profiles:
    """Reference profiles by digest; the least recently used one is dropped first."""

    fetch: Fetch
    _known: dict[Digest, Reference] = field(default_factory=dict)
    _yardsticks: dict[Digest, Yardstick] = field(default_factory=dict)
    _versions: dict[Key, Watched] = field(default_factory=dict)

    async def of(self, digest: Digest) -> Reference:
        """The profile with this digest.

        Raises:
            StoreUnavailable, NotFound, Unprocessable: it cannot be had, or cannot be read.
        """
        found = self._known.pop(digest, None) or read_reference(await self.fetch(digest))
        self._known[digest] = found
        if len(self._known) > MOST_PROFILES:
            del self._known[next(iter(self._known))]
        return found

    async def versions(self, store: PostgresStore, keys: Collection[Key]) -> dict[Key, Watched]:
        """Versions by what never changes of them; how they stand may be long past here."""
        missing = [key for key in keys if key not in self._versions]
        if missing:
            self._versions |= await store.versions(missing)
        found = {key: self._versions[key] for key in keys if key in self._versions}
        while len(self._versions) > MOST_YARDSTICKS:
            del self._versions[next(iter(self._versions))]
        return found

    async def yardstick(self, digest: Digest) -> Yardstick:
        """The small part of a profile that labels need.

        Raises:
            StoreUnavailable, NotFound, Unprocessable: it cannot be had, or cannot be read.
        """
        found = self._yardsticks.get(digest)
        if found is None:
            found = self._yardsticks[digest] = Yardstick.of(await self.of(digest))
            if len(self._yardsticks) > MOST_YARDSTICKS:
                del self._yardsticks[next(iter(self._yardsticks))]
        return found
