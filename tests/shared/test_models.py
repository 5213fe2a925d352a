from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeRegressor

from shared.models import (
    UnsafeModel,
    check_structure,
    classes_of,
    dump,
    environment,
    load,
    predict,
)

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(80, 4))
Y = X @ [1.0, 2.0, 3.0, 4.0]
LABELS = np.digitize(Y, [-2.0, 2.0])
HERE = Path(__file__).parents[2]

REGRESSORS = [
    make_pipeline(StandardScaler(), Ridge()),
    DecisionTreeRegressor(random_state=0),
    RandomForestRegressor(5, random_state=0),
    GradientBoostingRegressor(n_estimators=5, random_state=0),
    HistGradientBoostingRegressor(max_iter=5, random_state=0),
    SVR(),
]
CLASSIFIERS = [
    LogisticRegression(),
    RidgeClassifier(),
    ExtraTreesClassifier(5, random_state=0),
    HistGradientBoostingClassifier(max_iter=5, categorical_features=[0]),
    SVC(),
]


def named(estimator: Any) -> str:
    return type(estimator).__name__


@pytest.mark.parametrize("estimator", REGRESSORS, ids=named)
def test_a_regressor_answers_the_same_after_its_bytes(estimator: Any) -> None:
    estimator.fit(X, Y)

    again = load(dump(estimator))

    answers = predict(again, X, "regression")
    np.testing.assert_array_equal(answers.values, estimator.predict(X))
    assert answers.probabilities is None


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=named)
def test_a_classifier_answers_labels_and_probabilities(estimator: Any) -> None:
    rows = np.abs(X).round()
    estimator.fit(rows, LABELS)

    again = load(dump(estimator))

    answers = predict(again, rows, "classification")
    assert classes_of(again) == (0.0, 1.0, 2.0)
    assert set(answers.values.tolist()) <= {0.0, 1.0, 2.0}
    assert answers.probabilities is not None
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1.0)


def test_text_columns_are_read_from_objects() -> None:
    rows = np.empty((80, 2), dtype=object)
    rows[:, 0], rows[:, 1] = X[:, 0], ["ab"[i % 2] for i in range(80)]
    encoder = make_column_transformer((OneHotEncoder(), [1]), remainder="passthrough")

    model = load(dump(make_pipeline(encoder, Ridge()).fit(rows, Y)))

    assert predict(model, rows, "regression").values.shape == (80,)


def test_the_same_fit_has_the_same_bytes_in_another_process() -> None:
    program = (
        "import hashlib, numpy as np; from shared.models import dump;"
        "from sklearn.ensemble import RandomForestRegressor as F;"
        "X = np.random.default_rng(1).normal(size=(50, 3));"
        "print(hashlib.sha256(dump(F(3, random_state=0).fit(X, X[:, 0]))).hexdigest())"
    )

    said = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }

    assert len(said) == 1


def test_bytes_are_smaller_than_what_the_library_writes() -> None:
    forest = RandomForestRegressor(20, random_state=0).fit(X, Y)

    assert len(dump(forest)) < 0.3 * len(skops.io.dumps(forest))


def test_the_versions_a_model_needs_are_named() -> None:
    assert environment().keys() == {"numpy", "scikit-learn", "scipy", "skops"}


# --- hostile files ----------------------------------------------------------------------------


