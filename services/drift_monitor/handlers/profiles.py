"""What versions looked like when they were made, fetched once and kept for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.fetching import Fetching, NotAsked
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.windows import Watched
from shared.events import Digest
from shared.recent import Recent
from shared.reference import ANSWER, SCORE, Losses, Reference, read_reference
from shared.scores import Scores
from shared.sketch import NumberCells

MOST_BYTES: Final = 256 * 2**20
"""Of profiles that are kept in memory, with what is worked out from them."""
LARGE_BYTES: Final = 2**20
"""Of a profile that takes too long to read beside everything else."""
MOST_YARDSTICKS: Final = 20_000
"""One has about 3 kB."""
UNREAD_SECONDS: Final = 60.0
"""A profile that could not be had is not asked for again any sooner, unless by a round."""

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
        cells = score_cells(last if isinstance(last, NumberCells) else None)
        return cls(
            losses=reference.losses,
            cells=cells,
            is_answer=is_of_answers(cells),
            scores=reference.scores,
        )


def score_cells(last: NumberCells | None) -> NumberCells | None:
    """The last cells of a profile where they are of the score, or of an answer that is a number."""
    return last if last is not None and last.name in (ANSWER, SCORE) else None


def is_of_answers(cells: NumberCells | None) -> bool:
    """Whether they are cells of the answer."""
    return cells is not None and cells.name == ANSWER


def lean(reference: Reference) -> Reference:
    """A profile without what only reports need of it, two thirds of its memory."""
    seasons = {key: lean(one) for key, one in reference.seasons.items()}
    blocks = np.zeros((0, reference.layout.size), dtype=np.int64)
    return replace(reference, sample=(), blocks=blocks, seasons=seasons)


def size_of(reference: Reference) -> int:
    """About the bytes that a lean profile takes, once windows were compared with it.

    Counted from its shape, which costs nothing; `tests/drift_monitor/test_profiles.py` holds it
    against what is really allocated.
    """
    layout = reference.layout
    numbers = layout.basis.size if layout.basis else 0
    parts = [reference, *reference.seasons.values()]
    return layout.size * (100 + 8 * numbers) + sum(_size_of_part(part) for part in parts)


def _size_of_part(reference: Reference) -> int:
    layout, features = reference.layout, len(reference.layout.features)
    numbers = layout.basis.size if layout.basis and reference.together else 0
    read = 5_000 + 8 * layout.size + 120 * features + 30 * numbers * numbers
    if reference.mode == "insufficient":
        return read  # it is never prepared
    factors = sum(one is not None for scale in reference.scales for one in scale.factors)
    pairs = numbers * (numbers - 1) // 2
    prepared = 90 * layout.size + 900 * features + pairs * (120 + 40 * len(reference.scales))
    return read + prepared + 500 * factors


@dataclass(slots=True)
class Profiles:
    """Reference profiles by digest; the least recently used one is dropped first.

    Attributes:
        most_bytes: that all of them may take in memory; at least one is kept.
    """

    fetch: Fetch
    most_bytes: int = MOST_BYTES
    fetching: Fetching = field(default_factory=Fetching)
    _known: Recent[Digest, Reference] = field(init=False)
    _yardsticks: dict[Digest, Yardstick] = field(default_factory=dict)
    _versions: dict[Key, Watched] = field(default_factory=dict)
    _unread: dict[Digest, tuple[float, Exception]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = Recent(self.most_bytes)

    async def of(self, digest: Digest, *, anew: bool = False) -> Reference:
        """The profile with this digest, as far as verdicts need it: without sample and blocks.

        Args:
            anew: ask for it though something else did not come a moment ago.

        Raises:
            StoreUnavailable, NotFound, Unprocessable: it cannot be had in time, or not be read.
        """
        found = self._known.get(digest)
        if found is None:
            found = await self.fetching.get(digest, self._load, anew=anew, one_of_many=True)
        return found

    async def _load(self, digest: Digest) -> Reference:
        """Kept where it comes, even if nobody waits for it any more."""
        found = lean(await self.whole(digest))
        self._known.keep(digest, found, size_of(found))
        return found

    async def failure(
        self, version: Watched, *, anew: bool = False, for_labels: bool = False
    ) -> Exception | None:
        """Why the profile of a version cannot be had or read now, which is logged; None if it can.

        Args:
            anew: ask for it again, however short ago that was in vain.
            for_labels: the part that labels need is enough.
        """
        digest = version.reference
        if self._known.get(digest) or (for_labels and digest in self._yardsticks):
            return None
        until, known = self._unread.pop(digest, (0.0, None))
        if known is None or anew or time.monotonic() >= until:
            try:
                found = await self.of(digest, anew=anew)
                if for_labels:
                    self._keep_yardstick(digest, found)
            except NotAsked as error:
                return error
            except Exception as error:  # noqa: BLE001 - whatever it is, this version alone waits
                failing.tell("profile_unreadable", version.model, error, version=version.version)
                until, known = time.monotonic() + UNREAD_SECONDS, error.with_traceback(None)
            else:
                return None
        self._unread[digest] = (until, known)
        while len(self._unread) > MOST_YARDSTICKS:
            del self._unread[next(iter(self._unread))]
        return known

    async def whole(self, digest: Digest) -> Reference:
        """The profile with its sample of rows; fetched and read anew each time.

        Raises:
            StoreUnavailable, NotFound, Unprocessable: it cannot be had, or cannot be read.
        """
        found = await self.fetch(digest)
        if len(found) < LARGE_BYTES:
            return read_reference(found)
        return await asyncio.to_thread(read_reference, found)

    async def versions(self, store: PostgresStore, keys: Collection[Key]) -> dict[Key, Watched]:
        """Versions by what never changes of them; how they stand may be long past here."""
        found = {key: self._versions[key] for key in keys if key in self._versions}
        missing = [key for key in keys if key not in found]
        if missing:
            found |= await store.versions(missing)
            # Others may have dropped meanwhile what was known.
            self._versions |= found
        while len(self._versions) > MOST_YARDSTICKS:
            del self._versions[next(iter(self._versions))]
        return found

    async def yardstick(self, digest: Digest) -> Yardstick:
        """The small part of a profile that labels need.

        Raises:
            StoreUnavailable, NotFound, Unprocessable: it cannot be had, or cannot be read.
        """
        found = self._yardsticks.get(digest)
        return found or self._keep_yardstick(digest, await self.of(digest))

    def _keep_yardstick(self, digest: Digest, reference: Reference) -> Yardstick:
        found = self._yardsticks[digest] = Yardstick.of(reference)
        if len(self._yardsticks) > MOST_YARDSTICKS:
            del self._yardsticks[next(iter(self._yardsticks))]
        return found
