"""Real models of every family that compiled code follows, small."""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.svm import SVC, SVR

WIDTH: Final = 4


def _pipeline() -> Any:
    return make_pipeline(SimpleImputer(), StandardScaler(), Ridge())


FAMILIES: Final[dict[str, Any]] = {
    "forest": lambda: RandomForestClassifier(5, random_state=1),
    "extra trees": lambda: ExtraTreesRegressor(5, random_state=1),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=5, random_state=1),
    "histogram boosting": lambda: HistGradientBoostingRegressor(
        max_iter=5, categorical_features=[3], random_state=1
    ),
    "ridge": _pipeline,
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "support vectors": SVC,
    "support vector regression": SVR,
    "neighbours": lambda: KNeighborsRegressor(algorithm="brute"),
    "network": lambda: MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", random_state=1),
    "bins": lambda: make_pipeline(KBinsDiscretizer(3, encode="onehot"), Ridge()),
    "polynomial": lambda: make_pipeline(PolynomialFeatures(), Ridge()),
    "gaussian process": GaussianProcessRegressor,
}


def fitted(family: str) -> Any:
    """A fitted estimator of the family."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(120, WIDTH))
    X[:, 3] = rng.integers(0, 5, 120)
    y: Any = X[:, 0] * 2 + X[:, 1] ** 2
    estimator = FAMILIES[family]()
    if hasattr(estimator, "decision_function") or hasattr(estimator, "predict_proba"):
        y = np.where(y > 1, "wet", "dry")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so small a model need not be a good one
        return estimator.fit(X, y)
