"""A recorded verdict about drift, computed again from what is kept of its windows."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isclose
from typing import Any, Final

import orjson

from services.drift_monitor.detection import HISTORY, Comparison, compare
from services.drift_monitor.handlers.history import readable
from services.drift_monitor.handlers.profiles import Profiles
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.sketches import Judged
from services.drift_monitor.windows import Watched
from shared.artifacts import digest_of
from shared.errors import Conflict, NotFound
from shared.events import Digest, Json

_FIELDS: Final = ("severity", "mode", "alpha", "detail")
_ABSENT: Final = object()
_DIGITS: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A verdict computed again.

    Attributes:
        differences: fields that came out otherwise, each as recorded and as it is now; features
            by their names, as `features[age].p_value`.
        windows: numbers of those that were compared, the newest first.
        counts: digest of the sketch that is kept; `recorded_counts`: as it was said with the
            verdict, None for windows of before it was kept.
    """

    recorded: Judged
    now: Comparison
    shift: float
    windows: tuple[int, ...]
    counts: Digest
    recorded_counts: Digest | None
    differences: tuple[Json, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs but the last digits, which are the processor's."""
        return not self.differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaying:
    """Reads windows and profiles; nothing is decided by it, and nothing written."""

    store: PostgresStore
    profiles: Profiles

    async def replay(
        self, version: Watched, number: int, *, alpha: float | None, shift: float | None
    ) -> Replay:
        """The verdict about a window once more, by the rules of then unless others are given.

        Raises:
            NotFound: there is no such window, or it is older than windows are kept.
            Conflict: it has not been compared yet.
        """
        place = (str(version.model), version.version, number)
        judged = await self.store.judged(place)
        if judged is None:
            raise NotFound(f"Version {version.version} of {version.model} has no window {number}.")
        if judged.alpha is None:
            raise Conflict(f"Window {number} has {judged.rows} rows; ask when it was compared.")
        kept = await self.store.sketches_before(place, judged.season, HISTORY - 1)
        reference = await self.profiles.of(version.reference)
        before = readable(self.store, reference.layout, place, kept)
        sketches = [reference.layout.read(judged.counts), *before.values()]
        tolerated = version.policy.shift if shift is None else shift
        # Of many features, or the first one of its profile, it takes longer than others may wait.
        found = await asyncio.to_thread(
            compare,
            reference,
            sketches,
            alpha=judged.alpha if alpha is None else alpha,
            shift=tolerated,
            season=judged.season,
        )
        counts = digest_of(sketches[0].to_bytes())
        return Replay(
            recorded=judged,
            now=found,
            shift=tolerated,
            windows=(number, *before),
            counts=counts,
            recorded_counts=judged.digest,
            differences=tuple(_differences(judged, found, counts)),
        )


def _differences(recorded: Judged, now: Comparison, counts: Digest) -> Iterator[Json]:
    if recorded.digest is not None and recorded.digest != counts:
        yield {"field": "counts", "recorded": recorded.digest, "now": counts}
    for name in _FIELDS:
        before, after = getattr(recorded, name), getattr(now, name)
        if before != after:
            yield {"field": name, "recorded": before, "now": after}
    # As they are kept: what JSON makes of a number is part of both.
    fresh = orjson.loads(orjson.dumps([asdict(one) for one in now.features]))
    yield from _of_features(_by_name(recorded.features), _by_name(fresh))


def _of_features(recorded: Mapping[str, Json], now: Mapping[str, Json]) -> Iterator[Json]:
    if list(recorded) != list(now):
        yield {"field": "features", "recorded": list(recorded), "now": list(now)}
    for name in recorded.keys() & now.keys():
        before, after = recorded[name], now[name]
        for field in sorted(before.keys() | after.keys()):
            was, is_now = before.get(field, _ABSENT), after.get(field, _ABSENT)
            # A field of a later release is absent in what was recorded before it.
            if was is not _ABSENT and not _is_alike(was, is_now):
                shown = None if is_now is _ABSENT else is_now
                yield {"field": f"features[{name}].{field}", "recorded": was, "now": shown}


def _is_alike(was: Any, is_now: Any) -> bool:
    """The same, as far as kinds of processors agree about sums and logarithms."""
    if isinstance(was, float) and isinstance(is_now, float):
        return isclose(was, is_now, rel_tol=_DIGITS)
    return bool(was == is_now)


def _by_name(features: Any) -> dict[str, Json]:
    return {one["feature"]: one for one in features or ()}
