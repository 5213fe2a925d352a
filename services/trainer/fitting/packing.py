"""The refitted candidate as blobs: model, held-out rows, reference profile, and the manifest."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.trainer.fitting.backgrounds import build_background
from services.trainer.fitting.reading import CannotTrain, Table
from services.trainer.fitting.searching import Rows, Trial
from services.trainer.fitting.splitting import Split, taken
from shared import baselines
from shared.artifacts import digest_of
from shared.background import BACKGROUND_FILE
from shared.errors import Unprocessable
from shared.events import Digest, Json
from shared.holdout import Holdout
from shared.losses import metric_value, row_losses
from shared.manifest import Column, Compiled, File, LeftOut, Manifest
from shared.models import Answers, Label, classes_of, environment, predict
from shared.reference import build_reference
from shared.spec import ModelSpec

MOST_CATEGORIES = 100
_FILES = {"model.skops": "model", "model.onnx": "compiled", BACKGROUND_FILE: "background"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run is asked to fit, from the payload of its job."""

    model: str
    dataset: str
    dataset_version: int
    dataset_digest: Digest
    spec_digest: Digest
    code_digest: Digest
    exclusions_digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The candidate on the held-out rows."""

    answers: Answers
    losses: NDArray[np.float64]
    classes: tuple[Label, ...]
    metrics: dict[str, float]


def described(
    columns: Sequence[Column], values: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]
) -> tuple[Column, ...]:
    """The features with what was seen of them in training."""
    return tuple(_described(column, taken(values[column.name], rows)) for column in columns)


def _described(column: Column, values: NDArray[Any]) -> Column:
    if column.kind == "text":
        seen = Counter(value for value in values if value is not None)
        ranked = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
        levels = tuple(level for level, _ in ranked[:MOST_CATEGORIES])
        return Column(name=column.name, kind="text", categories=levels)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    return Column(name=column.name, kind=column.kind, minimum=low, maximum=high)


def held_out_rows(spec: ModelSpec, table: Table, split: Split, labels: NDArray[Any]) -> Holdout:
    """The rows that judge, with every column that some version's model may read."""
    return _judging(spec, table, split, labels, split.held_out)


def left_out_rows(spec: ModelSpec, table: Table, split: Split, labels: NDArray[Any]) -> Holdout:
    """The newest rows that were left out, at most as many as judge."""
    return _judging(spec, table, split, labels, split.left_out[-len(split.held_out) :])


def _judging(
    spec: ModelSpec, table: Table, split: Split, labels: NDArray[Any], rows: NDArray[np.int64]
) -> Holdout:
    columns = tuple(column for column in table.columns() if column.name != spec.data.target)
    return Holdout(
        task=spec.task,
        target=spec.data.target,
        columns=columns,
        values={column.name: taken(table.values[column.name], rows) for column in columns},
        y=taken(labels, rows),
        row_hashes=split.hashes[rows],
        train_hashes=np.sort(split.hashes[split.train]),
        times=None if split.times is None else split.times[rows],
    )


def fitted_rule(spec: ModelSpec, columns: Sequence[Column], labels: NDArray[Any]) -> Json:
    """The baseline rule with what it takes from the training rows.

    Raises:
        CannotTrain: it cannot be computed from the columns of a request.
    """
    rule = spec.effective_baseline
    needed = {rule.lag} if rule.lag else set()
    try:
        if rule.rule == "expression" and rule.expression:
            needed |= baselines.columns_of(rule.expression)
        missing = needed - {column.name for column in columns}
        if missing:
            raise CannotTrain(f"the baseline needs {sorted(missing)}, which are no features")
        return baselines.fit_rule(rule, labels.tolist())
    except (ValueError, TypeError) as error:
        raise CannotTrain(f"the baseline rule does not fit: {error}") from error


