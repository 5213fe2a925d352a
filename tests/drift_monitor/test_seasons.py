"""A season whose windows come seldom is seen, confirmed and told among all the others."""

from __future__ import annotations

from datetime import datetime, timedelta

import httpx
import numpy as np
import pytest

from services.drift_monitor.handlers.vitals import Vitals
from services.drift_monitor.store.vitals import VitalsTable
from shared.events import DriftCleared, DriftDetected, Event, RetrainingRequested
from shared.manifest import Column
from shared.reference import build_reference
from shared.telemetry import REGISTRY
from tests.drift_monitor.building import (
    NAMES,
    NOON,
    PUMP,
    Answered,
    a_spec,
    autoregressive,
    published,
    registered,
)
from tests.drift_monitor.conftest import Site
from tests.drift_monitor.test_service import promoted

pytestmark = pytest.mark.real
WINDOW = 30
DAYS = 60
MORNING = NOON - timedelta(hours=5)
ROWS = autoregressive(0.0, 2 * WINDOW * DAYS, 3, seed=1)
QUIET = autoregressive(0.0, 20 * WINDOW, 3, seed=2)


def a_profile() -> bytes:
    """Rows of two hours of the day, as many of each."""
    days = np.arange(DAYS) * np.timedelta64(1, "D") + np.datetime64("2026-01-01")
    hours = np.array([7, 12]) * np.timedelta64(1, "h")
    moments = (days[:, None, None] + hours[:, None] + np.zeros((1, WINDOW), "m8[h]")).ravel()
    times = moments.astype("M8[us]").astype(np.int64)
    answers = ROWS[:, 0] + 2 * ROWS[:, 1]
    losses = np.abs(np.random.default_rng(9).normal(size=600)) * 0.1
    return build_reference(
        columns=[Column(name=name, kind="number") for name in NAMES],
        train={name: ROWS[:, i].copy() for i, name in enumerate(NAMES)},
        holdout_answers=Answered(answers[:600]),
        holdout_targets=answers[:600] + losses,
        holdout_losses=losses,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=WINDOW,
        season="hour_of_day",
        times=times,
        holdout_times=times[:600],
    )


@pytest.fixture
async def seasonal(site: Site) -> Site:
    spec = a_spec(window=WINDOW, confirm=2, season="hour_of_day")
    await site.hear(registered(site.artifacts, a_profile(), spec=spec), promoted())
    await site.hear(published(1, 100), published(2, 900))
    return site


async def asked_at(site: Site, at: datetime, rows: int, off: float = 0.0) -> list[Event]:
    """Rows of this moment, as far off as this."""
    site.serving.at = at
    drifted = QUIET[:rows] + np.array([off, 0.0, 0.0])
    return await site.hear(*site.serving.batches_of(drifted, size=WINDOW // 2))


async def a_day(site: Site, day: int, off: float) -> list[Event]:
    """At noon half a window, in the morning four of them, and the other half of noon's."""
    at = timedelta(days=day)
    said = await asked_at(site, NOON + at, WINDOW // 2, off)
    said += await asked_at(site, MORNING + at, 4 * WINDOW)
    return said + await asked_at(site, NOON + at, WINDOW // 2, off)


def severity() -> float | None:
    return REGISTRY.get_sample_value("tidewheel_drift_severity", {"model": PUMP})


async def test_what_drifts_at_noon_alone_is_confirmed_and_told_until_it_is_over_at_noon(
    seasonal: Site, client: httpx.AsyncClient
) -> None:
    vitals = Vitals(VitalsTable(seasonal.database), lambda: seasonal.now)

    said = [*await a_day(seasonal, 0, 3.0), *await a_day(seasonal, 1, 3.0)]
    said += await asked_at(seasonal, MORNING + timedelta(days=2), 4 * WINDOW)
    drifted = (await client.get(f"/v1/models/{PUMP}/drift")).json()["versions"][0]
    await vitals.tell()
    while_drifted = severity()
    alarms = await seasonal.reporting.take_alarms(5)
    path = f"/v1/models/{PUMP}/pictures/distribution.svg"
    drawn = (await client.get(path, params={"feature": "a", "window": 6})).text
    # A drift is also looked for in several windows at once, until none of them had it.
    over = await asked_at(seasonal, NOON + timedelta(days=3), 20 * WINDOW)
    usual = (await client.get(f"/v1/models/{PUMP}/drift")).json()["versions"][0]
    await vitals.tell()

    assert [type(e) for e in said if isinstance(e, DriftDetected | DriftCleared)] == [DriftDetected]
    (asked,) = [event for event in said if isinstance(event, RetrainingRequested)]
    # Noon's windows open before four of the morning, and close after them.
    assert asked.windows == (1, 6)
    assert drifted["drift"] == "critical"
    assert drifted["drifted_seasons"] == [{"season": "h12", "drift": "critical", "window": 6}]
    assert (drifted["last_window"]["season"], drifted["worst"][0]["feature"]) == ("h07", "a")
    assert drifted["worst"][0]["tier"] == "critical"
    assert (while_drifted, severity()) == (2, 0)
    assert alarms == [(PUMP, 1, 6)]
    assert "The reference is of the season h12" in drawn
    assert [type(e) for e in over if isinstance(e, DriftDetected | DriftCleared)] == [DriftCleared]
    assert (usual["drift"], usual["drifted_seasons"]) == (None, [])
