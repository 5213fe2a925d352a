"""A database as the release before left it is migrated, and nothing is lost or counted twice."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import orjson
import pytest

from services.drift_monitor.app import MIGRATIONS
from services.drift_monitor.memory import Memory
from shared.artifacts import ArtifactStore
from shared.errors import StoreUnavailable
from shared.events import (
    DatasetName,
    GroundTruthObserved,
    PredictionRow,
    PredictionsLogged,
    QualityMeasured,
    RetrainingRequested,
    RetrainingWithheld,
    RunId,
    TrainingStarted,
    WindowEvaluated,
)
from shared.ids import uuid7
from shared.postgres import Database
from shared.reference import read_reference
from shared.sketch import pack
from tests.conftest import OpenDatabase
from tests.drift_monitor.building import (
    NAMES,
    NOON,
    PUMP,
    Serving,
    a_label,
    a_manifest,
    autoregressive,
    registered,
)
from tests.drift_monitor.conftest import Site, heard_of

pytestmark = pytest.mark.real

PROFILE: Final = (Path(__file__).parent / "profile_v1.json").read_bytes()
"""Written by the release before; only its sample of rows is shorter."""
LAYOUT: Final = read_reference(PROFILE).layout
ROWS: Final = autoregressive(0.3, 200, 3, seed=2)
FORMER: Final = ("0001_monitor.sql", "0002_arms.sql", "0010_owner.sql")
POLICY: Final = {
    "window": 50,
    "tolerance": 0.1,
    "confirm": 2,
    "cool_down": "P1D",
    "by_drift": True,
    "by_quality": True,
}
WATCH: Final = {
    "drift": "critical",
    "critical": 1,
    "clean": 0,
    "is_degraded": False,
    "worse": [],
    "fine": [],
}
DIGEST: Final = hashlib.sha256(orjson.dumps(list(NAMES))).hexdigest()[:32]
ASKED_AT: Final = NOON - timedelta(hours=1)


class Former:
    """Writes rows as the release before did."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def version(self, manifest: str, reference: str) -> None:
        await self.database.execute(
            "insert into version (model, version, manifest, reference, columns, classes, baseline, "
            "metric, policy, watch, registered_at) values ($1, 1, $2, $3, $4, '[]', $5, 'mae', $6, "
            "$7, $8)",
            PUMP,
            manifest,
            reference,
            list(NAMES),
            {"rule": "constant", "value": 0.0},
            POLICY,
            WATCH,
            NOON - timedelta(days=1),
        )
        await self.database.execute(
            "insert into model (model, champion, asked_at, owner) values ($1, 1, $2, 'ada')",
            PUMP,
            ASKED_AT,
        )
        await self.database.execute(
            "insert into column_names (digest, names) values ($1, $2)", DIGEST, list(NAMES)
        )

    async def batch(self, batch: PredictionsLogged, window: int | None, labels: int) -> None:
        """A batch that was counted; its first rows have labels."""
        await self.database.execute(
            "insert into batch (replica, number) values ($1, $2)", batch.replica, batch.batch
        )
        for place, row in enumerate(batch.rows):
            await self._row(row, window, is_labelled=place < labels)

    async def _row(self, row: PredictionRow, window: int | None, *, is_labelled: bool) -> None:
        loss = 0.5 if is_labelled and window else None
        await self.database.execute(
            'insert into prediction (id, model, version, "window", names, features, answer, '
            "score, arm, rung, predicted_at, label, revision, observed_at, label_event, loss, "
            "baseline_loss) values ($1, $2, $3, $4, $5, $6, $7, null, 'champion', 'champion', $8, "
            "$9, $10, $11, $12, $13, $13)",
            row.id,
            row.model,
            row.version,
            window,
            DIGEST,
            orjson.dumps(list(row.features)),
            row.answer,
            row.at,
            float(row.answer) + 0.5 if is_labelled else None,
            1 if is_labelled else None,
            row.at + timedelta(minutes=1) if is_labelled else None,
            uuid7() if is_labelled else None,
            loss,
        )

    async def window(self, number: int, batch: PredictionsLogged, labels: int) -> None:
        """A window with the rows of this batch, closed if it is full."""
        values = [(*row.features, row.answer) for row in batch.rows]
        counts = LAYOUT.count([list(column) for column in zip(*values, strict=True)])
        is_full = len(batch.rows) == POLICY["window"]
        await self.database.execute(
            "insert into window_sketch (model, version, number, rows, counts, started_at, "
            "ended_at, closed_at, labels, steps, quality) "
            "values ($1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            PUMP,
            number,
            len(batch.rows),
            pack(counts),
            batch.rows[0].at,
            batch.rows[-1].at,
            NOON if is_full else None,
            labels,
            3 if is_full else 0,
            {"value": 0.5, "labels": labels} if is_full else None,
        )

    async def waiting(self, label: GroundTruthObserved) -> None:
        await self.database.execute(
            "insert into waiting_label (prediction, model, value, revision, observed_at, event) "
            "values ($1, $2, $3, $4, $5, $6)",
            label.prediction,
            label.model,
            label.value,
            label.revision,
            label.observed_at,
            uuid7(),
        )


