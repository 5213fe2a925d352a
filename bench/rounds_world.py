"""Many models with windows behind them, written straight into a monitor's database."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from bench.monitor_world import NOWHERE, Answered
from services.drift_monitor.app import MIGRATIONS
from services.drift_monitor.handlers import (
    Ageing,
    Judging,
    Predictions,
    Profiles,
    Settling,
    Telling,
    Versions,
)
from services.drift_monitor.quality.delays import counted
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.qualities import NEW
from shared.artifacts import ArtifactStore
from shared.events import DatasetName, Digest, Heard, ModelName, ModelRegistered, RunId
from shared.ids import derived
from shared.manifest import Column, File, Manifest
from shared.postgres import Cause, Database
from shared.reference import build_reference, read_reference

NOW: Final = datetime(2026, 3, 4, 12, tzinfo=UTC)
ROWS: Final = 100
"""Of a window; half of them get a label within an hour, the others never."""
NAMES: Final = ("a", "b")
_MODELS: Final = """
    insert into model (model, champion) select 'model-' || n, 1 from generate_series(1, $1::int) n
"""
_VERSIONS: Final = """
    insert into version (model, version, manifest, reference, columns, classes, baseline, metric,
        policy, watch, registered_at, season, close_after, width, layout, newest)
    select 'model-' || n, version, manifest, reference, columns, classes, baseline, metric, policy,
        watch, registered_at, season, interval '1 hour', width, layout, $2::int
    from version cross join generate_series(1, $1::int) n where model = 'template'
"""
_WINDOWS: Final = """
    insert into window_sketch (model, version, number, rows, counts, begun_at, started_at, ended_at,
        closed_at, opened_at, severity, mode, alpha, detail, features)
    select 'model-' || n, 1, w, 100, case when w > $3 - 15 then $5::bytea else '' end,
        at - interval '1 hour', at - interval '1 hour', at, at, at - interval '1 hour', null,
        'independent', 0.0005, 'like the reference', '[]'
    from generate_series($1::int, $2::int) n cross join generate_series(1, $3::int) w
    cross join lateral (select $4::timestamptz - ($3 - w + 1) * interval '1 hour' as at) moment
"""
_QUALITIES: Final = """
    insert into window_quality (model, version, number, labels, steps, revision, state, settled)
    select model, version, number, 50, 1, 1, 'final', number <= $3 - 2
    from window_sketch join generate_series($1::int, $2::int) n on model = 'model-' || n
"""
_OUTCOMES: Final = """
    insert into outcome (place, model, version, "window", at, known_at, value, revision,
        observed_at, event, loss, counts)
    select n * 10000 + number, model, version, number, ended_at, ended_at, '1', 0, ended_at,
        '00000000-0000-0000-0000-000000000000', 0.1, true
    from window_sketch join generate_series($1::int, $2::int) n on model = 'model-' || n
