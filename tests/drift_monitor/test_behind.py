"""A version that cannot be read keeps no other waiting; what waits for it is counted in pages."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.drift_monitor.handlers.replaying import Replaying
from services.drift_monitor.store import PostgresStore
from shared.events import GroundTruthObserved, WindowEvaluated
from shared.postgres import Database
from tests.drift_monitor.building import (
    NOON,
    PUMP,
    a_label,
    a_profile,
    a_spec,
    autoregressive,
    registered,
)
from tests.drift_monitor.conftest import Site
from tests.drift_monitor.test_unjudged import FAN, LATER, OF_FAN, OF_PUMP, Fan, of_fan

pytestmark = pytest.mark.real

ROWS = autoregressive(0.3, 230, 3, seed=2)
HARMS = {
    "a later release": ('policy = policy || \'{"transient": "ponder"}\'', "policy = $2"),
    "damage": ("layout = '\\x00', policy = '{}'", "policy = $2, layout = $3"),
}


@pytest.fixture
async def site_of_two(site: Site) -> Site:
    spec = a_spec(close_after="1h")
    await site.hear(
        registered(site.artifacts, OF_PUMP, spec=spec),
        of_fan(registered(site.artifacts, OF_FAN)),
    )
    return site


def restarted(site: Site) -> Site:
    """Nothing is in memory."""
    found = Site(site.database, site.artifacts)
    found.now, found.serving = site.now, site.serving
    return found


def labels_of(site: Site, fan: Fan) -> list[GroundTruthObserved]:
    pumps = [a_label(name, answer + 0.1) for name, answer in site.serving.asked]
    fans = [replace(a_label(name, answer + 0.1), model=FAN) for name, answer in fan.asked]
    return [*pumps, *fans]


async def windows_of(database: Database, model: str) -> list[tuple[int, int, int]]:
    rows = await database.fetch(
        "select number, w.rows, coalesce(q.labels, 0) as labels from window_sketch w "
        "left join window_quality q using (model, version, number) where model = $1 order by 1",
        model,
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("harm", HARMS)
async def test_a_version_that_cannot_be_read_keeps_nobody_elses_rows_and_labels_waiting(
    site_of_two: Site, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site, fan = site_of_two, Fan("serving-1")
    spoil, mend = HARMS[harm]
    known = await site.database.fetchrow(
        "select policy, layout from version where model = $1", PUMP
    )
    assert known is not None
    await site.database.execute(f"update version set {spoil} where model = $1", PUMP)
    site = restarted(site)

    await site.hear_together([site.serving.batch(ROWS[:60]), fan.batch(ROWS[:60])])
    await site.hear_together(labels_of(site, fan))
    await site.hear(site.serving.batch(ROWS[60:70]))
    waited = await site.versions.count_waiting(), await site.versions.count_waiting()
    assert await windows_of(site.database, FAN) == [(1, 50, 50), (2, 10, 10)]
    assert await site.database.fetchval("select count(*) from outcome") == 60
    told = capsys.readouterr().out.count("version_unreadable")
    given = [known["policy"], known["layout"]][: mend.count("$")]
    await site.database.execute(f"update version set {mend} where model = $1", PUMP, *given)
    site = restarted(site)
    site.now += LATER
    await site.versions.count_waiting()
    await site.predictions.verdicts.judge_due()
    await site.hear(site.serving.batch(ROWS[70:80]))

    assert waited == (0, 0)
    assert told in (1, 2)  # the plan of a version, and the version
    assert await windows_of(site.database, PUMP) == [(1, 50, 50), (2, 30, 10)]
    assert await site.store.count_waiting() == 0
    assert await site.store.behind() == []
    verdicts = [e for e in await site.said(WindowEvaluated) if isinstance(e, WindowEvaluated)]
    assert sorted((str(e.model), e.window) for e in verdicts) == [("fan", 1), ("pump", 1)]


class Killed(BaseException):
    """The process, at a place between two lines."""


async def test_rows_of_before_are_counted_in_pages_and_once_whatever_is_killed_in_between(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)
    batches = site.serving.batches_of(ROWS[:220], size=20)
    await site.hear(*batches[:8])
    await site.hear_together([a_label(name, y + 0.1) for name, y in site.serving.asked[:160]])
    site = restarted(site)
    object.__setattr__(site.versions, "together", 30)
    place, placed = PostgresStore.place_predictions, list[int]()

    async def place_or_die(self: PostgresStore, windows: dict[str, int]) -> None:
        await place(self, windows)
        placed.append(len(windows))
        if len(placed) == 3:
            raise Killed

    await site.hear(registered(site.artifacts, profile, spec=a_spec(window=50)))
    assert await site.counted() == 30
    await site.hear(batches[8])
    assert await site.counted() == 30
    with monkeypatch.context() as patched:
        patched.setattr(PostgresStore, "place_predictions", place_or_die)
        with pytest.raises(Killed):
            await site.versions.count_waiting()
    counted = await site.counted()
    again = restarted(site)
    await again.predictions.placing.recall()
    await again.hear(batches[9])
    counted_before = await site.counted()
    await asyncio.gather(site.versions.count_waiting(), again.versions.count_waiting())
    await again.hear(*batches[10:])

    assert (counted, counted_before) == (90, 90)
    assert placed == [30, 30, 30]
    assert await windows_of(site.database, PUMP) == [
        (1, 50, 50),
        (2, 50, 50),
        (3, 50, 50),
        (4, 50, 10),
        (5, 20, 0),
    ]
    firsts = await site.database.fetch(
        'select min(place) as first from prediction group by "window" order by "window"'
    )
    assert [row["first"] for row in firsts] == sorted(row["first"] for row in firsts)
    verdicts = [e for e in await site.said(WindowEvaluated) if isinstance(e, WindowEvaluated)]
    assert [e.window for e in verdicts] == [1, 2, 3, 4]
    assert verdicts[0].started_at > NOON


async def test_a_sketch_spoiled_after_its_verdict_takes_no_later_window_with_it(
    site_of_two: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_of_two
    await site.hear(site.serving.batch(ROWS[:100]))
    await site.database.execute(
        "update window_sketch set counts = '\\x0102' where model = $1 and number = 1", PUMP
    )

    said = await site.hear(site.serving.batch(ROWS[100:150]), site.serving.batch(ROWS[150:200]))

    assert [e.window for e in said if isinstance(e, WindowEvaluated)] == [3, 4]
    assert await site.store.count_unjudged() == 0
    assert capsys.readouterr().out.count("version_unreadable") == 1
    replaying = Replaying(store=site.store, profiles=site.judging.profiles)
    (version,) = (await site.store.versions([(PUMP, 1)])).values()
    again = await replaying.replay(version, 4, alpha=None, shift=None)
    assert (again.windows, again.same) == ((4, 3, 2), True)
