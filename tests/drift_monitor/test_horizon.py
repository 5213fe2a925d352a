"""Answers are kept until their labels have come and were fed, however slow these are."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift_monitor.settings import Settings
from services.drift_monitor.store.horizon import SLICE, spans_of
from shared import clock
from shared.events import ModelName
from shared.spec_parts import LONGEST
from shared.telemetry import REGISTRY
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

DAY = timedelta(days=1)
FAN = ModelName("fan")
ROWS = 60
QUIET = autoregressive(0.0, ROWS, 3, seed=2)
PROFILE = a_profile(autoregressive(0.0, 2000, 3, seed=1), window=50)


@given(
    ages=st.lists(st.integers(0, 400), max_size=30),
    longer=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(91, 300), max_size=3),
    rounds=st.lists(st.integers(0, 90), min_size=1, max_size=4),
)
def test_after_each_round_just_that_is_kept_that_its_model_keeps(
    ages: list[int], longer: dict[str, int], rounds: list[int]
) -> None:
    kept = {(model, NOON - DAY * age) for model in "abcd" for age in ages}
    keeps = {model: DAY * days for model, days in longer.items()}
    now, last = NOON, None

    for days in rounds:
        now += DAY * days
        spans = spans_of(now, last, 90 * DAY, keeps)
        kept = {
            (model, at)
            for model, at in kept
            if not any(s.since <= at < s.until and model not in s.spared for s in spans)
        }
        last = now
        due = {model: now - keeps.get(model, 90 * DAY) for model in "abcd"}
        assert all(at >= due[model] for model, at in kept)
        assert all(
            (model, NOON - DAY * age) in kept
            for model in "abcd"
            for age in ages
            if NOON - DAY * age >= due[model]
        )


def test_what_stays_is_looked_at_once_and_in_slices() -> None:
    longer = {"slow": 120 * DAY}

    first = spans_of(NOON, None, 90 * DAY, longer)
    following = spans_of(NOON + SLICE / 144, NOON, 90 * DAY, longer)

    assert first[0].until == NOON - 120 * DAY
    assert len(first) == 1 + 30
    assert all(span.until - span.since <= SLICE for span in first[1:])
    assert [(span.until - span.since, span.spared) for span in following[1:]] == [
        (SLICE / 144, ["slow"])
    ]


def test_predictions_are_kept_for_ninety_days_by_default() -> None:
    assert Settings.model_fields["label_horizon_days"].default == 90


async def watch(site: Site, delay: str) -> None:
    """A pump with slow labels, and a fan; both have answered just now."""
    spec = a_spec()
    spec["data"] |= {"label_delay": delay}
    slow = registered(site.artifacts, PROFILE, spec=spec)
    site.serving.at = clock.now()
    await site.hear(slow, replace(registered(site.artifacts, PROFILE), model=FAN))
    await site.hear(*site.serving.batches_of(QUIET))
    other = site.serving.batch(QUIET)
    await site.hear(replace(other, rows=tuple(replace(row, model=FAN) for row in other.rows)))
    await site.hear(a_label("never-asked", 1.0), replace(a_label("nor-this", 1.0), model=FAN))


async def forget(site: Site, at: datetime) -> None:
    site.now = at
    await site.forgetter.forget()


async def count(site: Site, what: str) -> dict[str, int]:
    rows = await site.database.fetch(f"select model, count(*) as n from {what} group by model")
    return {row["model"]: row["n"] for row in rows}


def orphaned(model: str) -> Any:
    return REGISTRY.get_sample_value("tidewheel_labels_orphaned_total", {"model": model}) or 0.0


@pytest.mark.real
async def test_a_model_with_slow_labels_keeps_its_rows_for_twice_their_delay(site: Site) -> None:
    await watch(site, "45d")
    before, start = orphaned(PUMP), clock.now()

    await forget(site, start + 46 * DAY)
    answered, waiting = await count(site, "prediction"), await count(site, "waiting_label")
    late = await site.hear_together([a_label(p, a + 0.1) for p, a in site.serving.asked[:ROWS]])
    await forget(site, start + 89 * DAY)
    still = await count(site, "outcome")
    await forget(site, start + 91 * DAY)

    assert answered == {PUMP: ROWS}
    assert waiting == {PUMP: 1}
    assert any(type(event).__name__ == "QualityMeasured" for event in late)
    assert still == {PUMP: ROWS}
    assert await count(site, "prediction") == await count(site, "outcome") == {}
    assert orphaned(PUMP) - before == 1


@pytest.mark.real
async def test_a_replica_whose_clock_has_jumped_drops_nothing_that_is_young(site: Site) -> None:
    await watch(site, "45d")
    site.now += 4000 * DAY
    forgetter = replace(site.forgetter, now=site.database.now)
    tables = ("prediction", "waiting_label", "window_sketch")
    age = "update prediction set heard_at = heard_at - interval '91 days'"

    before = [await count(site, table) for table in tables]
    await forgetter.forget()
    after = [await count(site, table) for table in tables]
    await site.database.execute(age)
    await replace(forgetter, _last=None).forget()

    assert after == before
    assert before[0] == {PUMP: ROWS, FAN: ROWS}
    assert await count(site, "prediction") == {}


@pytest.mark.real
async def test_labels_that_come_early_are_there_when_the_running_test_is_fed(site: Site) -> None:
    await watch(site, "60d")
    start = clock.now()
    early = [a_label(p, a + 0.1) for p, a in site.serving.asked[:ROWS]]
    await site.hear_together(early[:-1])

    for days in (31, 45, 59):
        await forget(site, start + days * DAY)
    site.now = start + 61 * DAY
    await site.hear_together(early[-1:])

    assert await site.database.fetchval("select labels from detector") == ROWS


@pytest.mark.real
async def test_what_is_learned_about_delays_is_kept_for_and_nothing_for_ever(site: Site) -> None:
    await watch(site, "10000d")
    await site.database.execute(
        "insert into label_delay (model, came, settled) values ($1, '{}', $2), ($3, '{}', $4)",
        FAN,
        (100 * DAY).total_seconds(),
        "known-for-short",
        (2 * DAY).total_seconds(),
    )

    found = await site.store.kept_longer(30 * DAY)

    assert found == {PUMP: LONGEST, FAN: 101 * DAY}


@pytest.mark.real
async def test_an_absurd_delay_of_one_model_stops_nobody_from_forgetting(site: Site) -> None:
    await watch(site, "600000000d")
    start = clock.now()

    said = await site.hear_together([a_label(p, a + 0.1) for p, a in site.serving.asked[:ROWS]])
    found = await site.store.kept_longer(30 * DAY)
    await forget(site, start + 31 * DAY)

    assert any(type(event).__name__ == "QualityMeasured" for event in said)
    assert found == {PUMP: LONGEST}
    assert await count(site, "prediction") == {PUMP: ROWS}
