"""Profiles are kept in memory as far as it goes, and take as much of it as is reckoned."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.monitor_world import Answered
from services.drift_monitor.detection import compare
from services.drift_monitor.handlers.profiles import Profiles, lean, size_of
from shared.artifacts import digest_of
from shared.events import Digest
from shared.manifest import Column
from shared.reference import Reference, build_reference, read_reference
from shared.seasons import Season
from tests.drift_monitor.building import autoregressive

LEVELS = tuple(f"level {n}" for n in range(60))
WINDOW = 100
HOUR = 3_600_000_000


def a_profile(
    numbers: int, words: int = 0, *, rows: int = 3000, season: Season | None = None, seed: int = 1
) -> bytes:
    values = autoregressive(0.3, rows, max(numbers, 1), seed=seed)
    columns = [Column(name=f"n{n}", kind="number") for n in range(numbers)]
    columns += [Column(name=f"w{n}", kind="text", categories=LEVELS) for n in range(words)]
    texts = np.array(LEVELS, dtype=object)[np.arange(rows) * 7 % len(LEVELS)]
    train = [*values.T[:numbers], *([texts] * words)]
    losses = np.abs(values[:500, 0]) * 0.1
    times = np.arange(rows, dtype=np.int64) * HOUR // 6
    return build_reference(
        columns=columns,
        train={column.name: some for column, some in zip(columns, train, strict=True)},
        holdout_answers=Answered(values[:500, 0].copy()),
        holdout_targets=values[:500, 0] + losses,
        holdout_losses=losses,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=WINDOW,
        season=season,
        times=times if season else None,
        holdout_times=times[:500] if season else None,
    )


def rows_of(numbers: int, words: int) -> Sequence[NDArray[Any]]:
    values = autoregressive(0.3, WINDOW, max(numbers, 1), seed=5)
    texts = np.array(LEVELS, dtype=object)[np.arange(WINDOW) % len(LEVELS)]
    return [*values.T[:numbers], *([texts] * words), values[:, 0]]


def used(reference: Reference, numbers: int, words: int) -> Reference:
    """A profile after verdicts about windows of all its seasons."""
    sketch = reference.layout.sketch(rows_of(numbers, words))
    for season in ("", *reference.seasons):
        compare(reference, [sketch] * 16, alpha=5e-4, shift=0.1, season=season)
    return reference


@pytest.mark.parametrize(
    ("numbers", "words", "season"),
    [
        (2, 0, None),
        (20, 0, None),
        (14, 6, None),
        (50, 0, None),
        (1, 20, None),
        (6, 0, "hour_of_day"),
        (6, 2, "hour_of_week"),
    ],
)
def test_a_profile_takes_about_as_much_memory_as_is_reckoned(
    numbers: int, words: int, season: Season | None
) -> None:
    data = a_profile(numbers, words, rows=15_000 if season else 3000, season=season)
    used(lean(read_reference(data)), numbers, words)  # what is loaded with the first one
    gc.collect()

    tracemalloc.start()
    kept = used(lean(read_reference(data)), numbers, words)
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 0.8 * taken < size_of(kept) < 2 * taken


def test_verdicts_need_neither_sample_nor_blocks() -> None:
    whole = read_reference(a_profile(5, 2))
    sketches = [whole.layout.sketch(rows_of(5, 2))] * 3

    found = [compare(one, sketches, alpha=5e-4, shift=0.1) for one in (whole, lean(whole))]

    assert found[0] == found[1]
    assert (len(whole.sample), len(lean(whole).sample), len(lean(whole).blocks)) == (500, 0, 0)
    assert size_of(whole) == size_of(lean(whole))


class Store:
    """Profiles by digest, and which were fetched."""

    def __init__(self, profiles: int) -> None:
        found = [a_profile(2, rows=400, seed=seed) for seed in range(profiles)]
        self.blobs = {digest_of(data): data for data in found}
        self.fetched: list[Digest] = []

    async def fetch(self, digest: Digest) -> bytes:
        self.fetched.append(digest)
        return self.blobs[digest]


async def test_profiles_that_fit_are_fetched_once_and_others_again() -> None:
    store = Store(3)
    first, second, third = store.blobs
    size = size_of(read_reference(store.blobs[first]))
    profiles = Profiles(store.fetch, most_bytes=int(2.5 * size))

    for digest in (first, second, first, third, first, second):
        await profiles.of(digest)

    # The third took the place of the second, which was used longer ago than the first.
    assert store.fetched == [first, second, third, second]


async def test_one_profile_is_kept_however_large_it_is() -> None:
    store = Store(2)
    first, second = store.blobs
    profiles = Profiles(store.fetch, most_bytes=1)

    for digest in (first, first, second, second):
        await profiles.of(digest)

    assert store.fetched == [first, second]


async def test_labels_need_a_profile_no_more_once_its_yardstick_is_known() -> None:
    store = Store(2)
    first, second = store.blobs
    profiles = Profiles(store.fetch, most_bytes=1)

    for digest in (first, second, first, second):
        await profiles.yardstick(digest)

    assert store.fetched == [first, second]


async def test_a_report_gets_the_sample_and_keeps_nothing() -> None:
    store = Store(1)
    (only,) = store.blobs
    profiles = Profiles(store.fetch)
    before = await profiles.of(only)

    whole = await profiles.whole(only)

    assert (len(before.sample), len(whole.sample)) == (0, 400)
    assert await profiles.of(only) is before
