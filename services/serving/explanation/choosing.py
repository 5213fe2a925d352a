"""From a fitted estimator to the best way of explaining it."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, ParamSpec, TypeVar

import numpy as np
from sklearn.linear_model import GammaRegressor, LogisticRegression, PoissonRegressor
from sklearn.linear_model._base import LinearClassifierMixin, LinearModel
from sklearn.linear_model._stochastic_gradient import BaseSGDRegressor
from sklearn.pipeline import Pipeline

from services.serving.explanation.linear import linear_explainer
from services.serving.explanation.preparing import NotFollowed, follow
from services.serving.explanation.sampling import SampledExplainer
from services.serving.explanation.tree_values import TreeExplainer, paths_of
from services.serving.explanation.trees import TREE_MODELS, read_forest, rows_of
from services.serving.explanation.values import (
    Explained,
    Explainer,
    Floats,
    Matrix,
    Scale,
    Tick,
)
from shared import models
from shared.background import Background
from shared.manifest import Column
from shared.tabular import Row, matrix

Task = Literal["regression", "classification"]
_LOGARITHMIC: Final = (PoissonRegressor, GammaRegressor)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """One loaded version, ready to be explained.

    Attributes:
        exact: the exact explainer, if the model has one.
        sampled: for all other models, and for rows on which the exact one does not add up.
    """

    estimator: Any
    columns: tuple[Column, ...]
    task: Task
    exact: Explainer | None
    sampled: Callable[[Callable[[], bool]], SampledExplainer]

    def explain(
        self, row: Row, label: models.Label | None, tick: Tick, has_time: Callable[[], bool]
    ) -> tuple[models.Label, Explained]:
        """What the answer to a row is made of.

        Args:
            label: the class to explain; the answered one for None.

        Returns:
            The answer of the estimator, or the explained class, and what it is made of.

        Raises:
            Unprocessable: the model cannot answer this row.
        """
        table = matrix(self.columns, [row])
        answers = models.predict(self.estimator, table, self.task)
        answer = answers.values[0] if label is None or self.task == "regression" else label
        place = None
        if self.task == "classification":
            place = models.classes_of(self.estimator).index(answer)
        if self.exact is not None:
            found = _quietly(self.exact.explain, table[0], place, tick)
            if found.adds_up():
                return answer, found
        sampled = self.sampled(has_time)
        return answer, _quietly(sampled.explain, table[0], place, tick)


def workshop_of(
    estimator: Any, columns: Sequence[Column], task: Task, background: Background
) -> Workshop:
    """The way to explain a fitted estimator."""
    columns = tuple(columns)
    names = [column.name for column in columns]
    rows = matrix(columns, [dict(zip(names, row, strict=True)) for row in background.rows])
    raw = partial(_answers, estimator, task)
    scale: Scale = "answer" if task == "regression" else "probability"
    return Workshop(
        estimator=estimator,
        columns=columns,
        task=task,
        exact=_quietly(_exact, estimator, background, rows),
        sampled=partial(_sampled, raw, scale, rows),
    )


def _sampled(
    raw: Callable[[Matrix], Floats], scale: Scale, rows: Matrix, has_time: Callable[[], bool]
) -> SampledExplainer:
    return SampledExplainer(raw=raw, scale=scale, background=rows, has_time=has_time)


def _answers(estimator: Any, task: Task, table: Matrix) -> Floats:
    found = models.predict(estimator, table, task)
    if found.probabilities is not None:
        return found.probabilities
    return found.values[:, None].astype(np.float64)


def _exact(estimator: Any, background: Background, rows: Matrix) -> Explainer | None:
    """The exact explainer of a model; None where it has none."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    before, model = (None, estimator)
    if isinstance(estimator, Pipeline):
        before, model = estimator[:-1], estimator.steps[-1][1]
    try:
        if isinstance(model, TREE_MODELS):
            return _trees(estimator, before, model, rows.shape[1])
        scaled = _linear_outputs(estimator, model)
        if scaled is None:
            return None
        prepared = follow(before, rows.shape[1])
        return linear_explainer(scaled[1], scaled[0], prepared, background, rows)
    except NotFollowed:
        return None


def _trees(estimator: Any, before: Any, model: Any, columns: int) -> TreeExplainer:
    origins = follow(before, columns).origins
    inside = getattr(model, "_preprocessor", None)
    if inside is not None:  # histogram gradient boosting moves its categories to the front
        moved = follow(inside, len(origins)).origins
        origins = tuple(origins[i] for i in moved)
    forest = read_forest(model)

    def transform(table: Matrix) -> Floats:
        return rows_of(model, table if before is None else before.transform(table))

    raw = _tree_outputs(estimator, model, forest.scale)
    paths = paths_of(forest, origins, columns)
    return TreeExplainer(forest=forest, origins=origins, paths=paths, transform=transform, raw=raw)


def _tree_outputs(estimator: Any, model: Any, scale: Scale) -> Callable[[Matrix], Floats]:
    if scale == "probability":
        shares: Callable[[Matrix], Floats] = estimator.predict_proba
        return shares
    if scale == "log_answer":
        return lambda table: _as_table(np.log(estimator.predict(table)))
    if scale == "answer":
        return lambda table: _as_table(estimator.predict(table))
    factor = 2.0 if getattr(model, "loss", "") == "exponential" else 1.0
    return lambda table: factor * _as_table(estimator.decision_function(table))


def _linear_outputs(estimator: Any, model: Any) -> tuple[Scale, Callable[[Matrix], Floats]] | None:
    """The scale on which a model is a sum over its columns, and its outputs there."""
    if isinstance(model, _LOGARITHMIC):
        return "log_answer", lambda table: _as_table(np.log(estimator.predict(table)))
    if isinstance(model, LinearClassifierMixin):
        is_odds = isinstance(model, LogisticRegression) and len(model.classes_) == 2
        scale: Scale = "log_odds" if is_odds else "score"
        return scale, lambda table: _as_table(estimator.decision_function(table))
    if isinstance(model, LinearModel | BaseSGDRegressor):
        return "answer", lambda table: _as_table(estimator.predict(table))
    return None


def _as_table(found: Any) -> Floats:
    outputs = np.asarray(found, dtype=np.float64)
    return outputs[:, None] if outputs.ndim == 1 else outputs


def _quietly(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """What libraries warn about while they answer is known to whoever trained the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work(*args, **named)