def score(spec: ModelSpec, estimator: Any, rule: Json, held: Holdout, rows: Rows) -> Scored:
    """The candidate and the baseline on the held-out rows.

    Raises:
        CannotTrain: the candidate cannot be scored there.
    """
    classes = classes_of(estimator) if spec.task == "classification" else ()
    strange = sorted({str(label) for label in held.y.tolist()} - {str(c) for c in classes})
    if classes and strange:
        raise CannotTrain(f"the held-out rows have classes that training rows lack: {strange[:5]}")
    try:
        answers = predict(estimator, rows.X, spec.task)
        losses = row_losses(spec.metric, held.y, answers, classes)
        naive = baseline_answers(rule, held, classes)
        metrics = {name: _metric(name, held.y, answers, classes) for name in _shown(spec)}
        metrics[f"baseline_{spec.metric}"] = _metric(spec.metric, held.y, naive, classes)
    except Unprocessable as error:
        raise CannotTrain(str(error)) from error
    if not all(np.isfinite(value) for value in metrics.values()):
        raise CannotTrain("its answers to the held-out rows are not all finite")
    return Scored(answers=answers, losses=losses, classes=classes, metrics=metrics)


def _shown(spec: ModelSpec) -> list[str]:
    usual = ["mae", "rmse"] if spec.task == "regression" else ["log_loss", "brier", "accuracy"]
    return usual if spec.metric in usual else [spec.metric, *usual]


def _metric(name: str, y: NDArray[Any], answers: Answers, classes: Sequence[Label]) -> float:
    value = metric_value(name, row_losses(name, y, answers, classes))
    return 1.0 - value if name == "accuracy" else value  # for people: the share that is right


def baseline_answers(rule: Json, held: Holdout, classes: Sequence[Label]) -> Answers:
    """What the fitted rule says about the held-out rows."""
    if not classes:
        said = [baselines.answer(rule, row) for row in held.rows()]
        return Answers(np.array(said, dtype=np.float64), None)
    labels = np.empty(len(held), dtype=object)
    labels[:] = [baselines.answer(rule, row) for row in held.rows()]
    if rule["rule"] == "majority":
        shares = [baselines.probabilities(rule, classes)] * len(held)
    else:
        shares = [baselines.one_hot(str(label), classes) for label in labels]
    return Answers(labels, np.array(shares, dtype=np.float64))


def profile(
    spec: ModelSpec,
    columns: Sequence[Column],
    table: Table,
    split: Split,
    held: Holdout,
    scored: Scored,
) -> bytes:
    """The reference that drift is measured against."""
    return build_reference(
        columns=columns,
        train={column.name: taken(table.values[column.name], split.train) for column in columns},
        holdout_answers=scored.answers,
        holdout_targets=held.y,
        holdout_losses=scored.losses,
        metric=spec.metric,
        classes=scored.classes,
        seed=spec.train.seed,
        time_ordered=split.times is not None,
        window=spec.monitor.window,
        season=spec.monitor.season,
        times=None if split.times is None else split.times[split.train],
        holdout_times=None if split.times is None else split.times[split.held_out],
    )


def background(spec: ModelSpec, columns: Sequence[Column], table: Table, split: Split) -> bytes:
    """What explanations compare a row with."""
    train = {column.name: taken(table.values[column.name], split.train) for column in columns}
    return build_background(columns, train, seed=spec.train.seed)


def manifest(
    spec: ModelSpec,
    order: Order,
    columns: tuple[Column, ...],
    split: Split,
    best: Trial,
    rule: Json,
    scored: Scored,
    blobs: Mapping[str, bytes],
    compiled: Compiled,
    left_out: LeftOut,
) -> Manifest:
    """What the version is made of; its digest is the version's."""
    return Manifest(
        model=order.model,
        task=spec.task,
        metric=spec.metric,
        columns=columns,
        target=spec.data.target,
        classes=scored.classes,
        files={file: _file(blobs[name]) for file, name in _FILES.items() if name in blobs},
        baseline=rule,
        entity=spec.serving.entity,
        bounds=spec.serving.bounds,
        lineage=spec.serving.lineage,
        objective_seconds=spec.serving.objective.total_seconds(),
        dataset=order.dataset,
        dataset_version=order.dataset_version,
        dataset_digest=order.dataset_digest,
        spec_digest=order.spec_digest,
        code_digest=order.code_digest,
        exclusions_digest=order.exclusions_digest,
        holdout=digest_of(blobs["holdout"]),
        reference=digest_of(blobs["reference"]),
        use=best.candidate.use,
        hyperparameters=best.hyperparameters,
        seed=spec.train.seed,
        rows_trained=len(split.train),
        rows_held_out=len(split.held_out),
        metrics=scored.metrics,
        environment={"python": platform.python_version(), **environment()},
        compiled=compiled,
        left_out=left_out,
    )


def _file(data: bytes) -> File:
    return File(digest=digest_of(data), size_bytes=len(data))