@pytest.fixture
async def old(open_database: OpenDatabase, artifacts: ArtifactStore, tmp_path: Path) -> Site:
    """A full window, an open one of 30 rows, 5 rows of a version nobody knows; then migrated."""
    folder = tmp_path / "drift_monitor" / "migrations"
    folder.mkdir(parents=True)
    for name in FORMER:
        shutil.copy(MIGRATIONS / name, folder / name)
    database = await open_database("drift_monitor", folder)
    site, former = Site(database, artifacts), Former(database)
    reference = artifacts.put(PROFILE)
    await former.version(artifacts.put(a_manifest(reference).to_bytes()), reference)
    full, begun = site.serving.batch(ROWS[:50]), site.serving.batch(ROWS[50:80])
    unclaimed = site.serving.batch(ROWS[80:85], version=2)
    await former.batch(full, 1, 50)
    await former.window(1, full, 50)
    await former.batch(begun, 2, 10)
    await former.window(2, begun, 10)
    await former.batch(unclaimed, None, 3)
    for number in (86, 87):
        await former.waiting(a_label(f"serving-0-{number}", 1.0))
    await database.prepare([MIGRATIONS])
    site.now = site.serving.at + timedelta(minutes=5)
    return site


async def assert_exact(site: Site, rows: dict[tuple[int, int], int]) -> None:
    """These windows have so many rows, and the counts of exactly theirs."""
    found = await site.database.fetch(
        "select version, number, rows, counts from window_sketch order by version, number"
    )
    assert {(row["version"], row["number"]): row["rows"] for row in found} == rows
    for row in found:
        kept = await site.store.rows_of_window((PUMP, row["version"]), row["number"], 1000)
        values = [(*one.features, one.answer) for one in kept]
        expected = LAYOUT.count([list(column) for column in zip(*values, strict=True)])
        assert len(kept) == row["rows"]
        assert (LAYOUT.read(row["counts"]).counts == expected).all()


async def labels_of(site: Site) -> dict[tuple[int, int], int]:
    rows = await site.database.fetch("select version, number, labels from window_quality")
    return {(row["version"], row["number"]): row["labels"] for row in rows if row["labels"]}


async def test_rows_and_labels_go_on_where_the_release_before_ended(old: Site) -> None:
    again = replace(Serving().batch(ROWS[:50]), batch=2)

    said = await old.hear(again, *old.serving.batches_of(ROWS[85:115], size=10))

    await assert_exact(old, {(1, 1): 50, (1, 2): 50, (1, 3): 10})
    assert await labels_of(old) == {(1, 1): 50, (1, 2): 12}
    assert await old.store.count_waiting() == 0
    assert [event.window for event in said if isinstance(event, WindowEvaluated)] == [2]


async def test_a_second_monitor_and_a_start_find_the_old_open_window(old: Site) -> None:
    monitor = replace(old.predictions, memory=Memory())
    assert await monitor.placing.recall() == 0

    for batch in old.serving.batches_of(ROWS[85:105], size=10):
        heard = heard_of(batch)
        async with old.database.transaction():
            await monitor.take([heard], {})
        monitor = replace(monitor, memory=Memory())
        assert await monitor.placing.recall() == 1 or batch.batch == 5

    await assert_exact(old, {(1, 1): 50, (1, 2): 50})


async def test_a_first_transaction_that_comes_to_nothing_leaves_no_plan_behind(old: Site) -> None:
    batch = old.serving.batch(ROWS[85:95])
    with contextlib.suppress(StoreUnavailable):
        async with old.database.transaction():
            await old.predictions.take([heard_of(batch)], {})
            raise ConnectionError

    await old.hear(batch)

    await assert_exact(old, {(1, 1): 50, (1, 2): 40})


async def test_labels_of_old_rows_are_joined_revised_and_measured_once(old: Site) -> None:
    await old.hear(old.serving.batch(ROWS[85:105]))
    late = [a_label(row, answer + 0.1) for row, answer in old.serving.asked[60:80]]
    known, answer = old.serving.asked[0]
    revised = a_label(known, answer + 0.2, revision=2, observed_at=NOON + timedelta(days=1))

    said = await old.hear_together([*late, *late[:3], revised])

    measured = [event for event in said if isinstance(event, QualityMeasured)]
    assert {(event.window, event.labels, event.revision) for event in measured} == {
        (1, 50, 2),
        (2, 32, 1),
    }
    past = 'select count(*) from outcome where "window" = 1 and not counts'
    assert await old.database.fetchval(past) == 1


async def test_a_version_that_is_registered_after_takes_its_old_rows_with_their_labels(
    old: Site,
) -> None:
    assert await old.database.fetchval("select count(*) from outcome where version = 2") == 3
    before = await old.database.fetchval("select count(*) from label_delay")

    await old.hear(registered(old.artifacts, PROFILE, 2))

    await assert_exact(old, {(1, 1): 50, (1, 2): 30, (2, 1): 5})
    assert (await labels_of(old))[2, 1] == 3
    assert await old.database.fetchval("select count(*) from label_delay") == before == 0
    losses = await old.database.fetch("select loss from outcome where version = 2")
    assert [round(row["loss"], 6) for row in losses] == [0.5] * 3


async def test_an_old_request_cools_down_and_an_old_model_has_its_own_source(old: Site) -> None:
    version = (await old.store.versions([(PUMP, 1)]))[PUMP, 1]
    about = await old.judging.deciding.about(version, old.now)
    shifted = ROWS + 6.0

    said = await old.hear(*old.serving.batches_of(shifted[:200], size=25))

    assert about.dataset == "flow"
    assert not [event for event in said if isinstance(event, RetrainingRequested)]
    withheld = [event.reason for event in said if isinstance(event, RetrainingWithheld)]
    assert "cool_down" in withheld


async def test_a_training_that_is_over_is_heard_of_late_and_stands_in_nobodys_way(
    old: Site,
) -> None:
    started = TrainingStarted(
        model=PUMP,
        run=RunId(uuid7()),
        attempt=1,
        dataset=DatasetName("flow"),
        dataset_version=1,
        trigger="dataset",
    )
    heard = replace(heard_of(started), time=NOON - timedelta(days=1, hours=1))

    async with old.database.transaction():
        await old.courses.note_training(heard)

    course = (await old.store.course(PUMP)).course
    assert course.training_at is None
