"""Models, rows and labels for `bench_monitor`, and a monitor on a real database."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection import compare
from services.drift_monitor.handlers import (
    Judging,
    Labels,
    Predictions,
    Profiles,
    Telling,
    Versions,
)
from services.drift_monitor.memory import Memory
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.streams import BESIDE, carry
from services.drift_monitor.streams import LABELS as TOGETHER
from services.drift_monitor.windows import Kept, Plan
from shared import clock
from shared.artifacts import ArtifactStore
from shared.bus import Publisher, ensure_topics
from shared.events import (
    DatasetName,
    Digest,
    Event,
    GroundTruthObserved,
    Heard,
    ModelName,
    ModelRegistered,
    PredictionRow,
    PredictionsLogged,
    RunId,
)
from shared.ids import derived, uuid7
from shared.manifest import Column, File, Manifest
from shared.postgres import Cause, Database
from shared.reference import build_reference, read_reference
from shared.topics import FEEDBACK, PREDICTIONS

MODELS: Final = 1_000
WINDOW: Final = 1_000
NUMBERS: Final = 14
LEVELS: Final = (2, 3, 5, 10, 30, 60)
NAMES: Final = (
    *(f"number_{n}" for n in range(NUMBERS)),
    *(f"word_{n}" for n in range(len(LEVELS))),
)
NOWHERE: Final = Digest("0" * 64)
ROWS: Final = 100
"""Of a micro-batch."""
REPLICAS: Final = 4
_NOON: Final = datetime(2026, 3, 4, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Answered:
    values: NDArray[Any]
    probabilities: NDArray[np.float64] | None = None


def columns(
    rows: int, seed: int, numbers: int = NUMBERS, levels: Sequence[int] = LEVELS
) -> list[NDArray[Any]]:
    """The features of so many rows, column by column."""
    chance = np.random.default_rng(seed)
    values = list(chance.normal(size=(numbers, rows)))
    words = [
        np.array([f"level-{n}" for n in chance.integers(0, most, size=rows)], dtype=object)
        for most in levels
    ]
    return [*values, *words]


def a_profile(rows: int = 20_000, numbers: int = NUMBERS, levels: Sequence[int] = LEVELS) -> bytes:
    """The profile that all models share; each has its own sketch and its own cells in memory."""
    values = columns(rows, 1, numbers, levels)
    names = (*(f"number_{n}" for n in range(numbers)), *(f"word_{n}" for n in range(len(levels))))
    losses = np.abs(np.random.default_rng(2).normal(size=rows // 5))
    return build_reference(
        columns=[
            Column(name=name, kind="number" if n < numbers else "text")
            for n, name in enumerate(names)
        ],
        train=dict(zip(names, values, strict=True)),
        holdout_answers=Answered(values[0][: rows // 5].copy()),
        holdout_targets=values[0][: rows // 5] + losses,
        holdout_losses=losses,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=WINDOW,
    )


def a_plan(profile: bytes) -> Plan:
    width = len(read_reference(profile).layout.features)
    return Plan(columns=NAMES, width=width, window=WINDOW)


def verdicts(
    profile: bytes, count: int, numbers: int = NUMBERS, levels: Sequence[int] = LEVELS
) -> list[float]:
    """CPU seconds of each verdict on a window of 1,000 rows that has 15 windows before it.

    The first one works out what the others know already of their reference.
    """
    reference = read_reference(profile)
    windows = []
    for seed in range(count + 15):
        answers = np.random.default_rng([5, seed]).normal(size=WINDOW)
        given = [*columns(WINDOW, seed, numbers, levels), answers]
        windows.append(reference.layout.sketch(given))
    found = []
    for place in range(count):
        history = windows[place : place + 16][::-1]
        began = time.process_time()
        compare(reference, history)
        found.append(time.process_time() - began)
    return found


def first_verdicts(profile: bytes, count: int) -> list[float]:
    """CPU seconds of the first verdict of each of so many versions; reading them is not counted."""
    return [verdicts(profile, 1)[0] for _ in range(count)]


def rows_of(models: Sequence[str], count: int, seed: int) -> list[Kept]:
    """Decoded rows of models drawn at random."""
    chance = random.Random(seed)
    values = zip(*(column.tolist() for column in columns(count, seed)), strict=True)
    return [
        Kept(
            id=str(number),
            model=ModelName(chance.choice(models)),
            version=1,
            names=NAMES,
            features=features,
            answer=0.5,
            score=None,
            arm="champion",
            rung="champion",
            at=_NOON + timedelta(milliseconds=number),
        )
        for number, features in enumerate(values)
    ]


def in_envelope(event: Event, sequence: int | None = None) -> Heard[Any]:
    chosen = uuid7()
    return Heard(
        event=event,
        id=chosen,
        source="//tidewheel/bench",
        time=clock.now(),
        correlation=chosen,
        sequence=sequence,
    )


def a_batch(number: int, models: Sequence[str], chance: random.Random) -> PredictionsLogged:
    values = zip(*(column.tolist() for column in columns(ROWS, number)), strict=True)
    at = clock.now()
    return PredictionsLogged(
        replica=f"replica-{number % REPLICAS}",
        batch=number,
        columns=(NAMES,),
        rows=tuple(
            PredictionRow(
                id=f"p-{uuid7().hex}",
                model=ModelName(chance.choice(models)),
                version=1,
                manifest=NOWHERE,
                rung="champion",
                arm="champion",
                generation=1,
                entity=None,
                columns=0,
                features=features,
                answer=features[0],
                score=None,
                at=at,
            )
            for features in values
        ),
    )


def a_manifest(reference: Digest) -> Manifest:
    return Manifest(
        model="model",
        task="regression",
        metric="mae",
        columns=tuple(
            Column(name=name, kind="number" if n < NUMBERS else "text")
            for n, name in enumerate(NAMES)
        ),
        target="y",
        files={"model.skops": File(digest=NOWHERE, size_bytes=1)},
        baseline={"rule": "constant", "value": 0.0},
        entity=None,
        bounds=None,
        lineage="best_effort",
        objective_seconds=0.1,
        dataset="flow",
        dataset_version=1,
        dataset_digest=NOWHERE,
        spec_digest=NOWHERE,
        code_digest=NOWHERE,
        exclusions_digest=NOWHERE,
        holdout=NOWHERE,
        reference=reference,
        use="x",
        hyperparameters={},
        seed=1,
        rows_trained=1,
        rows_held_out=1,
        metrics={},
        environment={},
    )


def registered(model: str, manifest: Digest) -> ModelRegistered:
    return ModelRegistered(
        model=ModelName(model),
        version=1,
        run=RunId(derived(None, "run", model)),
        manifest=manifest,
        split=NOWHERE,
        dataset=DatasetName("flow"),
        dataset_version=1,
        dataset_digest=NOWHERE,
        spec_digest=NOWHERE,
        code_digest=NOWHERE,
        spec={
            "apiVersion": "tidewheel/v1",
            "name": model,
            "owner": "bench",
            "task": "regression",
            "data": {"dataset": "flow", "target": "y"},
            "monitor": {"window": WINDOW},
        },
        metrics={},
        use="x",
        hyperparameters={},
        trigger="dataset",
        seconds={},
    )


@dataclass(slots=True, kw_only=True)
class Watching:
    """A monitor that watches 1,000 models."""

    database: Database
    kafka: str
    predictions: Predictions
    labels: Labels
    models: list[str]
    batches: list[PredictionsLogged] = field(default_factory=list)

    @classmethod
    async def begin(cls, database: Database, kafka: str, folder: str, profile: bytes) -> Watching:
        artifacts, store = ArtifactStore(f"file://{folder}"), PostgresStore(database)
        judging = Judging(store=store, profiles=Profiles(artifacts.aget), now=clock.now, alpha=5e-4)
        telling = Telling(store=store)
        predictions = Predictions(store=store, judging=judging, telling=telling)
        labels = Labels(store=store, judging=judging, telling=telling)
        versions = Versions(store=store, predictions=predictions, fetch=artifacts.aget)
        manifest = artifacts.put(a_manifest(artifacts.put(profile)).to_bytes())
        models = [f"model-{number:04}" for number in range(MODELS)]
        for start in range(0, MODELS, 100):
            async with database.transaction():
                for model in models[start : start + 100]:
                    await versions.watch(in_envelope(registered(model, manifest)))
        return cls(
            database=database, kafka=kafka, predictions=predictions, labels=labels, models=models
        )

    async def through_the_bus(self, rows: int) -> tuple[float, int]:
        """Rows per second from the first to the last commit, and how many are in windows."""
        prefix = f"b{uuid7().hex[-8:]}."
        await ensure_topics(self.kafka, prefix=prefix)
        publisher = Publisher(self.kafka, prefix, timeout_seconds=60)
        chance = random.Random(3)
        self.batches = [a_batch(n, self.models, chance) for n in range(rows // ROWS)]
        for start in range(0, len(self.batches), 200):
            some = self.batches[start : start + 200]
            await publisher.send([(PREDICTIONS, in_envelope(batch)) for batch in some])
        await publisher.close()
        streams = carry(
            self.database,
            self.kafka,
            self.predictions,
            self.labels,
            topic_prefix=prefix,
            replica="0",
        )
        running = asyncio.create_task(streams.run())
        began, counted = 0.0, 0
        while counted < rows:
            await asyncio.sleep(0.05)
            counted = await self.counted()
            began = began or (time.perf_counter() if counted else 0.0)
            first = counted if began and not counted else 0
        seconds = time.perf_counter() - began
        await streams.stop()
        await running
        return (rows - first) / seconds, counted

    async def counted(self) -> int:
        return int(await self.database.fetchval("select coalesce(sum(rows), 0) from window_sketch"))

    async def restart(self) -> float:
        """Seconds until a monitor that remembers nothing has all open windows."""
        fresh = replace(self.predictions, memory=Memory())
        began = time.perf_counter()
        windows = await fresh.placing.recall()
        seconds = time.perf_counter() - began
        if windows != MODELS:
            raise SystemExit(f"{windows} of {MODELS} windows came back")
        return seconds

    async def close_windows(self, count: int) -> list[float]:
        """Seconds of each window from its closing until all about it is ready to be committed."""
        return [await self._close(model) for model in self.models[:count]]

    async def _close(self, model: str) -> float:
        predictions = self.predictions
        async with self.database.transaction(Cause.outside()) as transaction:
            await predictions.store.lock([model])
            began = time.perf_counter()
            closed = await predictions.placing.close((model, 1), "")
            await transaction.say(await predictions.conclude(closed))
            return time.perf_counter() - began

    async def join(self, labels: list[GroundTruthObserved]) -> float:
        """Labels per second, by partitions and transactions as the streams take them."""
        partitions: dict[int, list[Heard[Any]]] = {}
        for label in labels:
            number = crc32(label.model.encode()) % FEEDBACK.partitions
            partitions.setdefault(number, []).append(in_envelope(label))
        slots = asyncio.Semaphore(BESIDE)
        await self.database.execute("analyze")
        # The rows of before and the labels lie ready here, as they never do in a service.
        gc.collect()
        gc.freeze()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as joining:
            for some in partitions.values():
                joining.create_task(self._join(some, slots))
        seconds = time.perf_counter() - began
        gc.unfreeze()
        return len(labels) / seconds

    async def _join(self, labels: list[Heard[Any]], slots: asyncio.Semaphore) -> None:
        """One partition, one transaction after the other."""
        for start in range(0, len(labels), TOGETHER):
            batch = labels[start : start + TOGETHER]
            async with slots, self.database.transaction(Cause.of(batch[-1])) as transaction:
                await transaction.say(await self.labels.take(batch, {}))


async def labels_of(watching: Watching, count: int) -> list[GroundTruthObserved]:
    """One outcome of each of so many rows that were counted."""
    rows = [row for batch in watching.batches for row in batch.rows][:count]
    return [
        GroundTruthObserved(
            model=row.model,
            prediction=row.id,
            value=float(row.answer) + 0.1,
            observed_at=row.at,
        )
        for row in rows
    ]
