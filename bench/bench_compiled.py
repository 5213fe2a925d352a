"""Microseconds of one row: scikit-learn beside the compiled model that was proved equal to it."""

import time
import warnings
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from sklearn import ensemble, linear_model
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from services.trainer.compiling import compile_model
from shared import onnx_models
from shared.manifest import Column
from shared.models import classes_of, predict

ROWS: Final = 2_000
_SECONDS: Final = 0.5


def main() -> None:
    """Print one line per estimator."""
    warnings.simplefilter("ignore")
    chance = np.random.default_rng(7)
    X = chance.normal(size=(ROWS, 8))
    y = X[:, 0] * 2 + X[:, 1] ** 2
    mixed = X.astype(object)
    mixed[:, 7] = chance.choice(np.array(["north", "south", "east", None], dtype=object), ROWS)
    print(
        f"{'estimator':42} {'scikit-learn':>12} {'compiled':>9} {'times':>6} {'kB':>7}  difference"
    )
    for name, estimator, table, labels in _cases(X, mixed, y):
        print(_line(name, estimator.fit(table, labels), table))


def _cases(X: Any, mixed: Any, y: Any) -> list[tuple[str, Any, Any, Any]]:
    holed = np.where(np.random.default_rng(1).random(X.shape) < 0.05, np.nan, X)
    three = np.array(["low", "middle", "high"])[np.digitize(y, [0.0, 2.0])]
    hundred = {"n_estimators": 100, "random_state": 1}
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    text = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("n", numbers, list(range(7))), ("t", text, [7])])
    e, logistic = ensemble, linear_model.LogisticRegression()
    return [
        ("ridge", linear_model.Ridge(), X, y),
        ("logistic regression, 3 classes", logistic, X, three),
        ("imputer, scaler, ridge", make_pipeline(numbers, linear_model.Ridge()), holed, y),
        ("columns, one-hot, ridge", make_pipeline(columns, linear_model.Ridge()), mixed, y),
        ("random forest, 100 trees", e.RandomForestRegressor(**hundred), holed, y),
        ("random forest, 100 trees, 3 classes", e.RandomForestClassifier(**hundred), holed, three),
        ("extra trees, 100 trees", e.ExtraTreesRegressor(**hundred), holed, y),
        ("gradient boosting, 100 trees", e.GradientBoostingRegressor(**hundred), X, y),
        ("histogram boosting, 100 trees", e.HistGradientBoostingRegressor(), holed, y),
        ("histogram boosting, 3 classes", e.HistGradientBoostingClassifier(), holed, three),
    ]


def _line(name: str, estimator: Any, table: Any) -> str:
    is_classifier = hasattr(estimator, "classes_")
    task: Literal["regression", "classification"]
    task = "classification" if is_classifier else "regression"
    classes = classes_of(estimator) if is_classifier else ()
    columns = [_described(f"c{i}", table[:, i]) for i in range(table.shape[1])]
    made = compile_model(estimator, columns, task, classes, table, 7)
    slow = _microseconds(lambda: predict(estimator, table[:1], task))
    if made.data is None:
        return f"{name:42} {slow:12.0f}  {made.record.reason}"
    session = onnx_models.load(made.data, onnx_models.Signature.of(columns, classes))
    row = onnx_models.as_inputs(columns, table[:1])
    quick = _microseconds(lambda: session.answers(*row))
    largest = made.record.largest_difference
    size = len(made.data) / 1000
    return f"{name:42} {slow:12.0f} {quick:9.1f} {slow / quick:6.0f} {size:7.0f}  {largest:.1e}"


def _described(name: str, values: Any) -> Column:
    if any(isinstance(value, str) for value in values):
        seen = tuple(sorted({value for value in values if value is not None}))
        return Column(name=name, kind="text", categories=seen)
    numbers = values.astype(float)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    return Column(name=name, kind="number", minimum=low, maximum=high)


def _microseconds(ask: Callable[[], Any]) -> float:
    """The median of single questions, after a few that do not count."""
    for _ in range(3):
        ask()
    took = []
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        started = time.perf_counter()
        ask()
        took.append(time.perf_counter() - started)
    return float(np.median(took)) * 1e6


if __name__ == "__main__":
    main()
