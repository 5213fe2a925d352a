"""What is fitted when the specification names nothing, and what a bare estimator needs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags

from services.trainer.fitting.building import Builder, require_harmless
from services.trainer.fitting.reading import CannotTrain
from shared.manifest import Column
from shared.spec import Candidate, Range

Task = Literal["regression", "classification"]
_STRENGTH: Final = Range(low=0.001, high=1000.0, log=True)

DEFAULTS: Final[Mapping[Task, tuple[Candidate, ...]]] = {
    "regression": (
        Candidate(use="sklearn.linear_model.Ridge", search={"alpha": _STRENGTH}),
        Candidate(use="sklearn.ensemble.HistGradientBoostingRegressor"),
    ),
    "classification": (
        Candidate(
            use="sklearn.linear_model.LogisticRegression",
            arguments={"max_iter": 1000},
            search={"C": _STRENGTH},
        ),
        Candidate(use="sklearn.ensemble.HistGradientBoostingClassifier"),
    ),
}
_MOST_LEVELS: Final = 50


def prepare(
    builder: Builder, candidate: Candidate, parameters: Mapping[str, Any], task: Task, seed: int
) -> Any:
    """An unfitted estimator that can read the columns, with every chance in it seeded.

    Raises:
        CannotTrain: it cannot be built, or is not for this task.
    """
    for name, value in parameters.items():
        require_harmless(candidate.use, name, value)
    estimator = builder.build(candidate.use, candidate.arguments)
    try:
        estimator.set_params(**parameters)
    except (ValueError, TypeError) as error:
        raise CannotTrain(f"{candidate.use}: {str(error).splitlines()[0]}") from error
    fits = is_regressor(estimator) if task == "regression" else is_classifier(estimator)
    if not fits:
        raise CannotTrain(f"{candidate.use} is not for {task}")
    scale = candidate in DEFAULTS[task] and "linear_model" in candidate.use
    whole = _readable(estimator, builder.columns, scale=scale)
    return whole.set_params(**_seeds(whole, seed))


def _seeds(estimator: Any, seed: int) -> dict[str, int]:
    return {
        name: seed
        for name, value in estimator.get_params(deep=True).items()
        if name.rpartition("__")[2] == "random_state" and value is None
    }


def _readable(estimator: Any, columns: Sequence[Column], *, scale: bool) -> Any:
    """Text becomes indicators and missing numbers their median, unless the estimator copes.

    A pipeline is taken as it is: whoever wrote one has said how columns are read.
    """
    if isinstance(estimator, Pipeline):
        return estimator
    text = [i for i, column in enumerate(columns) if column.kind == "text"]
    steps = _number_steps(estimator, scale=scale)
    if not text:
        return Pipeline([*steps, ("model", estimator)]) if steps else estimator
    numbers = [i for i in range(len(columns)) if i not in set(text)]
    levels = OneHotEncoder(handle_unknown="ignore", max_categories=_MOST_LEVELS)
    parts = [
        ("numbers", Pipeline(steps) if steps else "passthrough", numbers),
        ("text", levels, text),
    ]
    columns_step = ColumnTransformer([p for p in parts if p[2]], sparse_threshold=0.0)
    return Pipeline([("columns", columns_step), ("model", estimator)])


def _number_steps(estimator: Any, *, scale: bool) -> list[tuple[str, Any]]:
    steps: list[tuple[str, Any]] = []
    if not get_tags(estimator).input_tags.allow_nan:
        imputer = SimpleImputer(missing_values=np.nan, strategy="median", keep_empty_features=True)
        steps.append(("impute", imputer))
    if scale:
        steps.append(("scale", StandardScaler()))
    return steps
