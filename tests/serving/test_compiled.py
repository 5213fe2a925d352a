"""Versions with a compiled model: what answers, and what happens when it cannot be used."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from structlog.testing import capture_logs

from services.trainer.compiling import compile_model
from shared import models
from shared.artifacts import ArtifactStore
from shared.events import Digest
from shared.manifest import Column, Compiled, File, Golden
from tests.serving.building import (
    A_ROW,
    FLOW,
    NAMES,
    Replica,
    Version,
    a_desired,
    a_regressor,
    a_version,
)

ROOT = Path(__file__).parents[2]
NUMBERS = tuple(Column(name=n, kind="number", minimum=-3.0, maximum=3.0) for n in NAMES)
HELD = np.random.default_rng(3).normal(size=(40, len(NAMES)))


def a_compiled_version(
    store: ArtifactStore,
    number: int,
    *,
    estimator: Any = None,
    columns: tuple[Column, ...] = NUMBERS,
    rows: Any = HELD,
    data: bytes | None = None,
    record: Callable[[Compiled], Compiled] = lambda record: record,
    **changes: Any,
) -> Version:
    """A version whose proved graph is in the store; `data` takes the place of its bytes."""
    fitted = a_regressor(float(number)) if estimator is None else estimator
    is_classifier = hasattr(fitted, "classes_")
    classes = models.classes_of(fitted) if is_classifier else ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task: Any = "classification" if is_classifier else "regression"
        made = compile_model(fitted, columns, task, classes, rows, 7)
    assert made.data is not None, made.record.reason
    plain = a_version(store, number, estimator=fitted, columns=columns, task=task, **changes)
    graph = made.data if data is None else data
    file = File(digest=store.put(graph), size_bytes=len(graph))
    manifest = replace(
        plain.manifest,
        classes=classes,
        files={**plain.manifest.files, "model.onnx": file},
        compiled=record(made.record),
    )
    digest = store.put(manifest.to_bytes())
    return replace(plain, digest=digest, manifest=manifest, file=file.digest)


async def engine_of(replica: Replica) -> str:
    shown = (await replica.client.get(f"/v1/models/{FLOW}")).json()
    engine: str = shown["arms"][0]["engine"]
    return engine


async def test_a_version_answers_by_its_compiled_model_and_the_door_says_so(
    replica: Replica, store: ArtifactStore
) -> None:
    version = a_compiled_version(store, 2)
    await replica.want(a_desired(1, version))

    (answer,) = await replica.answers()

    expected = a_regressor(2.0).predict(np.array([[A_ROW[name] for name in NAMES]]))[0]
    assert answer["answer"] == pytest.approx(expected, rel=1e-12)
    assert (answer["rung"], answer["version"]) == ("champion", 2)
    assert await engine_of(replica) == "onnx"


async def test_a_version_without_a_compiled_model_answers_as_before(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 2)))

    assert (await replica.answers())[0]["rung"] == "champion"
    assert await engine_of(replica) == "scikit-learn"


async def test_a_compiled_classifier_names_labels_and_shares(
    replica: Replica, store: ArtifactStore
) -> None:
    X = np.random.default_rng(7).normal(size=(200, len(NAMES)))
    y = np.array(["dry", "damp", "wet"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    fitted = HistGradientBoostingClassifier(max_iter=10, random_state=1).fit(X, y)
    await replica.want(a_desired(1, a_compiled_version(store, 2, estimator=fitted)))
    row = {"load": 1.0, "hour": None, "lag": 0.5}

    (answer,) = await replica.answers(row)

    shares = fitted.predict_proba(np.array([[1.0, np.nan, 0.5]]))[0]
    assert answer["answer"] == fitted.classes_[shares.argmax()]
    assert list(answer["probabilities"]) == ["damp", "dry", "wet"]
    assert list(answer["probabilities"].values()) == pytest.approx(shares.tolist(), abs=1e-12)
    assert await engine_of(replica) == "onnx"


async def test_texts_and_missing_texts_reach_the_compiled_model(
    replica: Replica, store: ArtifactStore
) -> None:
    rows = np.empty((60, 3), dtype=object)
    chance = np.random.default_rng(7)
    rows[:, 0] = chance.normal(size=60)
    rows[:, 1] = chance.choice(np.array(["rain", "sun", None], dtype=object), 60)
    rows[:, 2] = chance.normal(size=60)
    encoder = OneHotEncoder(handle_unknown="ignore")
    parts = ColumnTransformer([("n", SimpleImputer(), [0, 2]), ("t", encoder, [1])])
    fitted = make_pipeline(parts, Ridge()).fit(rows, rows[:, 0] + (rows[:, 1] == "rain"))
    columns = (NUMBERS[0], Column(name="sky", kind="text", categories=("rain", "sun")), NUMBERS[2])
    version = a_compiled_version(store, 2, estimator=fitted, columns=columns, rows=rows)
    await replica.want(a_desired(1, version))
    asked = [("rain", 1.0), ("sun", None), (None, 0.5), ("", 0.5), ("hail", 0.5)]

    answers = await replica.answers(*({"load": n, "sky": t, "lag": 0.5} for t, n in asked))

    given = np.array([[np.nan if n is None else n, t, 0.5] for t, n in asked], dtype=object)
    assert [a["answer"] for a in answers] == pytest.approx(fitted.predict(given).tolist())
    assert await engine_of(replica) == "onnx"


async def test_a_row_that_it_refuses_goes_to_the_rung_below_and_the_others_do_not(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_compiled_version(store, 2)))

    answers = await replica.answers({**A_ROW, "hour": None}, A_ROW, {**A_ROW, "hour": None})

    assert [answer["rung"] for answer in answers] == ["baseline", "champion", "baseline"]
    for _ in range(5):
        await replica.answers({**A_ROW, "hour": None})
    assert (await replica.answers())[0]["rung"] == "champion"


def another_answer(record: Compiled) -> Compiled:
    first = record.golden[0]
    assert first.answers is not None
    wrong = Golden(row=first.row, answers=tuple(one + 1e-3 for one in first.answers))
    return replace(record, golden=(wrong, *record.golden[1:]))


def a_refusal(record: Compiled) -> Compiled:
    return replace(record, golden=(Golden(row=record.golden[0].row, answers=None),))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": b"no compiled model"},
        {"data": b""},
        {"record": another_answer},
        {"record": a_refusal},
        {"record": lambda record: replace(record, golden=(Golden(row=(1.0,), answers=(1.0,)),))},
    ],
    ids=["damaged", "empty", "another answer", "no refusal", "other rows"],
)
async def test_a_compiled_model_that_cannot_be_used_costs_nobody_an_answer(
    replica: Replica,
    store: ArtifactStore,
    changes: dict[str, Any],
) -> None:
    version = a_compiled_version(store, 2, **changes)
    with capture_logs() as lines:
        await replica.want(a_desired(1, version))

    (answer,) = await replica.answers()

    assert (answer["rung"], answer["version"]) == ("champion", 2)
    assert await engine_of(replica) == "scikit-learn"
    assert FLOW not in replica.serving.deployments.problems
    (line,) = [line for line in lines if line["event"] == "compiled_not_used"]
    assert (line["model"], line["digest"]) == (FLOW, version.file)
    assert line["reason"]


async def test_a_store_without_the_compiled_model_costs_nobody_an_answer(
    replica: Replica, store: ArtifactStore, tmp_path: Path
) -> None:
    version = a_compiled_version(store, 2)
    (place,) = (p for p in (tmp_path / "store").rglob("*") if p.name == version.file)
    place.unlink()
    await replica.want(a_desired(1, version))

    assert (await replica.answers())[0]["rung"] == "champion"
    assert await engine_of(replica) == "scikit-learn"


async def test_requests_at_the_same_moment_are_one_question_to_a_compiled_model_too(
    replica: Replica, store: ArtifactStore
) -> None:
    version = a_compiled_version(store, 3)
    await replica.want(a_desired(1, version))
    rows = [{**A_ROW, "load": float(i)} for i in range(20)]

    answers = await replica.answers(*rows)

    given = np.array([[row[name] for name in NAMES] for row in rows], dtype=float)
    assert [a["answer"] for a in answers] == pytest.approx(a_regressor(3.0).predict(given).tolist())


CHILD = """
import sys
from pathlib import Path
import services.serving.app
from services.serving.handlers.engines import runtime_of
from services.serving.handlers.loading import fetch, manifest_of
from services.serving.store.disk import Disk
from shared.artifacts import ArtifactStore
disk, store = Disk(Path(sys.argv[1])), ArtifactStore(sys.argv[2])
fetch(disk, store, sys.argv[3])
manifest = manifest_of(disk.read, sys.argv[3])
for file in manifest.files.values():
    fetch(disk, store, file.digest)
opened = runtime_of(disk.read, manifest)
print(opened.engine, opened.say([{"load": 1.0, "hour": 3, "lag": 0.5}])[0][0])
print(sorted({"sklearn", "skops", "scipy", "pandas"} & sys.modules.keys()))
"""


def test_serving_never_imports_scikit_learn_while_its_models_are_compiled(
    store: ArtifactStore, settings: Any, tmp_path: Path
) -> None:
    version = a_compiled_version(store, 2)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "own"), settings.artifacts]

    done = subprocess.run(
        [*command, Digest(version.digest)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("onnx ")
    assert second == "[]"