"""
_OPEN: Final = """
    insert into window_sketch (model, version, number, rows, counts, begun_at, started_at, ended_at,
        opened_at)
    select model, version, newest + 1, 40, $1, $2, $2, $2, $2 from version where model <> 'template'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A monitor that stands at `NOW` unless it is moved."""

    database: Database
    judging: Judging
    predictions: Predictions
    profile: bytes
    clock: list[datetime]

    @property
    def settling(self) -> Settling:
        """What looks at labels because of time."""
        return Settling(store=self.judging.store, judging=self.judging)

    @property
    def ageing(self) -> Ageing:
        """What closes old windows."""
        return Ageing(predictions=self.predictions)

    async def add(self, models: int, windows: int) -> None:
        """Models with closed windows behind them, whose labels have all come but the newest."""
        database = self.database
        await database.execute(_MODELS, models)
        await database.execute(_VERSIONS, models, windows)
        # In parts: one statement may take no longer than half a minute.
        part = max(1, 100_000 // windows)
        for first in range(1, models + 1, part):
            last = min(models, first + part - 1)
            await database.execute(_WINDOWS, first, last, windows, NOW, self.sketch(ROWS))
            await database.execute(_QUALITIES, first, last, windows)
            await database.execute(_OUTCOMES, first, last)
        await database.execute(
            "insert into label_delay (model, came, settled) select model, $1, 3600 from version "
            "where model <> 'template'",
            (counted([1800.0]) * 50 * windows).tolist(),
        )
        await database.execute(
            "insert into detector (model, version, fed_to, bets, labels, level, rule) "
            "select model, 1, $1, $2, 0, 0, '' from version where model <> 'template'",
            NOW,
            list(NEW.bets),
        )
        await database.execute("analyze")

    async def open_old(self) -> None:
        """Each model has an open window of forty rows that is older than it may become."""
        await self.database.execute(_OPEN, self.sketch(40), NOW - timedelta(hours=2))
        await self.database.execute("analyze window_sketch")

    def sketch(self, rows: int) -> bytes:
        """Of a window without any change."""
        layout = read_reference(self.profile).layout
        values = np.random.default_rng(rows).normal(size=(3, rows))
        return layout.sketch([*values]).to_bytes()


@asynccontextmanager
async def a_fleet(url: str) -> AsyncIterator[Fleet]:
    """A monitor on this database, with one registered version that others are copied from."""
    database = await Database.open(url, "drift_monitor", migrations=[MIGRATIONS], size=2)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = ArtifactStore(f"file://{Path(folder)}")
        clock = [NOW]
        store = PostgresStore(database)
        judging = Judging(
            store=store, profiles=Profiles(artifacts.aget), now=lambda: clock[0], alpha=5e-4
        )
        predictions = Predictions(store=store, judging=judging, telling=Telling(store=store))
        versions = Versions(store=store, predictions=predictions, fetch=artifacts.aget)
        profile = _profile()
        await _register(database, versions, artifacts, profile)
        try:
            yield Fleet(
                database=database,
                judging=judging,
                predictions=predictions,
                profile=profile,
                clock=clock,
            )
        finally:
            await database.close()


def _profile() -> bytes:
    chance = np.random.default_rng(1)
    values = chance.normal(size=(2, 2000))
    losses = np.abs(chance.normal(size=400)) * 0.1
    return build_reference(
        columns=[Column(name=name, kind="number") for name in NAMES],
        train=dict(zip(NAMES, values, strict=True)),
        holdout_answers=Answered(values[0][:400].copy()),
        holdout_targets=values[0][:400] + losses,
        holdout_losses=losses,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=ROWS,
    )


async def _register(
    database: Database, versions: Versions, artifacts: ArtifactStore, profile: bytes
) -> None:
    told = _registered(artifacts.put(_manifest(artifacts.put(profile)).to_bytes()))
    heard = Heard(
        event=told, id=derived(None, "bench"), source="//bench", time=NOW,
        correlation=derived(None, "bench"),
    )  # fmt: skip
    async with database.transaction(Cause.of(heard)):
        await versions.watch(heard)


def _manifest(reference: Digest) -> Manifest:
    return Manifest(
        model="template", task="regression", metric="mae",
        columns=tuple(Column(name=name, kind="number") for name in NAMES), target="y",
        files={"model.skops": File(digest=NOWHERE, size_bytes=1)},
        baseline={"rule": "constant", "value": 0.0}, entity=None, bounds=None,
        lineage="best_effort", objective_seconds=0.1, dataset="flow", dataset_version=1,
        dataset_digest=NOWHERE, spec_digest=NOWHERE, code_digest=NOWHERE,
        exclusions_digest=NOWHERE, holdout=NOWHERE, reference=reference, use="x",
        hyperparameters={}, seed=1, rows_trained=1600, rows_held_out=400, metrics={},
        environment={},
    )  # fmt: skip


def _registered(manifest: Digest) -> ModelRegistered:
    spec = {
        "apiVersion": "tidewheel/v1", "name": "template", "owner": "ada", "task": "regression",
        "data": {"dataset": "flow", "target": "y"},
        "monitor": {"window": ROWS, "close_after": "1h"},
    }  # fmt: skip
    return ModelRegistered(
        model=ModelName("template"), version=1, run=RunId(derived(None, "run")), manifest=manifest,
        split=NOWHERE, dataset=DatasetName("flow"), dataset_version=1, dataset_digest=NOWHERE,
        spec_digest=NOWHERE, code_digest=NOWHERE, spec=spec, metrics={}, use="x",
        hyperparameters={}, trigger="dataset", seconds={},
    )  # fmt: skip
