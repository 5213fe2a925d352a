"""Every family of estimators that has a graph, each compared with the estimator itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest
import skl2onnx
from numpy.typing import NDArray
from skl2onnx.common.data_types import DoubleTensorType
from sklearn import ensemble, linear_model, preprocessing, tree
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from services.trainer.compiling import Result, compile_model
from services.trainer.compiling.converting import register
from services.trainer.compiling.nodes import CannotCompile
from services.trainer.compiling.probes import probes
from services.trainer.compiling.proof import difference
from shared import onnx_models
from shared.manifest import Column
from shared.models import classes_of, predict

ROWS = 240
rng = np.random.default_rng(7)
WHOLE = rng.normal(size=(ROWS, 4)) * [1.0, 100.0, 0.01, 5.0]
HOLED = np.where(rng.random(WHOLE.shape) < 0.08, np.nan, WHOLE)
CODED = np.column_stack([HOLED, np.where(rng.random(ROWS) < 0.1, np.nan, rng.integers(0, 7, ROWS))])
AMOUNT = WHOLE[:, 0] * 2 + np.abs(WHOLE[:, 3]) + (CODED[:, 4] == 3) * 4
TEXTS = np.where(AMOUNT > 3, "wet", "dry")
THREE = np.digitize(AMOUNT, [2.0, 5.0]).astype(float)
TRUTH = AMOUNT > 3
MIXED = np.empty((ROWS, 5), dtype=object)
MIXED[:, 0], MIXED[:, 2], MIXED[:, 4] = WHOLE[:, 0], HOLED[:, 1], WHOLE[:, 3]
MIXED[:, 1] = rng.choice(np.array(["a", "b", "ü", None], dtype=object), ROWS)
MIXED[:, 3] = rng.choice(np.array(["x", "y", ""], dtype=object), ROWS)
Task = Literal["regression", "classification"]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def columns_of(X: NDArray[Any]) -> tuple[Column, ...]:
    return tuple(described(f"c{i}", X[:, i]) for i in range(X.shape[1]))


def described(name: str, values: NDArray[Any]) -> Column:
    if any(isinstance(value, str) for value in values):
        seen = sorted({value for value in values if value is not None})
        return Column(name=name, kind="text", categories=tuple(seen))
    numbers = values.astype(float)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    return Column(name=name, kind="number", minimum=low, maximum=high)


def compiled(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> Result:
    estimator.fit(X, y)
    task: Task = "classification" if hasattr(estimator, "classes_") else "regression"
    classes = classes_of(estimator) if task == "classification" else ()
    return compile_model(estimator, columns_of(X), task, classes, X, 7)


def prepared(encoder: Any) -> ColumnTransformer:
    numbers = make_pipeline(SimpleImputer(add_indicator=True), preprocessing.StandardScaler())
    return ColumnTransformer([("numbers", numbers, [0, 2, 4]), ("texts", encoder, [1, 3])])


@dataclass(frozen=True)
class Case:
    name: str
    estimator: Any
    X: NDArray[Any]
    y: NDArray[Any]


def cases() -> Sequence[Case]:
    few = {"n_estimators": 8, "random_state": 1}
    hist = {"max_iter": 12, "random_state": 1}
    lenient = preprocessing.OneHotEncoder(handle_unknown="ignore")
    ordinal = preprocessing.OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    e, lm, p = ensemble, linear_model, preprocessing
    return [
        Case("ridge", lm.Ridge(), WHOLE, AMOUNT),
        Case("least squares", lm.LinearRegression(), WHOLE, AMOUNT),
        Case("lasso", lm.Lasso(0.01), WHOLE, AMOUNT),
        Case("elastic net", lm.ElasticNet(0.01), WHOLE, AMOUNT),
        Case("ridge classifier", lm.RidgeClassifier(), WHOLE, THREE),
        Case("linear support vectors", LinearSVC(), WHOLE, TEXTS),
        Case("logistic, texts", lm.LogisticRegression(), WHOLE, TEXTS),
        Case("logistic, three", lm.LogisticRegression(), WHOLE, THREE),
        Case("logistic, truth", lm.LogisticRegression(), WHOLE, TRUTH),
        Case("tree", tree.DecisionTreeRegressor(), HOLED, AMOUNT),
        Case("single leaf", tree.DecisionTreeRegressor(min_samples_leaf=200), HOLED, AMOUNT),
        Case("tree, three", tree.DecisionTreeClassifier(max_depth=4), HOLED, THREE),
        Case("forest", e.RandomForestRegressor(**few), HOLED, AMOUNT),
        Case("forest, texts", e.RandomForestClassifier(min_samples_leaf=3, **few), HOLED, TEXTS),
        Case("forest, three", e.RandomForestClassifier(min_samples_leaf=3, **few), HOLED, THREE),
        Case("extra trees", e.ExtraTreesRegressor(**few), HOLED, AMOUNT),
        Case("extra trees, truth", e.ExtraTreesClassifier(**few), HOLED, TRUTH),
        Case("boosting", e.GradientBoostingRegressor(**few), WHOLE, AMOUNT),
        Case("boosting, texts", e.GradientBoostingClassifier(**few), WHOLE, TEXTS),
        Case("boosting, three", e.GradientBoostingClassifier(**few), WHOLE, THREE),
        Case(
            "boosting, exponential",
            e.GradientBoostingClassifier(loss="exponential", **few),
            WHOLE,
            TEXTS,
        ),
        Case("histogram", e.HistGradientBoostingRegressor(**hist), HOLED, AMOUNT),
        Case(
            "histogram, categories",
            e.HistGradientBoostingRegressor(categorical_features=[4], **hist),
            CODED,
            AMOUNT,
        ),
        Case(
            "histogram, poisson",
            e.HistGradientBoostingRegressor(loss="poisson", **hist),
            HOLED,
            AMOUNT**2,
        ),
        Case("histogram, texts", e.HistGradientBoostingClassifier(**hist), HOLED, TEXTS),
        Case("histogram, three", e.HistGradientBoostingClassifier(**hist), HOLED, THREE),
        Case(
            "imputed and scaled",
            make_pipeline(SimpleImputer(), p.StandardScaler(), lm.Ridge()),
            HOLED,
            AMOUNT,
        ),
        Case(
            "median, robust, histogram",
            make_pipeline(
                SimpleImputer(strategy="median"),
                p.RobustScaler(),
                e.HistGradientBoostingRegressor(**hist),
            ),
            HOLED,
            AMOUNT,
        ),
        Case(
            "least and most",
            make_pipeline(SimpleImputer(), p.MinMaxScaler(clip=True), lm.LogisticRegression()),
            HOLED,
            TRUTH,
        ),
        Case("columns, one-hot", make_pipeline(prepared(lenient), lm.Ridge()), MIXED, AMOUNT),
        Case(
            "columns, strict one-hot",
            make_pipeline(prepared(p.OneHotEncoder()), lm.LogisticRegression()),
            MIXED,
            THREE,
        ),
        Case(
            "columns, ordinal",
            make_pipeline(prepared(ordinal), e.HistGradientBoostingRegressor(**hist)),
            MIXED,
            AMOUNT,
        ),
        Case(
            "columns, strict ordinal",
            make_pipeline(prepared(p.OrdinalEncoder()), e.RandomForestClassifier(**few)),
            MIXED,
            TEXTS,
        ),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_graph_answers_and_refuses_as_its_estimator_does(case: Case) -> None:
    result = compiled(case.estimator, case.X, case.y)

    assert result.record.engine == "onnx", result.record.reason
    assert result.record.rows == ROWS
    assert result.record.probes > 50
    assert result.record.golden
    assert result.data is not None


@pytest.mark.parametrize("case", cases()[9:26], ids=lambda case: case.name)
def test_trees_add_up_to_the_same_bits_before_their_last_step(case: Case) -> None:
    record = compiled(case.estimator, case.X, case.y).record

    assert record.largest_difference <= 4e-16 * max(1.0, float(np.abs(AMOUNT**2).max()))


def test_the_same_estimator_gives_the_same_bytes() -> None:
    forest = ensemble.RandomForestClassifier(4, random_state=1)

    first, second = (compiled(forest, HOLED, TEXTS) for _ in range(2))

    assert first.data == second.data
    assert first.record == second.record


def test_a_row_that_the_estimator_refuses_is_refused_by_its_graph() -> None:
    result = compiled(ensemble.GradientBoostingRegressor(n_estimators=3), WHOLE, AMOUNT)
    assert result.data is not None
    session = onnx_models.load(result.data, onnx_models.Signature.of(columns_of(WHOLE), ()))

    said = session.answers(np.array([[np.nan, 1, 1, 1], [3.5e38 * 10, 1, 1, 1], [1, 1, 1, 1]]))

    assert np.isfinite(said).ravel().tolist() == [False, False, True]
    assert result.record.refused > 0
    assert any(golden.answers is None for golden in result.record.golden)


@pytest.mark.parametrize(
    ("estimator", "X", "words"),
    [
        (KNeighborsRegressor(), WHOLE, "operator"),
        (
            make_pipeline(
                prepared(preprocessing.OneHotEncoder(min_frequency=0.4)), linear_model.Ridge()
            ),
            MIXED,
            "rare categories",
        ),
        (
            ensemble.GradientBoostingRegressor(n_estimators=3, init=linear_model.Ridge()),
            WHOLE,
            "starts from another estimator",
        ),
    ],
)
def test_what_has_no_faithful_graph_stays_with_scikit_learn_and_the_record_says_why(
    estimator: Any, X: NDArray[Any], words: str
) -> None:
    result = compiled(estimator, X, AMOUNT)

    assert result.data is None
    assert result.record.engine == "scikit-learn"
    assert words in result.record.reason
    assert set(result.record.libraries) >= {"scikit-learn", "skl2onnx", "onnx", "onnxruntime"}


def test_a_proof_that_takes_too_long_is_none() -> None:
    estimator = linear_model.Ridge().fit(WHOLE, AMOUNT)

    result = compile_model(estimator, columns_of(WHOLE), "regression", (), WHOLE, 7, seconds=-1.0)

    assert result.data is None
    assert "too long" in result.record.reason


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([[0.4, 0.6], [0.3, 0.7]], "another label"),
        ([[0.6, 0.4], [np.nan, 0.7]], "the other answers it"),
        ([[0.6 + 1e-6, 0.4], [0.3, 0.7]], "differs by 1e-06"),
        ([[0.6], [0.3]], "answers for"),
    ],
)
def test_one_difference_ends_the_proof(found: list[list[float]], words: str) -> None:
    expected = np.array([[0.6, 0.4], [0.3, 0.7]])

    with pytest.raises(CannotCompile, match=words):
        difference(expected, np.array(found), 1.0, "classification")


def test_probes_stand_on_both_sides_of_a_split_in_single_precision() -> None:
    grown = tree.DecisionTreeRegressor(max_depth=4).fit(WHOLE, AMOUNT)
    inner = grown.tree_.feature >= 0
    splits = list(zip(grown.tree_.feature[inner], grown.tree_.threshold[inner], strict=True))

    made = probes(grown, columns_of(WHOLE), WHOLE, 7)

    moved = 0
    for feature, split in splits:
        near = [v for v in made[:, feature] if abs(v - split) < 1e-5 * abs(split)]
        assert {bool(v <= split) for v in near} == {True, False}
        moved += sum((v <= split) != (float(np.float32(v)) <= split) for v in near)
    assert moved


def test_probes_hold_missing_unseen_and_empty_values_and_zeros_of_both_signs() -> None:
    made = probes(linear_model.Ridge(), columns_of(MIXED), MIXED, 7)

    texts, numbers = set(made[:, 1]), made[:, 0].astype(float)
    assert {None, "", "a", "b", "ü"} < texts
    assert any("nobody has seen" in text for text in texts if text)
    assert np.isnan(numbers).any()
    assert {1.0, -1.0} == set(np.copysign(1.0, numbers[numbers == 0]).tolist())
    assert any(all(v is None or v != v for v in row) for row in made.tolist())


@pytest.mark.parametrize("features", [1.0, 0.5])
def test_an_isolation_forest_converts(features: float) -> None:
    forest = ensemble.IsolationForest(n_estimators=20, max_features=features, random_state=1).fit(
        HOLED
    )

    label, decision = converted(forest, HOLED)

    assert (label.ravel() == forest.predict(HOLED)).all()
    assert np.abs(decision.ravel() - forest.decision_function(HOLED)).max() < 1e-12


def test_k_means_converts() -> None:
    centres = KMeans(3, n_init=1, random_state=1).fit(WHOLE)

    label, distances = converted(centres, WHOLE)

    assert (label == centres.predict(WHOLE)).all()
    assert np.abs(distances - centres.transform(WHOLE)).max() < 1e-9


def converted(estimator: Any, X: NDArray[Any]) -> list[Any]:
    register()
    model = skl2onnx.convert_sklearn(
        estimator,
        initial_types=[("X", DoubleTensorType([None, X.shape[1]]))],
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    for opset in model.opset_import:
        opset.version = 5 if opset.domain else 18
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: list[Any] = session.run(None, {"X": X})
    return found


def test_answers_are_those_of_the_estimator_for_each_row_alone() -> None:
    model = ensemble.HistGradientBoostingClassifier(max_iter=10, random_state=1)
    result = compiled(model, HOLED, THREE)
    assert result.data is not None
    signature = onnx_models.Signature.of(columns_of(HOLED), classes_of(model))
    session = onnx_models.load(result.data, signature)

    each = np.concatenate([session.answers(HOLED[i : i + 1]) for i in range(20)])

    shares = predict(model, HOLED[:20], "classification").probabilities
    assert shares is not None
    assert np.abs(each - shares).max() < 1e-15
