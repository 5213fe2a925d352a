"""Shapley values of fitted models against the definition, for every kind of model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDRegressor,
)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from services.serving.explanation.choosing import Workshop, workshop_of
from services.serving.explanation.linear import LinearExplainer
from services.serving.explanation.sampling import MOST_PAIRS
from services.serving.explanation.tree_values import TreeExplainer, expectation
from services.serving.explanation.values import Explained, weights_of
from services.trainer.fitting.backgrounds import build_background
from shared.background import Background, read_background
from shared.manifest import Column
from shared.tabular import matrix, stacked

COLUMNS = tuple(Column(name=f"c{i}", kind="number") for i in range(5))
MIXED = (
    Column(name="load", kind="number"),
    Column(name="city", kind="text"),
    Column(name="hour", kind="number"),
    Column(name="open", kind="boolean"),
)
Values = dict[str, np.ndarray[Any, Any]]
Value = Callable[[frozenset[int]], float]


def never_late() -> None:
    """There is all the time of the world."""


def by_definition(value: Value, columns: int) -> list[float]:
    """Shapley values from all subsets."""
    found = []
    for column in range(columns):
        rest = [other for other in range(columns) if other != column]
        total = 0.0
        for size in range(columns):
            weight = math.factorial(size) * math.factorial(columns - size - 1)
            for subset in combinations(rest, size):
                gain = value(frozenset(subset) | {column}) - value(frozenset(subset))
                total += weight / math.factorial(columns) * gain
        found.append(total)
    return found


def numbers(seed: int = 3, rows: int = 300, *, holes: bool = False) -> Values:
    chance = np.random.default_rng(seed)
    found = {c.name: chance.normal(size=rows) for c in COLUMNS}
    if holes:
        for values in list(found.values())[:3]:
            values[chance.random(rows) < 0.2] = np.nan
    return found


def mixed(seed: int = 3, rows: int = 300) -> Values:
    chance = np.random.default_rng(seed)
    city = np.empty(rows, dtype=object)
    names = ["rome", "oslo", "lima", None]
    city[:] = [names[i] for i in chance.integers(0, 4, rows)]
    load = chance.normal(60, 10, rows)
    load[::9] = np.nan
    return {
        "load": load,
        "city": city,
        "hour": chance.integers(0, 24, rows).astype(float),
        "open": (chance.random(rows) < 0.3).astype(float),
    }


def target(values: Values, columns: Sequence[Column]) -> np.ndarray[Any, Any]:
    first, last = (np.nan_to_num(values[columns[i].name]) for i in (0, -1))
    middle = np.nan_to_num(values[columns[2].name])
    found: np.ndarray[Any, Any] = first * 0.3 + np.abs(middle) * (last > 0.2) + middle
    return found


def three_classes(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    places = np.digitize(y, np.quantile(y, [0.4, 0.7]))
    found: np.ndarray[Any, Any] = np.array(["low", "middle", "high"])[places]
    return found


def background_of(values: Values, columns: Sequence[Column]) -> Background:
    return read_background(build_background(columns, values, seed=1))


def fitted(estimator: Any, values: Values, columns: Sequence[Column], y: Any) -> Workshop:
    table = stacked(columns, values, len(y))
    task = "classification" if hasattr(estimator, "predict_proba") else "regression"
    model = estimator.fit(table, y)
    return workshop_of(model, columns, task, background_of(values, columns))  # type: ignore[arg-type]


def a_row(values: Values, columns: Sequence[Column], index: int) -> dict[str, Any]:
    row = {column.name: values[column.name].tolist()[index] for column in columns}
    return {name: None if value != value else value for name, value in row.items()}


def explain(workshop: Workshop, row: dict[str, Any], label: Any = None) -> tuple[Any, Explained]:
    return workshop.explain(row, label, never_late, lambda: True)


def tree_game(workshop: Workshop, row: dict[str, Any], place: int | None) -> Value:
    """The path-dependent expectation of the explained output, node by node."""
    exact = workshop.exact
    assert isinstance(exact, TreeExplainer)
    seen = exact.transform(matrix(workshop.columns, [row]))[0]
    weights = exact._weights(place, exact.forest.values.shape[1])
    return lambda known: float(expectation(exact.forest, exact.origins, seen, known) @ weights)


REGRESSORS = [
    DecisionTreeRegressor(max_depth=5, random_state=0),
    DecisionTreeRegressor(random_state=0),
    RandomForestRegressor(5, max_depth=6, random_state=0),
    ExtraTreesRegressor(5, max_depth=6, random_state=0),
    HistGradientBoostingRegressor(max_iter=8),
]


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
@pytest.mark.parametrize("holes", [False, True])
def test_trees_are_explained_as_defined(estimator: Any, holes: bool) -> None:
    values = numbers(holes=holes)
    workshop = fitted(estimator, values, COLUMNS, target(values, COLUMNS))

    for index in range(4):
        row = a_row(values, COLUMNS, index)
        answer, found = explain(workshop, row)
        expected = by_definition(tree_game(workshop, row, None), len(COLUMNS))
        assert (found.method, found.scale) == ("tree", "answer")
        assert found.contributions == pytest.approx(expected, abs=1e-9)
        assert found.base + found.contributions.sum() == pytest.approx(answer, abs=1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "quantile"])
def test_gradient_boosting_is_explained_as_defined(loss: str) -> None:
    values = numbers()
    estimator = GradientBoostingRegressor(loss=loss, n_estimators=8, random_state=0)
    workshop = fitted(estimator, values, COLUMNS, target(values, COLUMNS))
    row = a_row(values, COLUMNS, 5)

    answer, found = explain(workshop, row)

    expected = by_definition(tree_game(workshop, row, None), len(COLUMNS))
    assert found.contributions == pytest.approx(expected, abs=1e-9)
    assert found.base + found.contributions.sum() == pytest.approx(answer, abs=1e-9)


CLASSIFIERS = [
    (DecisionTreeClassifier(max_depth=4, random_state=0), "probability", "probability"),
    (RandomForestClassifier(5, max_depth=5, random_state=0), "probability", "probability"),
    (ExtraTreesClassifier(5, max_depth=5, random_state=0), "probability", "probability"),
    (GradientBoostingClassifier(n_estimators=4, random_state=0), "log_odds", "score"),
    (HistGradientBoostingClassifier(max_iter=4), "log_odds", "score"),
    (LogisticRegression(), "log_odds", "score"),
]


@pytest.mark.parametrize(("estimator", "three"), [(e, three) for e, _, three in CLASSIFIERS])
def test_the_answered_class_of_three_is_explained(estimator: Any, three: str) -> None:
    values = numbers()
    workshop = fitted(estimator, values, COLUMNS, three_classes(target(values, COLUMNS)))

    for index in range(5):
        row = a_row(values, COLUMNS, index)
        answer, found = explain(workshop, row)
        shares = workshop.estimator.predict_proba(matrix(COLUMNS, [row]))[0]
        place = list(workshop.estimator.classes_).index(answer)
        total = found.base + found.contributions.sum()
        assert answer == workshop.estimator.predict(matrix(COLUMNS, [row]))[0]
        assert found.scale == three
        logs = np.log(np.maximum(shares, 1e-300))
        expected = shares[place] if three == "probability" else logs[place] - logs.mean()
        assert total == pytest.approx(expected, abs=1e-9)
        if isinstance(workshop.exact, TreeExplainer):
            game = by_definition(tree_game(workshop, row, place), len(COLUMNS))
            assert found.contributions == pytest.approx(game, abs=1e-9)


@pytest.mark.parametrize(("estimator", "two"), [(e, two) for e, two, _ in CLASSIFIERS])
def test_either_of_two_classes_can_be_explained(estimator: Any, two: str) -> None:
    values = numbers()
    y = np.where(target(values, COLUMNS) > 0.3, "wet", "dry")
    workshop = fitted(estimator, values, COLUMNS, y)
    row = a_row(values, COLUMNS, 1)
    wet = workshop.estimator.predict_proba(matrix(COLUMNS, [row]))[0, 1]

    for label, share in (("wet", wet), ("dry", 1 - wet)):
        _, found = explain(workshop, row, label)
        expected = share if two == "probability" else math.log(share / (1 - share))
        assert found.scale == two
        assert found.base + found.contributions.sum() == pytest.approx(expected, abs=1e-9)


def test_exponential_loss_is_told_in_log_odds_too() -> None:
    values = numbers()
    y = np.where(target(values, COLUMNS) > 0.3, "wet", "dry")
    estimator = GradientBoostingClassifier(loss="exponential", n_estimators=5, random_state=0)
    workshop = fitted(estimator, values, COLUMNS, y)
    row = a_row(values, COLUMNS, 1)
    share = workshop.estimator.predict_proba(matrix(COLUMNS, [row]))[0, 1]

    _, found = explain(workshop, row, "wet")

    assert found.method == "tree"
    assert found.output == pytest.approx(math.log(share / (1 - share)), abs=1e-9)


def test_a_poisson_boosting_is_explained_on_the_scale_of_its_logarithm() -> None:
    values = numbers()
    estimator = HistGradientBoostingRegressor(loss="poisson", max_iter=5)
    workshop = fitted(estimator, values, COLUMNS, np.abs(target(values, COLUMNS)))

    answer, found = explain(workshop, a_row(values, COLUMNS, 2))

    assert (found.method, found.scale) == ("tree", "log_answer")
    assert found.base + found.contributions.sum() == pytest.approx(math.log(answer), abs=1e-9)


def test_categories_of_histogram_boosting_are_followed() -> None:
    chance = np.random.default_rng(0)
    values = numbers(rows=400)
    values["c1"] = chance.integers(0, 12, 400).astype(float)
    y = np.isin(values["c1"], [1, 4, 5, 9]) * 3.0 + values["c3"]
    estimator = HistGradientBoostingRegressor(max_iter=10, categorical_features=[1])
    workshop = fitted(estimator, values, COLUMNS, y)

    for value in (4.0, 2.0, 77.0, None):
        row = a_row(values, COLUMNS, 3) | {"c1": value}
        _, found = explain(workshop, row)
        expected = by_definition(tree_game(workshop, row, None), len(COLUMNS))
        assert found.method == "tree"
        assert found.contributions == pytest.approx(expected, abs=1e-9)
        assert abs(found.contributions[1]) > abs(found.contributions[0])


def test_what_an_encoder_makes_of_a_text_is_one_player() -> None:
    values = mixed()
    y = target(values, MIXED) + np.array([c == "oslo" for c in values["city"]]) * 20
    estimator = make_pipeline(_prepared(), RandomForestRegressor(5, max_depth=6, random_state=0))
    workshop = fitted(estimator, values, MIXED, y)

    for row in (a_row(values, MIXED, 1), a_row(values, MIXED, 0) | {"city": "never seen"}):
        _, found = explain(workshop, row)
        expected = by_definition(tree_game(workshop, row, None), len(MIXED))
        assert found.method == "tree"
        assert found.contributions == pytest.approx(expected, abs=1e-9)


def _prepared(scaler: Any = None) -> ColumnTransformer:
    numeric = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), scaler or StandardScaler()
    )
    text = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", numeric, [0, 2, 3]), ("text", text, [1])])


LINEAR = [
    LinearRegression(),
    make_pipeline(StandardScaler(), Ridge()),
    make_pipeline(MinMaxScaler(clip=True), Ridge()),
    make_pipeline(SelectKBest(f_regression, k=3), StandardScaler(), SGDRegressor(random_state=0)),
]


@pytest.mark.parametrize("estimator", LINEAR, ids=lambda e: str(e)[:40])
def test_linear_models_are_explained_as_defined(estimator: Any) -> None:
    values = numbers()
    workshop = fitted(estimator, values, COLUMNS, target(values, COLUMNS))
    explainer = workshop.exact
    assert isinstance(explainer, LinearExplainer)
    row = a_row(values, COLUMNS, 7)
    seen = matrix(COLUMNS, [row])[0]

    def value(known: frozenset[int]) -> float:
        """The model where what is not known is in the middle, and the mean of what it adds."""
        here = explainer.middle.copy()
        here[list(known)] = seen[list(known)]
        unknown = [i for i in range(len(COLUMNS)) if i not in known]
        return float(explainer.raw(here[None, :])[0, 0] + explainer.expected[unknown].sum())

    answer, found = explain(workshop, row)

    assert (found.method, found.scale) == ("linear", "answer")
    assert found.contributions == pytest.approx(by_definition(value, len(COLUMNS)), abs=1e-9)
    assert found.base + found.contributions.sum() == pytest.approx(answer, abs=1e-9)


def test_a_linear_model_is_compared_with_the_mean_of_its_training_answers() -> None:
    values = mixed()
    y = target(values, MIXED) + np.array([c == "oslo" for c in values["city"]]) * 20
    estimator = make_pipeline(_prepared(), Ridge())
    workshop = fitted(estimator, values, MIXED, y)
    answers = workshop.estimator.predict(stacked(MIXED, values, len(y)))

    _, found = explain(workshop, a_row(values, MIXED, 1))

    assert found.method == "linear"
    assert found.base == pytest.approx(answers.mean(), abs=1e-9)


def test_a_coefficient_is_told_in_the_units_of_its_column() -> None:
    values = numbers()
    y = 2.0 * values["c0"] - 5.0 * values["c4"] + 1
    workshop = fitted(make_pipeline(StandardScaler(), LinearRegression()), values, COLUMNS, y)
    row = a_row(values, COLUMNS, 0)

    _, found = explain(workshop, row)

    means = {name: v.mean() for name, v in values.items()}
    expected = [2.0 * (row["c0"] - means["c0"]), 0, 0, 0, -5.0 * (row["c4"] - means["c4"])]
    assert found.contributions == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "bent",
    [
        QuantileTransformer(n_quantiles=20),
        KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    ],
    ids=lambda step: type(step).__name__,
)
def test_bent_columns_add_up_too(bent: Any) -> None:
    values = numbers()
    workshop = fitted(make_pipeline(bent, Ridge()), values, COLUMNS, target(values, COLUMNS))

    answer, found = explain(workshop, a_row(values, COLUMNS, 3))

    assert found.method == "linear"
    assert found.base + found.contributions.sum() == pytest.approx(answer, abs=1e-9)


def test_a_poisson_regression_is_a_sum_of_logarithms() -> None:
    values = numbers()
    workshop = fitted(PoissonRegressor(), values, COLUMNS, np.abs(target(values, COLUMNS)))

    answer, found = explain(workshop, a_row(values, COLUMNS, 3))

    assert (found.method, found.scale) == ("linear", "log_answer")
    assert found.base + found.contributions.sum() == pytest.approx(math.log(answer), abs=1e-9)


def test_other_models_are_sampled_within_their_stated_error() -> None:
    values = numbers()
    workshop = fitted(KNeighborsRegressor(5), values, COLUMNS, target(values, COLUMNS))
    rows = np.array(workshop.sampled(lambda: True).background)
    row = a_row(values, COLUMNS, 11)
    seen = matrix(COLUMNS, [row])[0]

    def value(known: frozenset[int]) -> float:
        mixed_rows = rows.copy()
        mixed_rows[:, list(known)] = seen[list(known)]
        return float(workshop.estimator.predict(mixed_rows).mean())

    answer, found = explain(workshop, row)

    expected = np.array(by_definition(value, len(COLUMNS)))
    assert found.errors is not None
    assert (found.method, found.samples) == ("sampled", MOST_PAIRS)
    assert (np.abs(found.contributions - expected) <= 5 * found.errors + 1e-9).all()
    assert found.base + found.contributions.sum() == pytest.approx(answer, abs=1e-9)


def test_the_same_row_is_explained_alike_twice() -> None:
    values = numbers()
    y = three_classes(target(values, COLUMNS))
    workshop = fitted(KNeighborsClassifier(), values, COLUMNS, y)
    row = a_row(values, COLUMNS, 2)

    first, second = explain(workshop, row)[1], explain(workshop, row)[1]

    assert first.scale == "probability"
    assert first.contributions.tolist() == second.contributions.tolist()


def test_without_time_there_are_fewer_samples_and_larger_errors() -> None:
    values = numbers()
    workshop = fitted(KNeighborsRegressor(5), values, COLUMNS, target(values, COLUMNS))
    row = a_row(values, COLUMNS, 2)

    _, hurried = workshop.explain(row, None, never_late, lambda: False)
    _, patient = explain(workshop, row)

    assert hurried.samples < patient.samples
    assert hurried.errors is not None
    assert patient.errors is not None
    assert hurried.errors.sum() > patient.errors.sum()


def test_steps_that_mix_columns_are_sampled() -> None:
    values = numbers()
    estimator = make_pipeline(PCA(3), RandomForestRegressor(5, random_state=0))
    workshop = fitted(estimator, values, COLUMNS, target(values, COLUMNS))

    answer, found = explain(workshop, a_row(values, COLUMNS, 2))

    assert found.method == "sampled"
    assert found.base + found.contributions.sum() == pytest.approx(answer, abs=1e-9)


def test_text_and_missing_values_can_be_sampled() -> None:
    values = mixed()
    estimator = make_pipeline(_prepared(), KNeighborsRegressor(5))
    workshop = fitted(estimator, values, MIXED, target(values, MIXED))

    answer, found = explain(workshop, a_row(values, MIXED, 0) | {"city": None})

    assert found.method == "sampled"
    assert found.base + found.contributions.sum() == pytest.approx(answer, abs=1e-9)


def test_a_chain_of_a_thousand_nodes_is_explained() -> None:
    chance = np.random.default_rng(0)
    values = {"c0": np.sort(chance.random(1500)), "c1": chance.random(1500)}
    columns = COLUMNS[:2]
    y = 2.0 ** (np.arange(1500) * 0.6)
    workshop = fitted(DecisionTreeRegressor(random_state=0), values, columns, y)
    row = a_row(values, columns, 700)

    _, found = explain(workshop, row)

    assert workshop.estimator.get_depth() > 500
    expected = by_definition(tree_game(workshop, row, None), 2)
    assert found.method == "tree"
    assert found.contributions == pytest.approx(expected, rel=1e-9)


MODELS: Sequence[Callable[[int], Any]] = (
    lambda seed: RandomForestRegressor(4, random_state=seed),
    lambda seed: ExtraTreesRegressor(4, max_depth=3 + seed % 9, random_state=seed),
    lambda seed: HistGradientBoostingRegressor(max_iter=1 + seed % 12),
    lambda _: make_pipeline(SimpleImputer(), GradientBoostingRegressor(n_estimators=5)),
    lambda _: make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), Ridge()),
    lambda seed: make_pipeline(SimpleImputer(), KNeighborsRegressor(1 + seed % 5)),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    model=st.sampled_from(MODELS),
    seed=st.integers(0, 10_000),
    row=st.lists(
        st.none() | st.floats(-1e6, 1e6, allow_subnormal=False),
        min_size=len(COLUMNS),
        max_size=len(COLUMNS),
    ),
)
def test_base_and_contributions_are_the_answer(
    model: Callable[[int], Any], seed: int, row: list[float | None]
) -> None:
    values = numbers(seed, 60, holes=True)
    for name in ("c3", "c4"):
        values[name][seed % 60] = np.nan
    workshop = fitted(model(seed), values, COLUMNS, target(values, COLUMNS))

    answer, found = explain(workshop, dict(zip(values, row, strict=True)))

    assert found.adds_up()
    assert found.output == pytest.approx(answer, rel=1e-12, abs=1e-12)


def test_the_weights_of_one_output_are_the_sign_of_its_class() -> None:
    assert [weights_of(place, 1).tolist() for place in (0, 1, None)] == [[-1.0], [1.0], [1.0]]
