"""One run from beginning to end. `fit` is called in a confined child with plain data."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.trainer.compiling import compile_model
from services.trainer.fitting import packing
from services.trainer.fitting.building import Builder
from services.trainer.fitting.folding import chosen
from services.trainer.fitting.leaving import (
    TRY_BOTH_ABOVE,
    LeftOutRows,
    is_better_with,
    left_out,
)
from services.trainer.fitting.reading import CannotTrain, Table, read_table
from services.trainer.fitting.searching import Rows, Search, Trial, fitted, validation_losses
from services.trainer.fitting.splitting import Split, split_rows, taken
from shared.artifacts import digest_of
from shared.losses import metric_value
from shared.manifest import Column, LeftOut
from shared.models import dump, load, plain_label
from shared.models import warm_up as warm_up_models
from shared.spec import ModelSpec, read_spec
from shared.tabular import stacked

SEARCH_SHARE: Final = 0.6
"""Of the budget. The rest is for the refit and for packing."""
COMPILE_SHARE: Final = 0.1
"""Of the budget; a proof that takes longer is given up, and scikit-learn itself answers."""
MOST_CLASSES: Final = 200


def fit(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Fit the best candidate and pack it.

    Args:
        argument: the payload of the job; `data` (bytes) or `path`; `allowed` modules.

    Returns:
        The blobs `model`, `holdout`, `reference`, `background` and `manifest`, and what
        `training.completed` tells about them. The same argument gives the same blobs.

    Raises:
        CannotTrain: dataset and specification do not go together.
    """
    clock = _StopWatch()
    source = argument.get("data") or argument["path"]
    table = read_table(source, argument["format"], argument["columns"])
    clock.lap("read")
    return fit_table(argument, table, clock)


def fit_table(argument: Mapping[str, Any], table: Table, clock: "_StopWatch") -> dict[str, Any]:
    """The same from a table that was read."""
    spec = read_spec(argument["spec"])
    out = left_out(table, argument.get("exclusions", ()), argument.get("leave_out", ()))
    split = split_rows(table, spec.data, out.mask)
    features = features_of(spec, table)
    labels = labels_of(spec, table)
    columns = packing.described(features, table.values, split.train)
    builder = Builder(allowed=tuple(argument["allowed"]), columns=features)
    rule = packing.fitted_rule(spec, columns, taken(labels, split.train))
    held = packing.held_out_rows(spec, table, split, labels)
    deadline = time.monotonic() + SEARCH_SHARE * spec.train.budget.total_seconds()
    trials = Search(
        spec,
        builder,
        rows_of(features, table, labels, split.inner),
        rows_of(features, table, labels, split.validation),
        deadline=deadline,
    ).best_of_each()
    whole = rows_of(features, table, labels, split.train)
    best = chosen(spec, builder, trials, whole, deadline=deadline)
    tried = Both.tried(spec, builder, best, features, table, labels, split, out)
    if tried.keeps:
        # What was left out is better learned from: the model sees it, and so do all that count.
        split = replace(split, train=split.train_with, left_out=split.left_out[:0])
        whole = rows_of(features, table, labels, split.train)
        columns = packing.described(features, table.values, split.train)
        held = packing.held_out_rows(spec, table, split, labels)
    model = dump(fitted(spec, builder, best.candidate, best.parameters, whole))
    clock.lap("fit")
    # What is judged is what was written, not what is still in memory.
    judged = rows_of(features, table, labels, split.held_out)
    written = load(model)
    scored = packing.score(spec, written, rule, held, judged)
    clock.lap("score")
    graph = compile_model(
        written,
        columns,
        spec.task,
        scored.classes,
        judged.X,
        spec.train.seed,
        seconds=COMPILE_SHARE * spec.train.budget.total_seconds(),
    )
    clock.lap("compile")
    blobs = {
        "model": model,
        "holdout": held.to_bytes(),
        "reference": packing.profile(spec, columns, table, split, held, scored),
        "background": packing.background(spec, columns, table, split),
    }
    if graph.data is not None:
        blobs["compiled"] = graph.data
    if len(split.left_out):
        blobs["left_out"] = packing.left_out_rows(spec, table, split, labels).to_bytes()
    order = packing.Order(**{name: argument[name] for name in packing.Order.__slots__})
    record = graph.record
    manifest = packing.manifest(
        spec, order, columns, split, best, rule, scored, blobs, record, tried.record(out, blobs)
    )
    blobs["manifest"] = manifest.to_bytes()
    clock.lap("package")
    return blobs | _told(manifest, split, trials, best, clock)


def warm_up() -> None:
    """Go through a run once, without polars, whose threads a fork would lose."""
    warm_up_models()
    a, y = np.arange(40.0), np.arange(40.0) * 2.0
    kinds = {"a": "number", "y": "number"}
    table = Table(kinds=kinds, values={"a": a, "y": y}, rows=40)
    fit_table(_warm_argument(), table, _StopWatch())


def _warm_argument() -> dict[str, Any]:
    candidate = {"use": "sklearn.linear_model.Ridge", "search": {"alpha": [1.0, 2.0]}}
    spec = {
        "apiVersion": "tidewheel/v1",
        "name": "warm-up",
        "owner": "trainer",
        "task": "regression",
        "data": {"dataset": "warm-up", "target": "y"},
        "train": {"candidates": [candidate], "trials": 2},
    }
    digests = dict.fromkeys(
        ("dataset_digest", "spec_digest", "code_digest", "exclusions_digest"), "0" * 64
    )
    named = {"model": "warm-up", "dataset": "warm-up", "dataset_version": 1}
    return {"spec": spec, "allowed": ["sklearn"], **named, **digests}


