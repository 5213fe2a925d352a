"""Small real versions: a fitted estimator, its manifest, its held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression

from services.evaluator.verdict import Given, rules_from
from shared import models
from shared.artifacts import ArtifactStore, digest_of
from shared.events import DatasetName, Digest, Json, ModelName, ModelRegistered, RunId
from shared.holdout import Holdout
from shared.ids import derived
from shared.manifest import Column, File, Manifest
from shared.models import dump
from shared.spec import read_spec

ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The three files of a version."""

    manifest: bytes
    model: bytes
    holdout: bytes

    @property
    def digest(self) -> Digest:
        return digest_of(self.manifest)

    def files(self) -> dict[str, bytes]:
        return {"manifest": self.manifest, "model": self.model, "holdout": self.holdout}

    def keep(self, store: ArtifactStore) -> Version:
        for part in (self.model, self.holdout, self.manifest):
            store.put(part)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """y = 3 x + noise (or whether that is above 0), and what is held out of it."""

    x: NDArray[np.float64]
    y: NDArray[Any]
    task: Literal["regression", "classification"]

    @classmethod
    def drawn(
        cls,
        task: Literal["regression", "classification"] = "regression",
        *,
        rows: int = ROWS,
        seed: int = 5,
        noise: float = 1.0,
    ) -> World:
        draw = np.random.Generator(np.random.PCG64(seed))
        x = draw.normal(size=rows)
        score = 3 * x + draw.normal(scale=noise, size=rows)
        y: NDArray[Any] = score
        if task == "classification":
            y = np.where(score > 0, "wet", "dry").astype(object)
        return cls(x=x, y=y, task=task)

    def held_out(self, **changes: Any) -> Holdout:
        given: dict[str, Any] = {
            "task": self.task,
            "target": "y",
            "columns": (Column(name="x", kind="number"), Column(name="last", kind="number")),
            "values": {"x": self.x, "last": np.roll(self.x, 1)},
            "y": self.y,
            "row_hashes": np.arange(1, len(self.x) + 1, dtype=np.uint64),
            "train_hashes": np.arange(10_000, 10_100, dtype=np.uint64),
            "times": np.arange(len(self.x), dtype=np.int64) * 3_600_000_000,
        }
        return Holdout(**given | changes)


def a_version(
    world: World,
    *,
    slope: float = 3.0,
    rule: Json | None = None,
    holdout: Holdout | None = None,
    manifest_changes: dict[str, Any] | None = None,
    estimator: Any = None,
) -> Version:
    """A linear model with this slope; the right one is 3."""
    model = dump(estimator or an_estimator(world.task, slope))
    held = (holdout or world.held_out()).to_bytes()
    classes = models.classes_of(models.load(model)) if world.task == "classification" else ()
    given: dict[str, Any] = {
        "model": "pump",
        "task": world.task,
        "metric": "mae",
        "columns": (Column(name="x", kind="number"),),
        "target": "y",
        "classes": classes,
        "files": {"model.skops": File(digest=digest_of(model), size_bytes=len(model))},
        "baseline": rule or a_rule(world.task),
        "entity": None,
        "bounds": None,
        "lineage": "best_effort",
        "objective_seconds": 0.1,
        "dataset": "flow",
        "dataset_version": 1,
        "dataset_digest": "d" * 64,
        "spec_digest": "a" * 64,
        "code_digest": "b" * 64,
        "exclusions_digest": "c" * 64,
        "holdout": digest_of(held),
        "reference": "f" * 64,
        "use": "a test",
        "hyperparameters": {},
        "seed": 7,
        "rows_trained": 100,
        "rows_held_out": len(world.x),
        "metrics": {},
        "environment": {},
    }
    manifest = Manifest(**given | (manifest_changes or {})).to_bytes()
    return Version(manifest=manifest, model=model, holdout=held)


def an_estimator(task: str, slope: float) -> Any:
    """Fitted on points of the line itself."""
    x = np.linspace(-2, 2, 21).reshape(-1, 1)
    if task == "regression":
        return LinearRegression().fit(x, slope * x[:, 0])
    labels = np.where(slope * x[:, 0] > 0, "wet", "dry")
    return LogisticRegression(C=100).fit(x, labels)


def a_rule(task: str) -> Json:
    if task == "regression":
        return {"rule": "constant", "value": 0.0}
    return {"rule": "majority", "shares": [["wet", 0.5], ["dry", 0.5]]}


def a_spec(
    task: str = "regression", *, gates: Sequence[Json] = (), ordered: bool = True, **parts: Any
) -> dict[str, Any]:
    data = {"dataset": "flow", "target": "y"} | ({"time": "at"} if ordered else {})
    return {
        "apiVersion": "tidewheel/v1",
        "name": "pump",
        "owner": "ada",
        "task": task,
        "data": data,
        "gates": list(gates),
        **parts,
    }


def a_registration(
    version: int,
    files: Version,
    *,
    spec: Json | None = None,
    code: str = "b",
    split: str = "e",
    model: str = "pump",
) -> ModelRegistered:
    return ModelRegistered(
        model=ModelName(model),
        version=version,
        run=RunId(derived(None, "run", model, version)),
        manifest=files.digest,
        split=Digest(split * 64),
        dataset=DatasetName("flow"),
        dataset_version=version,
        dataset_digest=Digest("d" * 64),
        spec_digest=Digest("a" * 64),
        code_digest=Digest(code * 64),
        spec=spec or a_spec(),
        metrics={},
        use="a test",
        hyperparameters={},
        trigger="dataset",
        seconds={},
        authors={"spec": "grace"},
    )


def broken(value: float) -> Any:
    """A regression whose every answer is this."""
    model = an_estimator("regression", 1.0)
    model.intercept_ = value
    return model


def an_argument(
    candidate: Version,
    champion: Version | None = None,
    *,
    spec: Json | None = None,
    anchor: Version | None = None,
    held: bytes | None = None,
    metric_packages: Sequence[str] = (),
    **given: Any,
) -> dict[str, Any]:
    """What the scoring child is asked."""
    mode = "change" if champion else "first"
    known: dict[str, Any] = {"mode": mode, "anchor": anchor is not None, "seed": 11} | given
    return {
        "candidate": candidate.files(),
        "champion": champion.files() if champion else None,
        "anchor": anchor.files() if anchor else None,
        "held": held,
        "rules": rules_from(read_spec(spec or a_spec())).to_plain(),
        "given": Given(**known).to_plain(),
        "metric_packages": list(metric_packages),
    }
