"""Windows in memory are those in the database, whoever counts, fails or starts again."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from services.drift_monitor.handlers import Ageing, Predictions
from services.drift_monitor.memory import Memory
from services.drift_monitor.streams import models_in, streams_of
from shared.errors import StoreUnavailable
from shared.events import (
    DataQualityAlarmed,
    DataQualityCleared,
    DeploymentRolledBack,
    Event,
    ModelName,
    ModelPromoted,
    ModelRegistered,
    PredictionsLogged,
    RolloutId,
    WindowEvaluated,
)
from shared.ids import derived
from shared.manifest import Column, read_manifest
from shared.postgres import Cause
from shared.reference import build_reference, read_reference
from tests.drift_monitor.building import (
    NAMES,
    NOON,
    NOWHERE,
    PUMP,
    Answered,
    Serving,
    a_label,
    a_manifest,
    a_profile,
    a_spec,
    autoregressive,
    registered,
)
from tests.drift_monitor.conftest import Site, heard_of

pytestmark = pytest.mark.real

PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)
LAYOUT = read_reference(PROFILE).layout
QUIET = autoregressive(0.3, 600, 3, seed=2)


@pytest.fixture
async def watched(site: Site) -> Site:
    await site.hear(registered(site.artifacts, PROFILE), promoted())
    return site


def promoted(version: int = 1) -> ModelPromoted:
    return ModelPromoted(
        model=PUMP,
        rollout=RolloutId(derived(None, "rollout", version)),
        version=version,
        manifest=NOWHERE,
        previous=None,
        dataset_version=1,
        generation=version,
        evaluation=derived(None, "evaluation"),
        evidence={},
    )


def rolled_back(version: int, to: int) -> DeploymentRolledBack:
    return DeploymentRolledBack(
        model=PUMP,
        from_version=version,
        to_version=to,
        to_manifest=NOWHERE,
        generation=9,
        by="ada",
        reason="x",
    )


def another(site: Site) -> Predictions:
    """A second monitor on the same database, which remembers nothing yet."""
    return replace(site.predictions, memory=Memory())


async def heard_by(
    monitor: Predictions, site: Site, batches: list[PredictionsLogged]
) -> list[Event]:
    heards = [heard_of(batch) for batch in batches]
    async with site.database.transaction(Cause.of(heards[-1])) as transaction:
        said = list(await monitor.take(heards, {}))
        await transaction.say(said)
    return said


async def assert_exact(site: Site, rows: int) -> None:
    """Every window has the sketch of exactly its rows, and every row is in one window."""
    found = await site.database.fetch(
        "select version, number, rows, counts from window_sketch order by number"
    )
    assert sum(row["rows"] for row in found) == rows
    for row in found:
        kept = await site.store.rows_of_window((PUMP, row["version"]), row["number"], 10_000)
        values = [(*one.features, one.answer) for one in kept]
        expected = LAYOUT.sketch([list(column) for column in zip(*values, strict=True)])
        assert row["rows"] == len(kept)
        assert LAYOUT.read(row["counts"]) == expected


async def test_a_monitor_that_starts_again_goes_on_where_the_database_is(watched: Site) -> None:
    batches = watched.serving.batches_of(QUIET[:330], size=10)
    for start in range(0, 33, 3):
        await heard_by(another(watched), watched, batches[start : start + 3])

    await assert_exact(watched, 330)
    assert await watched.database.fetchval("select max(number) from window_sketch") == 7


async def test_open_windows_are_recalled_at_once_after_a_start(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:70], size=10))
    monitor = another(watched)

    recalled = await monitor.placing.recall()
    await heard_by(monitor, watched, watched.serving.batches_of(QUIET[70:110], size=10))

    assert recalled == 1
    await assert_exact(watched, 110)


async def test_what_is_in_memory_is_newer_than_what_is_recalled(watched: Site) -> None:
    await watched.hear(*watched.serving.batches_of(QUIET[:30], size=10))

    recalled = await watched.predictions.placing.recall()

    assert recalled == 0
    await watched.hear(*watched.serving.batches_of(QUIET[30:60], size=10))
    await assert_exact(watched, 60)


async def test_two_monitors_keep_one_window_of_a_model_whose_rows_come_to_both(
    watched: Site,
) -> None:
    monitors = [watched.predictions, another(watched)]
    replicas = [Serving("serving-0"), Serving("serving-1")]

    for turn in range(30):
        which = random.randrange(2)
        rows = QUIET[turn * 10 : turn * 10 + 10]
        await heard_by(monitors[which], watched, [replicas[which].batch(rows)])

    await assert_exact(watched, 300)
    windows = await watched.database.fetchval("select count(*) from window_sketch")
    assert windows == 6


async def test_a_transaction_that_came_to_nothing_leaves_nothing_in_memory(watched: Site) -> None:
    batches = watched.serving.batches_of(QUIET[:130], size=10)
    await watched.hear(*batches[:3])

    async def lost(some: list[PredictionsLogged]) -> None:
        async with watched.database.transaction():
            await watched.predictions.take([heard_of(batch) for batch in some], {})
            raise StoreUnavailable("the connection broke")

    for some in (batches[3:4], batches[3:9]):
        with pytest.raises(StoreUnavailable):
            await lost(some)
        await watched.hear(batches[3])
    await watched.hear(*batches)

    await assert_exact(watched, 130)


async def test_shuffled_and_repeated_batches_count_each_row_once(watched: Site) -> None:
    replicas = [Serving(f"serving-{n}") for n in range(3)]
    batches = [
        batch
        for n, replica in enumerate(replicas)
        for batch in replica.batches_of(QUIET[n * 100 : n * 100 + 100], size=20)
    ]
    sent = [*batches, *random.sample(batches, 9)]
    random.shuffle(sent)

    for start in range(0, len(sent), 4):
        await watched.hear_together(sent[start : start + 4])

    await assert_exact(watched, 300)


def a_rain_gauge(site: Site, rows: int) -> tuple[ModelRegistered, PredictionsLogged]:
    """Three numbers, then whether it rains and with which probability."""
    scores = np.random.default_rng(1).beta(2, 2, 1000)
    answers = np.where(scores > 0.5, "wet", "dry").astype(object)
    profile = build_reference(
        columns=[Column(name=name, kind="number") for name in NAMES],
        train={name: QUIET[:, i].copy() for i, name in enumerate(NAMES)},
        holdout_answers=Answered(answers, np.column_stack([1 - scores, scores])),
        holdout_targets=answers,
        holdout_losses=np.minimum(scores, 1 - scores) ** 2,
        metric="brier",
        classes=("dry", "wet"),
        seed=1,
        time_ordered=True,
        window=50,
    )
    batch = Serving("serving-1").batch(QUIET[:rows])
    answered = tuple(
        replace(row, answer=str(answer), score=float(score))
        for row, answer, score in zip(batch.rows, answers, scores, strict=False)
    )
    changes: dict[str, Any] = {"task": "classification", "metric": "brier"}
    told = told_of(site, profile, 1, **changes, classes=("dry", "wet"))
    return told, replace(batch, rows=answered)


def a_pump_with_its_kind(site: Site, rows: int) -> tuple[ModelRegistered, PredictionsLogged]:
    """Three numbers and a word, then a number."""
    columns = (*(Column(name=n, kind="number") for n in NAMES), Column(name="kind", kind="text"))
    kinds = np.random.default_rng(2).choice(["old", "new"], len(QUIET)).astype(object)
    answers = QUIET[:, 0] + 2 * QUIET[:, 1]
    profile = build_reference(
        columns=columns,
        train={name: QUIET[:, i].copy() for i, name in enumerate(NAMES)} | {"kind": kinds},
        holdout_answers=Answered(answers),
        holdout_targets=answers + 0.1,
        holdout_losses=np.abs(QUIET[:, 2]) * 0.1,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=50,
    )
    batch = Serving("serving-2").batch(QUIET[:rows], version=2)
    asked = tuple(
        replace(row, features=(*row.features, str(kind)))
        for row, kind in zip(batch.rows, kinds, strict=False)
    )
    told = told_of(site, profile, 2, columns=columns)
    return told, replace(batch, columns=((*NAMES, "kind"),), rows=asked)


def told_of(site: Site, profile: bytes, version: int, **changes: Any) -> ModelRegistered:
    manifest = a_manifest(site.artifacts.put(profile), **changes)
    told = registered(site.artifacts, profile, version)
    return replace(told, manifest=site.artifacts.put(manifest.to_bytes()))


async def test_a_score_and_a_feature_in_its_place_come_in_one_batch(site: Site) -> None:
    gauge, wet = a_rain_gauge(site, 40)
    pump, flow = a_pump_with_its_kind(site, 30)
    await site.hear(gauge, pump)

    await site.hear_together([wet, flow])

    assert len(site.predictions.memory.filling.banks) == 1
    windows = await site.database.fetch("select * from window_sketch order by version")
    assert [row["rows"] for row in windows] == [40, 30]
    for row, told in zip(windows, (gauge, pump), strict=True):
        manifest = read_manifest(await site.artifacts.aget(told.manifest))
        layout = read_reference(await site.artifacts.aget(manifest.reference)).layout
        kept = await site.store.rows_of_window((PUMP, row["version"]), 1, 100)
        values = [(*one.features, one.answer, one.score)[: len(layout.features)] for one in kept]
        assert layout.read(row["counts"]) == layout.sketch(
            [list(column) for column in zip(*values, strict=True)]
        )


async def test_the_applied_place_is_saved_with_what_was_counted(watched: Site) -> None:
    heards = [heard_of(batch) for batch in watched.serving.batches_of(QUIET[:20], size=10)]
    place = ("tidewheel.predictions.v1", 3)

    async with watched.database.transaction(Cause.of(heards[-1])):
        await watched.predictions.take(heards, {place: 17})

    row = await watched.database.fetchrow("select * from applied")
    assert row is not None
    assert (row["topic"], row["partition"], row["position"]) == (*place, 17)


async def test_a_version_of_before_cells_were_kept_is_watched_all_the_same(watched: Site) -> None:
    await watched.database.execute("update version set layout = null, width = null")

    await watched.hear(*watched.serving.batches_of(QUIET[:60], size=10))

    await assert_exact(watched, 60)


async def test_rows_of_one_season_share_a_window(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec(season="hour_of_day")))
    batch = site.serving.batch(QUIET[:60])
    rows = tuple(replace(row, at=NOON + timedelta(hours=n % 3)) for n, row in enumerate(batch.rows))

    await site.hear(replace(batch, rows=rows))
    await heard_by(another(site), site, [site.serving.batch(QUIET[60:70])])

    windows = await site.database.fetch("select season, rows from window_sketch order by season")
    assert [(w["season"], w["rows"]) for w in windows] == [("h12", 30), ("h13", 20), ("h14", 20)]


async def test_an_old_window_is_closed_although_no_row_comes(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec(close_after="1h")))
    await site.hear(site.serving.batch(QUIET[:25]))
    ageing = Ageing(predictions=site.predictions)
    early = await ageing.close_old()

    site.now += timedelta(hours=2)
    closed, again = await ageing.close_old(), await ageing.close_old()

    assert (early, closed, again) == (0, 1, 0)
    (said,) = await site.said(WindowEvaluated)
    assert isinstance(said, WindowEvaluated)
    assert (said.window, said.rows) == (1, 25)
    await site.hear(site.serving.batch(QUIET[25:35]))
    await assert_exact(site, 35)


async def test_an_old_window_with_few_rows_stays_open(site: Site) -> None:
    await site.hear(registered(site.artifacts, PROFILE, spec=a_spec(close_after="1h")))
    await site.hear(site.serving.batch(QUIET[:5]))
    site.now += timedelta(days=2)

    assert await Ageing(predictions=site.predictions).close_old() == 0


def spoilt(batch: PredictionsLogged, **columns: Any) -> PredictionsLogged:
    """The batch with these values in columns; the names are a, b and c."""
    place = {name: n for n, name in enumerate("abc")}
    rows = []
    for row in batch.rows:
        features = list(row.features)
        for name, value in columns.items():
            features[place[name]] = value
        rows.append(replace(row, features=tuple(features)))
    return replace(batch, rows=tuple(rows))


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (None, "missing", "a: 100.0% missing"),
        ("five", "schema", "a: 50 of a wrong type"),
        (1e9, "range", "a: 100.0% out of range"),
    ],
)
async def test_broken_data_is_said_once_and_once_that_it_is_over(
    watched: Site, value: Any, kind: str, words: str
) -> None:
    broken = [spoilt(watched.serving.batch(QUIET[n : n + 50]), a=value) for n in (0, 50)]

    first, second = [await watched.hear(batch) for batch in broken]
    over = await watched.hear(watched.serving.batch(QUIET[100:150]))

    alarmed = [event for event in first if isinstance(event, DataQualityAlarmed)]
    assert kind in {event.kind for event in alarmed}
    assert any(words in event.detail for event in alarmed if event.kind == kind)
    assert not [event for event in second if isinstance(event, DataQualityAlarmed)]
    assert kind in {event.kind for event in over if isinstance(event, DataQualityCleared)}
    assert await watched.database.fetchval("select count(*) from data_alarm") == 0


async def test_rows_without_a_column_are_a_fault_of_the_schema(watched: Site) -> None:
    said = await watched.hear(watched.serving.batch(QUIET[:50, :2], names=("a", "b")))

    details = {e.kind: e.detail for e in said if isinstance(e, DataQualityAlarmed)}
    assert details["schema"] == "c: 50 rows without it"


async def test_quiet_data_alarm_nobody(watched: Site) -> None:
    said = await watched.hear(*watched.serving.batches_of(QUIET, size=50))

    assert not [event for event in said if isinstance(event, DataQualityAlarmed)]


async def publish(site: Site, version: int, at: datetime) -> None:
    await site.database.execute(
        "insert into published (dataset, version, rows, at) values ('flow', $1, 100, $2)",
        version,
        at,
    )


async def test_a_champion_that_lacks_data_for_too_long_is_stale_until_a_newer_one(
    site: Site,
) -> None:
    spec = a_spec(freshness="2h")
    await site.hear(registered(site.artifacts, PROFILE, spec=spec), promoted())
    checking = site.predictions.checking
    await publish(site, 1, NOON - timedelta(days=9))
    await publish(site, 2, NOON)
    await publish(site, 3, NOON + timedelta(hours=1, minutes=50))
    site.now = NOON + timedelta(hours=1)
    fresh = await checking.check_age()
    site.now = NOON + timedelta(hours=3)
    stale, again = await checking.check_age(), await checking.check_age()
    newer = replace(registered(site.artifacts, PROFILE, 2, spec=spec), dataset_version=2)
    await site.hear(newer, promoted(2))

    over = await checking.check_age()

    assert (fresh, stale, again, over) == (0, 1, 0, 1)
    alarmed, cleared = await site.said(DataQualityAlarmed, DataQualityCleared)
    assert isinstance(alarmed, DataQualityAlarmed)
    assert isinstance(cleared, DataQualityCleared)
    assert (alarmed.kind, alarmed.version, cleared.kind, cleared.version) == ("stale", 1) * 2
    assert "flow@2" in alarmed.detail


async def test_a_stale_champion_that_comes_back_is_said_to_be_stale_once_more(site: Site) -> None:
    spec = a_spec(freshness="2h")
    await site.hear(registered(site.artifacts, PROFILE, spec=spec), promoted())
    checking = site.predictions.checking
    await publish(site, 1, NOON - timedelta(days=9))
    await publish(site, 2, NOON)
    site.now = NOON + timedelta(hours=3)
    await checking.check_age()
    newer = replace(registered(site.artifacts, PROFILE, 2, spec=spec), dataset_version=2)
    await site.hear(newer, promoted(2))
    await checking.check_age()

    site.now += timedelta(minutes=1)
    await site.hear(rolled_back(2, 1))
    await checking.check_age()

    said = await site.said(DataQualityAlarmed, DataQualityCleared)
    assert [type(event).__name__ for event in said] == [
        "DataQualityAlarmed",
        "DataQualityCleared",
        "DataQualityAlarmed",
    ]


async def test_what_is_said_is_caused_by_a_batch_with_answers_of_its_model(site: Site) -> None:
    batch = Serving().batch(QUIET[:3])
    first, *others = batch.rows
    mixed = replace(batch, rows=(replace(first, model=ModelName("fan")), *others))

    predictions, labels = streams_of(site.predictions, site.labels)

    assert predictions.about is models_in
    assert models_in(mixed) == {"fan", first.model}
    assert list(labels.about(a_label("p", 1.0))) == [first.model]


async def test_memory_keeps_the_windows_that_were_used_last(watched: Site) -> None:
    monitor = replace(watched.predictions, memory=Memory(most=1))
    await watched.hear(registered(watched.artifacts, PROFILE, 2))
    one, two = Serving("serving-0"), Serving("serving-1")

    for start in range(0, 100, 20):
        await heard_by(monitor, watched, [one.batch(QUIET[start : start + 10])])
        await heard_by(monitor, watched, [two.batch(QUIET[start + 10 : start + 20], version=2)])

    assert len(monitor.memory.filling.slots) == 1
    await assert_exact(watched, 100)