def _told(
    manifest: Any, split: Split, trials: Sequence[Trial], best: Trial, clock: "_StopWatch"
) -> dict[str, Any]:
    return {
        "split": manifest.holdout,
        "rows_trained": manifest.rows_trained,
        "rows_held_out": manifest.rows_held_out,
        "rows_embargoed": split.embargoed,
        "rows_left_out": len(split.left_out),
        "periods": list(manifest.left_out.annotations) if len(split.left_out) else [],
        "metrics": dict(manifest.metrics),
        "use": manifest.use,
        "hyperparameters": manifest.hyperparameters,
        "seed": manifest.seed,
        "seconds": clock.laps,
        "candidates": [
            {
                "use": trial.candidate.use,
                "hyperparameters": trial.hyperparameters,
                "score": trial.score,
                "fit_seconds": trial.fit_seconds,
                "chosen": trial is best,
            }
            for trial in trials
        ],
    }


def features_of(spec: ModelSpec, table: Table) -> tuple[Column, ...]:
    """The columns the model sees, in the order of the specification or else of the file.

    Raises:
        CannotTrain: a feature is not there, is a moment, or is the target.
    """
    known = {column.name: column for column in table.columns()}
    others = {spec.data.target, spec.data.time, spec.serving.entity}
    names = spec.data.features or [name for name in known if name not in others]
    for name in names:
        if name == spec.data.target:
            raise CannotTrain(f"the target {name!r} cannot be a feature")
        if name not in known:
            kind = table.kinds.get(name)
            told = "is a moment; derive numbers from it" if kind else "is not in the dataset"
            raise CannotTrain(f"the feature {name!r} {told}")
    if not names:
        raise CannotTrain("the dataset has no column that could be a feature")
    found = tuple(known[name] for name in names)
    for column in found:
        if column.kind != "text" and np.isinf(table.values[column.name]).any():
            raise CannotTrain(f"the feature {column.name!r} holds infinite values")
    return found


def labels_of(spec: ModelSpec, table: Table) -> NDArray[Any]:
    """The outcomes: float64 for regression, objects (labels) for classification.

    Raises:
        CannotTrain: some are missing or of another kind than the task needs.
    """
    kind = table.kinds.get(spec.data.target)
    if kind is None:
        raise CannotTrain(f"the dataset has no target column {spec.data.target!r}")
    values = table.values[spec.data.target]
    if kind == "text":
        missing = np.flatnonzero([value is None for value in values])
    else:
        missing = np.flatnonzero(~np.isfinite(values))
    if len(missing):
        raise CannotTrain(
            f"{len(missing)} rows have no finite target, the first is row {missing[0] + 1}"
        )
    if spec.task == "regression":
        if kind not in ("integer", "number"):
            raise CannotTrain(f"the target of a regression is a number, this one is {kind}")
        return values
    return _classes(values, kind)


def _classes(values: NDArray[Any], kind: str) -> NDArray[Any]:
    if kind == "time":
        raise CannotTrain("the target is a moment, which is no class")
    labels = np.empty(len(values), dtype=object)
    labels[:] = [bool(v) if kind == "boolean" else plain_label(v) for v in values.tolist()]
    distinct = len(set(labels.tolist()))
    if not 2 <= distinct <= MOST_CLASSES:
        raise CannotTrain(f"the target has {distinct} classes; 2 to {MOST_CLASSES} are possible")
    return labels


def rows_of(
    features: Sequence[Column], table: Table, labels: NDArray[Any], rows: NDArray[np.int64]
) -> Rows:
    """Matrix and outcomes of these rows, as an estimator takes them."""
    values = {column.name: taken(table.values[column.name], rows) for column in features}
    y = taken(labels, rows)
    return Rows(X=stacked(features, values, len(rows)), y=np.array(y.tolist()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """The chosen candidate fitted with and without the rows that are left out.

    Attributes:
        without, with_them: its loss on the validation rows, none of which is left out; None
            where so few rows are left out that only one was fitted.
        keeps: fitting with them was shown better.
    """

    without: float | None = None
    with_them: float | None = None
    keeps: bool = False

    @classmethod
    def tried(
        cls,
        spec: ModelSpec,
        builder: Builder,
        best: Trial,
        features: Sequence[Column],
        table: Table,
        labels: NDArray[Any],
        split: Split,
        out: LeftOutRows,
    ) -> "Both":
        """Fit both on inner rows, where much is left out."""
        if out.share <= TRY_BOTH_ABOVE or len(split.inner_with) == len(split.inner):
            return cls()
        judged = rows_of(features, table, labels, split.validation)

        def losses(rows: NDArray[np.int64]) -> NDArray[np.float64]:
            given = rows_of(features, table, labels, rows)
            made = fitted(spec, builder, best.candidate, best.parameters, given)
            return validation_losses(spec, made, judged)

        without, with_them = losses(split.inner), losses(split.inner_with)
        if len(without) != len(with_them):
            return cls()
        return cls(
            without=metric_value(spec.metric, without),
            with_them=metric_value(spec.metric, with_them),
            keeps=is_better_with(without, with_them),
        )

    def record(self, out: LeftOutRows, blobs: Mapping[str, bytes]) -> LeftOut:
        """As the manifest tells it."""
        return LeftOut(
            rows=0 if self.keeps else out.rows,
            share=0.0 if self.keeps else out.share,
            tags=dict(out.tags),
            annotations=out.annotations,
            rows_blob=digest_of(blobs["left_out"]) if "left_out" in blobs else None,
            loss_without=self.without,
            loss_with=self.with_them,
            kept=self.keeps,
        )


class _StopWatch:
    def __init__(self) -> None:
        self._last = time.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now
