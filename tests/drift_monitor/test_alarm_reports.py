"""Critical drift gets a report without being asked: the newest window, once a day per version."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from services.drift_monitor.app import MIGRATIONS
from services.drift_monitor.detection import Comparison, Severity
from services.drift_monitor.store import Reporting
from services.drift_monitor.windows import Window
from shared.artifacts import digest_of
from shared.confined import Confined
from tests.conftest import OpenDatabase
from tests.drift_monitor.building import NOON, PUMP
from tests.drift_monitor.conftest import Site

pytestmark = pytest.mark.real


async def judged(
    site: Site, number: int, severity: Severity | None = "critical", version: int = 1
) -> None:
    """Verdicts are written down like this."""
    window = Window(
        model=PUMP, version=version, number=number, rows=50, started_at=NOON, ended_at=NOON
    )
    found = Comparison(severity=severity, alpha=5e-4, mode="block", features=(), detail="")
    await site.store.save_comparison(window, found, digest_of(b""))


async def drawn(site: Site) -> list[tuple[int, int]]:
    """Version and window of what one look takes."""
    return sorted((v, w) for _, v, w in await site.reporting.take_alarms(5))


async def a_day_later(site: Site) -> None:
    await site.database.execute(
        "update alarm_report set ordered_at = ordered_at - interval '1 day', "
        "due_at = due_at - interval '1 day'"
    )


async def test_the_newest_critical_window_is_drawn_once_a_day(site: Site) -> None:
    await judged(site, 1)
    await judged(site, 2, "warning")
    await judged(site, 3)
    first, again = await drawn(site), await drawn(site)
    await judged(site, 4)
    await judged(site, 5)
    same_day = await drawn(site)
    await a_day_later(site)
    next_day = await drawn(site)

    assert (first, again) == ([(1, 3)], [])
    assert (same_day, next_day) == ([], [(1, 5)])


async def test_a_window_of_a_slow_season_is_drawn_though_later_ones_were(site: Site) -> None:
    await judged(site, 7)
    await drawn(site)

    await judged(site, 6)
    same_day = await drawn(site)
    await a_day_later(site)

    assert (same_day, await drawn(site)) == ([], [(1, 6)])


async def test_versions_alarm_for_themselves_and_those_that_wait_longest_come_first(
    site: Site,
) -> None:
    for version in range(1, 8):
        await judged(site, 1, version=version)

    looks = [await drawn(site) for _ in range(3)]

    assert looks == [[(v, 1) for v in range(1, 6)], [(6, 1), (7, 1)], []]


async def test_a_look_that_comes_to_nothing_has_taken_nothing(site: Site) -> None:
    await judged(site, 1)

    async def killed_before_the_commit() -> None:
        async with site.database.transaction():
            await drawn(site)
            raise ValueError("killed")

    with pytest.raises(ValueError, match="killed"):
        await killed_before_the_commit()
    await site.reporter(Confined(), seconds=1).order_alarms()

    jobs = await site.database.fetch("select payload from job where kind = 'report'")
    assert [job["payload"]["window"] for job in jobs] == [1]


async def test_what_a_batch_is_writing_is_left_for_the_next_look(
    site: Site, open_database: OpenDatabase
) -> None:
    await judged(site, 1)
    await judged(site, 1, version=2)
    other = await open_database("drift_monitor", MIGRATIONS)

    is_writing, may_commit = asyncio.Event(), asyncio.Event()

    async def a_batch() -> None:
        async with other.transaction():
            await other.execute("select from alarm_report where version = 1 for update")
            is_writing.set()
            await may_commit.wait()

    async with asyncio.TaskGroup() as beside_each_other:
        beside_each_other.create_task(a_batch())
        await is_writing.wait()
        beside = await drawn(site)
        may_commit.set()
    after = await drawn(site)

    assert (beside, after) == ([(2, 1)], [(1, 1)])


async def test_what_was_not_drawn_before_the_upgrade_is_drawn_after_it(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    before = tmp_path / "drift_monitor" / "migrations"
    shutil.copytree(MIGRATIONS, before)
    for file in before.iterdir():
        if file.name >= "0055":
            file.unlink()
    database = await open_database("drift_monitor", before)
    # Version 1: never drawn; 2: drawn; 3: drawn today, critical since; 4: the same, long ago.
    await database.execute(
        "insert into window_sketch (model, version, number, rows, counts, started_at, ended_at, "
        "closed_at, severity) select 'pump', v, n, 50, '', $1, $1, $1, 'critical' "
        "from generate_series(1, 4) v, generate_series(1, 3) n",
        NOON,
    )
    for version, window, age in ((2, 3, 0), (3, 2, 0), (4, 2, 2), (4, 1, 9)):
        await database.execute(
            'insert into report (id, model, version, "window", requested_by, requested_at) '
            "values (gen_random_uuid(), 'pump', $1, $2, 'tidewheel', now() - $3::interval)",
            version, window, timedelta(days=age),
        )  # fmt: skip

    upgraded = await open_database("drift_monitor", MIGRATIONS)
    taken = await Reporting(upgraded).take_alarms(9)

    assert sorted(taken) == [("pump", 1, 3), ("pump", 4, 3)]
