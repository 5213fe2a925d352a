"""A replica's disk with very many small models on it, as it would have become by deploying them.

A few dozen pipelines are fitted and compiled; every model has one of their graphs with a name of
its own inside, so that all digests differ and nothing is shared.
"""

import asyncio
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from services.serving.domain.versions import Proof
from services.serving.handlers.proving import ProvesApart
from services.serving.store.disk import Disk
from services.serving.store.proofs import Proofs
from services.trainer.compiling import compile_model
from shared import models
from shared.artifacts import digest_of
from shared.events import Digest
from shared.manifest import Column, File, Manifest
from tests.serving.building import Version, a_desired, a_manifest

WIDTH: Final = 8
NAMES: Final = tuple(f"sensor_{number}" for number in range(WIDTH))
COLUMNS: Final = tuple(Column(name=n, kind="number", minimum=-3.0, maximum=3.0) for n in NAMES)
ROWS: Final = 600
SEEDS: Final = 5
PROVED: Final = 256


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One fitted pipeline: its compiled model, and the manifest of a version of it."""

    graph: Any
    estimator: bytes
    manifest: Manifest


def pipelines() -> list[Pipeline]:
    """Thirty-five of them, of seven kinds."""
    found = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(ROWS, WIDTH))
        y = X[:, 0] * 2 + X[:, 1] ** 2 + rng.normal(size=ROWS) * 0.1
        wet = np.where(y > 1, "wet", "dry")
        found += [_pipeline(estimator, X, y) for estimator in _regressors(seed)]
        found += [_pipeline(estimator, X, wet) for estimator in _classifiers(seed)]
    return found


def _regressors(seed: int) -> list[Any]:
    return [
        make_pipeline(SimpleImputer(), StandardScaler(), Ridge()),
        RandomForestRegressor(10, max_depth=6, random_state=seed),
        GradientBoostingRegressor(n_estimators=20, random_state=seed),
        HistGradientBoostingRegressor(max_iter=15, random_state=seed),
    ]


def _classifiers(seed: int) -> list[Any]:
    return [
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(8, max_depth=5, random_state=seed),
        make_pipeline(SimpleImputer(), LogisticRegression(C=0.1)),
    ]


def _pipeline(estimator: Any, X: Any, y: Any) -> Pipeline:
    estimator.fit(X, y)
    is_classifier = hasattr(estimator, "classes_")
    classes = models.classes_of(estimator) if is_classifier else ()
    task: Any = "classification" if is_classifier else "regression"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = compile_model(estimator, COLUMNS, task, classes, X[:100], 7)
    if made.data is None:
        raise SystemExit(f"not compiled: {made.record.reason}")
    data = models.dump(estimator)
    plain = a_manifest(digest_of(data), len(data))
    manifest = replace(
        plain, columns=COLUMNS, classes=classes, task=task, compiled=made.record, entity=None
    )
    return Pipeline(onnx.load_model_from_string(made.data), data, manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What lies on the disk."""

    names: Sequence[str]
    versions: Sequence[Version]
    graph_bytes: int


def write_models(folder: Path, count: int) -> Written:
    """So many models as a replica's disk that has applied them all, and asked none."""
    disk = Disk(folder)
    proofs = Proofs(disk.artifacts.with_name("proofs"))
    made = pipelines()
    for one in made:
        disk.place_of(digest_of(one.estimator)).write_bytes(one.estimator)
    names, versions, size = [], [], 0
    for number in range(count):
        name = f"model-{number:05}"
        version, graph_bytes = _write_version(disk, made[number % len(made)], name)
        heard = a_desired(1, version, model=name)
        disk.keep_wanted(heard)
        disk.keep_applied(heard)
        proofs.keep(version.digest, Proof(engine="onnx", seconds=5e-5))
        names.append(name)
        versions.append(version)
        size += graph_bytes
    disk.keep_recent([])
    disk.close()
    return Written(names=names, versions=versions, graph_bytes=size)


def _write_version(disk: Disk, one: Pipeline, name: str) -> tuple[Version, int]:
    one.graph.doc_string = name
    graph: bytes = one.graph.SerializeToString()
    digest = digest_of(graph)
    files = {**one.manifest.files, "model.onnx": File(digest=digest, size_bytes=len(graph))}
    manifest = replace(one.manifest, model=name, files=files)
    data = manifest.to_bytes()
    disk.place_of(digest).write_bytes(graph)
    disk.place_of(digest_of(data)).write_bytes(data)
    version = Version(number=1, digest=digest_of(data), file=digest, manifest=manifest)
    return version, len(graph)


def milliseconds_per_proof(folder: Path, versions: Sequence[Version]) -> float:
    """What proving a version costs in the child, many at a time, once its template runs."""

    async def measured() -> float:
        prover = ProvesApart(folder / "artifacts", seconds=60, megabytes=1_024)
        try:
            await prover.prove(Digest(versions[0].digest), versions[0].manifest)
            started = time.perf_counter()
            await asyncio.gather(*(prover.prove(one.digest, one.manifest) for one in versions))
            return (time.perf_counter() - started) / len(versions) * 1e3
        finally:
            await prover.close()

    return asyncio.run(measured())
