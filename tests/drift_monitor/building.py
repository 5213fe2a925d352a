"""Small real things for tests of the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.domain import Policy
from shared.artifacts import ArtifactStore
from shared.events import (
    DatasetName,
    DatasetPublished,
    Digest,
    Event,
    GroundTruthObserved,
    Json,
    ModelName,
    ModelRegistered,
    PredictionRow,
    PredictionsLogged,
    RunId,
)
from shared.ids import derived
from shared.manifest import Column, File, Manifest
from shared.reference import build_reference

Floats = NDArray[np.float64]
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PUMP = ModelName("pump")
NAMES = ("a", "b", "c")
NOWHERE = Digest("0" * 64)


@dataclass(frozen=True, slots=True)
class Answered:
    values: NDArray[Any]
    probabilities: Floats | None = None


def autoregressive(phi: float, rows: int, features: int, *, seed: int) -> Floats:
    """Stationary series of unit variance whose neighbours correlate by `phi`."""
    noise = np.random.default_rng(seed).normal(size=(rows + 100, features))
    if phi == 0:
        return noise[100:]
    # The filter as one sum over the last lags, beyond which nothing is left.
    weights = np.sqrt(1 - phi**2) * phi ** np.arange(100)
    columns = [np.convolve(noise[:, i], weights)[100 : 100 + rows] for i in range(features)]
    return np.column_stack(columns)


def a_profile(
    series: Floats, *, window: int, names: Sequence[str] = NAMES, noise: float = 0.1
) -> bytes:
    """The profile of a model that answers a + 2b, a fifth of the rows held out."""
    cut = len(series) * 4 // 5
    answers = series[cut:, 0] + 2 * series[cut:, 1]
    losses = np.abs(np.random.default_rng(9).normal(size=len(answers))) * noise
    return build_reference(
        columns=[Column(name=name, kind="number") for name in names],
        train={name: series[:cut, i].copy() for i, name in enumerate(names)},
        holdout_answers=Answered(answers),
        holdout_targets=answers + losses,
        holdout_losses=losses,
        metric="mae",
        classes=(),
        seed=1,
        time_ordered=True,
        window=window,
    )


def a_policy(**changes: Any) -> Policy:
    given: dict[str, Any] = {
        "window": 50,
        "tolerance": 0.1,
        "confirm": 2,
        "cool_down": timedelta(hours=24),
        "by_drift": True,
        "by_quality": True,
    }
    return Policy(**given | changes)


def a_spec(**monitor: Any) -> Json:
    return {
        "apiVersion": "tidewheel/v1",
        "name": "pump",
        "owner": "ada",
        "task": "regression",
        "data": {"dataset": "flow", "target": "y"},
        "monitor": {"window": 50, "confirm": 1, "cooldown": "0", **monitor},
    }


def a_manifest(reference: Digest, **changes: Any) -> Manifest:
    given: dict[str, Any] = {
        "model": "pump",
        "task": "regression",
        "metric": "mae",
        "columns": tuple(Column(name=name, kind="number") for name in NAMES),
        "target": "y",
        "files": {"model.skops": File(digest=NOWHERE, size_bytes=1)},
        "baseline": {"rule": "constant", "value": 0.0},
        "entity": None,
        "bounds": None,
        "lineage": "best_effort",
        "objective_seconds": 0.1,
        "dataset": "flow",
        "dataset_version": 1,
        "dataset_digest": NOWHERE,
        "spec_digest": NOWHERE,
        "code_digest": NOWHERE,
        "exclusions_digest": NOWHERE,
        "holdout": NOWHERE,
        "reference": reference,
        "use": "x",
        "hyperparameters": {},
        "seed": 1,
        "rows_trained": 1,
        "rows_held_out": 1,
        "metrics": {},
        "environment": {},
    }
    return Manifest(**given | changes)


def registered(
    artifacts: ArtifactStore, profile: bytes, version: int = 1, *, spec: Json | None = None
) -> ModelRegistered:
    """A version whose blobs are where its event says."""
    manifest = artifacts.put(a_manifest(artifacts.put(profile)).to_bytes())
    return ModelRegistered(
        model=PUMP,
        version=version,
        run=RunId(derived(None, "run", version)),
        manifest=manifest,
        split=NOWHERE,
        dataset=DatasetName("flow"),
        dataset_version=1,
        dataset_digest=NOWHERE,
        spec_digest=NOWHERE,
        code_digest=NOWHERE,
        spec=spec or a_spec(),
        metrics={},
        use="x",
        hyperparameters={},
        trigger="dataset",
        seconds={},
    )


@dataclass(slots=True)
class Serving:
    """Says what a replica of serving would, in the order of its spool."""

    replica: str = "serving-0"
    batches: int = 0
    answered: int = 0
    at: datetime = NOON
    asked: list[tuple[str, float]] = field(default_factory=list)
    """Ids and answers of all rows so far."""

    def batch(
        self, rows: Floats, *, version: int = 1, names: Sequence[str] = NAMES
    ) -> PredictionsLogged:
        self.batches += 1
        return PredictionsLogged(
            replica=self.replica,
            batch=self.batches,
            columns=(tuple(names),),
            rows=tuple(self._row(list(row), version) for row in rows.tolist()),
        )

    def batches_of(self, rows: Floats, size: int = 25, **given: Any) -> list[PredictionsLogged]:
        return [self.batch(rows[i : i + size], **given) for i in range(0, len(rows), size)]

    def _row(self, values: list[float], version: int) -> PredictionRow:
        self.answered += 1
        self.at += timedelta(seconds=1)
        answer = values[0] + 2 * values[1]
        prediction = f"{self.replica}-{self.answered}"
        self.asked.append((prediction, answer))
        return PredictionRow(
            id=prediction,
            model=PUMP,
            version=version,
            manifest=NOWHERE,
            rung="champion",
            arm="champion",
            generation=1,
            entity=None,
            columns=0,
            features=tuple(values),
            answer=answer,
            score=None,
            at=self.at,
        )


def published(version: int, rows: int) -> DatasetPublished:
    """A version of what the models of these tests learn from."""
    return DatasetPublished(
        dataset=DatasetName("flow"),
        version=version,
        digest=NOWHERE,
        format="csv",
        size_bytes=1,
        rows=rows,
        columns={},
        profile=NOWHERE,
        published_by="ada",
    )


def shadowed(batch: PredictionsLogged, version: int = 2, off: float = 0.5) -> PredictionsLogged:
    """The same batch, each row followed by what a shadow said, off by this much."""
    rows: list[PredictionRow] = []
    for row in batch.rows:
        unseen = replace(
            row,
            id=f"s-{row.id}-{version}",
            version=version,
            arm="shadow",
            rung="shadow",
            columns=len(batch.columns),
            features=(),
            answer=float(row.answer) + off,
            shadow_of=row.id,
        )
        rows += [row, unseen]
    return replace(batch, columns=(*batch.columns, ()), rows=tuple(rows))


def a_label(
    prediction: str, value: float, revision: int = 1, **changes: Any
) -> GroundTruthObserved:
    given: dict[str, Any] = {
        "model": PUMP,
        "prediction": prediction,
        "value": value,
        "observed_at": NOON,
        "revision": revision,
    }
    return GroundTruthObserved(**given | changes)


def kinds(events: Sequence[Event]) -> list[str]:
    """What was said, but for the estimate that comes with every closed window."""
    names = [type(event).__name__ for event in events]
    return [name for name in names if name != "QualityEstimated"]
