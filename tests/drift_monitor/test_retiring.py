"""Windows that were left open by versions nobody asks any more are closed, or dropped."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.drift_monitor.handlers import Ageing
from services.drift_monitor.handlers.retiring import Retiring
from shared.events import WindowEvaluated
from tests.drift_monitor.building import NOON, a_profile, autoregressive, registered
from tests.drift_monitor.conftest import Site
from tests.drift_monitor.test_ingest import promoted

pytestmark = pytest.mark.real
PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)
QUIET = autoregressive(0.3, 200, 3, seed=2)
HORIZON = timedelta(days=30)


@pytest.fixture
async def replaced(site: Site) -> Site:
    """Two versions have rows in open windows; the second is the champion."""
    await site.hear(registered(site.artifacts, PROFILE), promoted())
    await site.hear(registered(site.artifacts, PROFILE, 2))
    return site


def retiring(site: Site) -> Retiring:
    return Retiring(ageing=Ageing(predictions=site.predictions), horizon=HORIZON)


async def rows_are_forgotten(site: Site) -> None:
    """So much time goes by that no row is kept any more."""
    await site.database.execute("delete from prediction")
    site.now += HORIZON + timedelta(hours=1)


async def open_windows(site: Site) -> list[tuple[int, int]]:
    rows = await site.database.fetch(
        "select version, rows from window_sketch where closed_at is null order by version"
    )
    return [(row["version"], row["rows"]) for row in rows]


async def test_a_window_that_a_former_version_left_open_gets_its_verdict(replaced: Site) -> None:
    await replaced.hear(replaced.serving.batch(QUIET[:30]))
    await replaced.hear(promoted(2), replaced.serving.batch(QUIET[30:40], version=2))
    early = await retiring(replaced).retire()
    await rows_are_forgotten(replaced)

    retired, again = await retiring(replaced).retire(), await retiring(replaced).retire()

    assert (early, retired, again) == (0, 1, 0)
    (said,) = await replaced.said(WindowEvaluated)
    assert isinstance(said, WindowEvaluated)
    assert (said.version, said.window, said.rows) == (1, 1, 30)
    assert await open_windows(replaced) == [(2, 10)]


async def test_one_with_too_few_rows_is_dropped_and_its_version_can_go_on(replaced: Site) -> None:
    await replaced.hear(replaced.serving.batch(QUIET[:5]), promoted(2))
    await rows_are_forgotten(replaced)

    retired = await retiring(replaced).retire()
    left = await open_windows(replaced)
    await replaced.hear(replaced.serving.batch(QUIET[5:70]))

    assert (retired, left) == (1, [])
    windows = await replaced.database.fetch(
        "select number, rows from window_sketch order by number"
    )
    assert [(row["number"], row["rows"]) for row in windows] == [(2, 50), (3, 15)]


async def test_a_version_that_still_answers_keeps_its_window(replaced: Site) -> None:
    await replaced.hear(replaced.serving.batch(QUIET[:30]), promoted(2))
    await rows_are_forgotten(replaced)
    await replaced.hear(replaced.serving.batch(QUIET[30:31]))

    retired = await retiring(replaced).retire()

    assert retired == 0
    assert await open_windows(replaced) == [(1, 31)]


async def test_a_champion_that_is_asked_seldom_keeps_its_window(replaced: Site) -> None:
    await replaced.hear(replaced.serving.batch(QUIET[:30]))
    await rows_are_forgotten(replaced)

    assert await retiring(replaced).retire() == 0
    assert replaced.now > NOON + HORIZON