def repacked(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    change(members)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file.getvalue()


def with_nodes(data: bytes, change: Callable[[Any], None]) -> bytes:
    """The file with the nodes of every tree changed; all its types stay trusted."""

    def edit(members: dict[str, bytes]) -> None:
        for name in [n for n in members if n.endswith(".npy")]:
            array = np.load(io.BytesIO(members[name]), allow_pickle=False).copy()
            if array.dtype.names and {"left_child", "left"} & set(array.dtype.names):
                change(array)
                file = io.BytesIO()
                np.save(file, array, allow_pickle=False)
                members[name] = file.getvalue()

    return repacked(data, edit)


def backwards(nodes: Any) -> None:
    inner = np.flatnonzero(nodes["left_child"] != -1)[-1]
    nodes["left_child"][inner] = 0


def to_itself(nodes: Any) -> None:
    nodes["right_child"][0] = 0


def far_outside(nodes: Any) -> None:
    nodes["left_child"][0] = 10**6


def negative(nodes: Any) -> None:
    nodes["left_child"][0] = -7


def one_child(nodes: Any) -> None:
    nodes["right_child"][0] = -1


def shared_child(nodes: Any) -> None:
    nodes["right_child"][0] = nodes["left_child"][0]


def no_feature(nodes: Any) -> None:
    nodes["feature"][0] = 10**6


def negative_feature(nodes: Any) -> None:
    nodes["feature"][0] = -3


def no_threshold(nodes: Any) -> None:
    nodes["threshold"][0] = np.nan


TREES = [
    DecisionTreeRegressor(random_state=0),
    RandomForestRegressor(3, random_state=0),
    GradientBoostingRegressor(n_estimators=3, random_state=0),
    make_pipeline(StandardScaler(), RandomForestRegressor(2, random_state=0)),
]
TAMPERINGS = [
    backwards,
    to_itself,
    far_outside,
    negative,
    one_child,
    shared_child,
    no_feature,
    negative_feature,
    no_threshold,
]


@pytest.mark.parametrize("tampering", TAMPERINGS)
@pytest.mark.parametrize("estimator", TREES, ids=named)
def test_a_tampered_tree_is_refused_before_its_first_answer(
    estimator: Any, tampering: Callable[[Any], None]
) -> None:
    data = dump(estimator.fit(X, Y))

    with pytest.raises(UnsafeModel, match="malformed"):
        load(with_nodes(data, tampering))


def hist_backwards(nodes: Any) -> None:
    nodes["left"][0] = 0


def hist_outside(nodes: Any) -> None:
    nodes["right"][0] = 10**6


def hist_feature(nodes: Any) -> None:
    nodes["feature_idx"][0] = 10**6


def hist_category(nodes: Any) -> None:
    nodes["is_categorical"][0] = 1
    nodes["bitset_idx"][0] = 10**6


def hist_stray_category(nodes: Any) -> None:
    nodes["is_categorical"][0] = 1


def hist_threshold(nodes: Any) -> None:
    nodes["num_threshold"][0] = np.nan


@pytest.mark.parametrize(
    "tampering",
    [hist_backwards, hist_outside, hist_feature, hist_category, hist_stray_category,
     hist_threshold],
)  # fmt: skip
def test_a_tampered_histogram_tree_is_refused(tampering: Callable[[Any], None]) -> None:
    data = dump(HistGradientBoostingRegressor(max_iter=3, random_state=0).fit(X, Y))

    with pytest.raises(UnsafeModel, match="malformed"):
        load(with_nodes(data, tampering))


def in_schema(data: bytes, change: Callable[[str], str]) -> bytes:
    def edit(members: dict[str, bytes]) -> None:
        members["schema.json"] = change(members["schema.json"].decode()).encode()

    return repacked(data, edit)


def test_a_tree_that_claims_fewer_nodes_than_it_has_is_refused() -> None:
    data = dump(DecisionTreeRegressor(max_depth=2, random_state=0).fit(X, Y))

    def fewer(node: Any) -> Any:
        if isinstance(node, dict):
            if "node_count" in node:
                node["node_count"]["content"] = "3"
            return {key: fewer(value) for key, value in node.items()}
        return [fewer(part) for part in node] if isinstance(node, list) else node

    with pytest.raises(UnsafeModel, match="malformed"):
        load(in_schema(data, lambda schema: json.dumps(fewer(json.loads(schema)))))


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(2, random_state=0),
        GradientBoostingRegressor(n_estimators=2, random_state=0),
        DecisionTreeRegressor(random_state=0),
        IsolationForest(n_estimators=3, random_state=0),
        HistGradientBoostingRegressor(max_iter=2, random_state=0),
        SVR(),
    ],
    ids=named,
)
def test_a_model_that_lies_about_its_width_is_refused(estimator: Any, width: int) -> None:
    estimator.fit(X, Y)
    estimator.n_features_in_ = width

    with pytest.raises(UnsafeModel, match="malformed"):
        check_structure(estimator)


def test_more_trees_per_step_than_answers_are_refused() -> None:
    model = GradientBoostingRegressor(n_estimators=2, random_state=0).fit(X, Y)
    model.estimators_ = np.hstack([model.estimators_, model.estimators_])

    with pytest.raises(UnsafeModel, match="more trees per step"):
        check_structure(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_n_support", np.array([10**6, 1, 1], dtype=np.int32)),
        ("_n_support", np.array([-1, 1, 1], dtype=np.int32)),
        ("_dual_coef_", np.zeros((1, 1))),
        ("support_", np.zeros(10**4, dtype=np.int32)),
        ("_intercept_", np.zeros(1)),
        ("_probA", np.zeros(2)),
    ],
)
def test_malformed_support_vectors_are_refused(name: str, value: Any) -> None:
    model = SVC().fit(X, LABELS)
    setattr(model, name, value)

    with pytest.raises(UnsafeModel, match="malformed"):
        check_structure(model)


def test_a_type_that_is_not_on_the_list_is_refused() -> None:
    def evil(schema: str) -> str:
        return schema.replace('"Ridge"', '"Popen"').replace(
            '"sklearn.linear_model._ridge"', '"subprocess"'
        )

    with pytest.raises(UnsafeModel):
        load(in_schema(dump(Ridge().fit(X, Y)), evil))


def test_a_structure_nobody_can_check_is_not_written() -> None:
    with pytest.raises(UnsafeModel, match="KDTree"):
        dump(KNeighborsRegressor().fit(X, Y))

    load(dump(KNeighborsRegressor(algorithm="brute").fit(X, Y)))


def test_a_file_of_another_version_is_refused() -> None:
    data = dump(Ridge().fit(X, Y))
    version = environment()["scikit-learn"]

    with pytest.raises(UnsafeModel):
        load(in_schema(data, lambda schema: schema.replace(version, "1.4.0")))


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", pickle.dumps(Ridge()), dump(Ridge().fit(X, Y))[:-30]],
    ids=["empty", "cut", "pickle", "short"],
)
def test_what_is_no_model_file_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeModel, match="no model file"):
        load(data)


@pytest.mark.parametrize("name", ["../../etc/passwd", "evil.pkl", "a/0.npy"])
def test_members_that_no_model_has_are_refused(name: str) -> None:
    def add(members: dict[str, bytes]) -> None:
        members[name] = b""

    with pytest.raises(UnsafeModel, match="members"):
        load(repacked(dump(Ridge().fit(X, Y)), add))


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    data = bytearray(dump(Ridge().fit(X, Y)))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")  # its size, as it claims

    with pytest.raises(UnsafeModel, match="too large"):
        load(bytes(data))


def test_a_schema_without_end_is_refused() -> None:
    def deep(members: dict[str, bytes]) -> None:
        members["schema.json"] = b'{"a":' * 50_000 + b"1" + b"}" * 50_000

    with pytest.raises(UnsafeModel):
        load(repacked(dump(Ridge().fit(X, Y)), deep))


def test_flipped_bytes_are_refused_or_harmless() -> None:
    model = RandomForestRegressor(2, max_depth=3, random_state=0).fit(X, Y)
    data = dump(model)
    places = CHANCE.integers(0, len(data), 120)

    for place in places:
        broken = bytearray(data)
        broken[place] ^= 1 << int(CHANCE.integers(0, 8))
        try:
            again = load(bytes(broken))
        except UnsafeModel:
            continue
        assert np.isfinite(predict(again, X, "regression").values).all()
