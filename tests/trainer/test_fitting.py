from __future__ import annotations

import io
import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from services.trainer.fitting.building import Builder, resolve
from services.trainer.fitting.reading import CannotTrain, read_table
from services.trainer.fitting.run import fit
from services.trainer.fitting.searching import shares
from services.trainer.fitting.splitting import split_rows
from shared import onnx_models
from shared.artifacts import digest_of
from shared.holdout import content_hashes, read_holdout
from shared.manifest import Column, read_manifest
from shared.models import load, predict
from shared.onnx_models import Signature
from shared.reference import read_reference
from shared.spec import Candidate, Data
from shared.tabular import matrix
from tests.support.house import a_spec, some_rows
from tests.trainer.builders import NUMBERS, an_argument

COLUMNS = (Column(name="a", kind="number"), Column(name="colour", kind="text"))
MIXED = {"when": "time", "colour": "text", "size": "number", "ok": "boolean", "label": "text"}


def mixed_rows(count: int = 240) -> str:
    chance = random.Random(3)
    lines = ["when,colour,size,ok,label"]
    for i in range(count):
        colour, size = chance.choice(["red", "green", "", "blue"]), chance.gauss(0, 1)
        label = "yes" if (size > 0) ^ (colour == "red") else "no"
        moment = f"2026-01-{1 + i // 24:02d}T{i % 24:02d}:00:00+01:00"
        lines.append(f"{moment},{colour},{size if i % 9 else ''},{chance.random() < 0.5},{label}")
    return "\n".join(lines).replace("True", "true").replace("False", "false") + "\n"


def a_classification(**changes: Any) -> dict[str, Any]:
    return a_spec(
        "mood",
        "colours",
        **{
            "task": "classification",
            "data": {"target": "label", "time": "when", "label_delay": "3h"},
            "gates": [{"metric": "log_loss", "vs": "baseline"}],
            "train": {"candidates": [], "trials": 4, "baseline": "majority"},
            **changes,
        },
    )


def with_candidates(*candidates: dict[str, Any], **train: Any) -> dict[str, Any]:
    return a_spec("demand", "sales", train={"candidates": list(candidates), **train})


def test_the_same_order_gives_the_same_bytes() -> None:
    searched = {
        "use": "sklearn.ensemble.RandomForestRegressor",
        "with": {"n_estimators": 5},
        "search": {"max_depth": {"low": 2, "high": 6}, "criterion": ["squared_error", "poisson"]},
    }
    argument = an_argument(with_candidates(searched, trials=4))

    first, second = fit(argument), fit(argument)

    for blob in ("manifest", "model", "compiled", "holdout", "reference"):
        assert first[blob] == second[blob], blob


def test_the_candidate_is_packed_with_a_compiled_model_that_was_proved() -> None:
    result = fit(an_argument(a_spec("demand", "sales")))

    manifest = read_manifest(result["manifest"])
    record = manifest.compiled
    assert record is not None
    assert (record.engine, record.rows) == ("onnx", manifest.rows_held_out)
    assert manifest.files["model.onnx"].digest == digest_of(result["compiled"])
    session = onnx_models.load(result["compiled"], Signature.of(manifest.columns, ()))
    assert session.answers(np.array([[0.5, -0.5]]))[0, 0] == pytest.approx(2.5, abs=0.1)


def test_a_candidate_without_a_faithful_graph_is_packed_all_the_same() -> None:
    neighbours = {"use": "sklearn.neighbors.KNeighborsRegressor", "with": {"algorithm": "brute"}}

    result = fit(an_argument(with_candidates(neighbours)))

    manifest = read_manifest(result["manifest"])
    assert "compiled" not in result
    assert "model.onnx" not in manifest.files
    assert manifest.compiled is not None
    assert manifest.compiled.engine == "scikit-learn"
    assert manifest.compiled.reason


def test_another_seed_gives_another_model() -> None:
    forest = {"use": "sklearn.ensemble.RandomForestRegressor", "with": {"n_estimators": 5}}

    one = fit(an_argument(with_candidates(forest, seed=1)))
    other = fit(an_argument(with_candidates(forest, seed=2)))

    assert one["model"] != other["model"]


def test_the_packed_candidate_answers_what_the_manifest_promises() -> None:
    result = fit(an_argument(a_spec("demand", "sales")))

    manifest = read_manifest(result["manifest"])
    held = read_holdout(result["holdout"])
    model = load(result["model"])
    answers = predict(model, matrix(manifest.columns, [{"a": 0.5, "b": -0.5}]), "regression")
    assert answers.values[0] == pytest.approx(2.5, abs=0.1)
    assert [column.name for column in manifest.columns] == ["a", "b"]
    assert manifest.rows_trained + manifest.rows_held_out == 200
    assert len(held) == manifest.rows_held_out
    again = predict(model, held.matrix(manifest.columns), "regression")
    assert np.abs(again.values - held.y).mean() == pytest.approx(manifest.metrics["mae"])
    assert manifest.metrics["mae"] < 0.1 < manifest.metrics["baseline_mae"]
    assert read_reference(result["reference"]).rows == manifest.rows_trained


def test_without_candidates_a_short_list_for_the_task_is_tried() -> None:
    result = fit(an_argument(a_classification(), mixed_rows(), MIXED))

    tried = [candidate["use"].rpartition(".")[2] for candidate in result["candidates"]]
    assert tried == ["LogisticRegression", "HistGradientBoostingClassifier"]
    assert [candidate["chosen"] for candidate in result["candidates"]].count(True) == 1
    assert result["metrics"]["log_loss"] < result["metrics"]["baseline_log_loss"]
    assert read_manifest(result["manifest"]).classes == ("no", "yes")


def test_a_pipeline_by_import_path_is_built_and_searched() -> None:
    pipeline = {
        "use": "sklearn.pipeline:Pipeline",
        "with": {
            "steps": [
                [
                    "read",
                    {
                        "use": "sklearn.compose.ColumnTransformer",
                        "with": {
                            "transformers": [
                                ["n", {"use": "sklearn.impute.SimpleImputer"}, {"kind": "number"}],
                                [
                                    "t",
                                    {
                                        "use": "sklearn.preprocessing.OneHotEncoder",
                                        "with": {"handle_unknown": "ignore"},
                                    },
                                    ["colour"],
                                ],
                            ]
                        },
                    },
                ],
                ["model", {"use": "sklearn.tree.DecisionTreeClassifier"}],
            ]
        },
        "search": {"model__max_depth": {"low": 2, "high": 5}},
    }
    spec = a_classification(train={"candidates": [pipeline], "trials": 3, "baseline": "majority"})

    result = fit(an_argument(spec, mixed_rows(), MIXED))

    assert 2 <= result["hyperparameters"]["model__max_depth"] <= 5
    assert isinstance(load(result["model"]), Pipeline)


def test_an_embargo_keeps_rows_whose_outcome_was_not_known_yet_out_of_both() -> None:
    table = read_table(mixed_rows().encode(), "csv", MIXED)
    data = Data(dataset="colours", target="label", time="when", label_delay="3h")

    split = split_rows(table, data)

    assert split.times is not None
    gap = split.times[split.held_out].min() - split.times[split.train].max()
    assert gap == 3 * 3600 * 1_000_000
    assert split.embargoed == 2
    assert not set(split.hashes[split.train]) & set(split.hashes[split.held_out])


def test_the_same_rows_are_read_alike_from_csv_and_parquet() -> None:
    csv = mixed_rows()
    frame = pl.read_csv(csv.encode(), try_parse_dates=True, schema_overrides={"size": pl.Float64})
    moments = [datetime.fromisoformat(line.split(",")[0]) for line in csv.splitlines()[1:]]
    file = io.BytesIO()
    frame.with_columns(pl.Series("when", moments)).write_parquet(file)

    one = read_table(csv.encode(), "csv", MIXED)
    other = read_table(file.getvalue(), "parquet", MIXED)

    assert one.rows == other.rows == 240
    for name in MIXED:
        np.testing.assert_array_equal(one.values[name], other.values[name])
        assert one.values[name].dtype == other.values[name].dtype
    assert (content_hashes(one.values) == content_hashes(other.values)).all()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2022-03-20T11:00:00+01:00", "2022-03-20T10:00:00"),
        ("2022-03-20 11:00", "2022-03-20T11:00:00"),
        ("2022-03-20", "2022-03-20T00:00:00"),
        ("2022-03-20T11:00:00.123456789Z", "2022-03-20T11:00:00.123456"),
        ("1969-12-31T23:59:59+0000", "1969-12-31T23:59:59"),
    ],
)
def test_a_moment_is_read_with_its_own_offset(text: str, utc: str) -> None:
    table = read_table(f"when,y\n{text},1\n".encode(), "csv", {"when": "time", "y": "number"})

    expected = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    assert table.values["when"][0] / 1e6 == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"a,b\n1,2\n", b"PAR1"])
def test_bytes_that_are_not_what_was_published_fail_with_a_sentence(data: bytes) -> None:
    for file_format in ("csv", "parquet"):
        with pytest.raises(CannotTrain, match="cannot be read"):
            read_table(data, file_format, NUMBERS)


def test_a_random_split_parts_a_row_alike_in_every_version() -> None:
    data = Data(dataset="sales", target="y")

    def held_out(rows: int) -> set[int]:
        table = read_table(some_rows(rows).encode(), "csv", NUMBERS)
        split = split_rows(table, data)
        return set(split.hashes[split.held_out].tolist())

    small, large = held_out(200), held_out(300)

    assert small < large


def test_the_inner_rows_and_the_validation_rows_make_up_the_training_rows() -> None:
    table = read_table(some_rows(200).encode(), "csv", NUMBERS)

    split = split_rows(table, Data(dataset="sales", target="y"))

    both = np.sort(np.concatenate([split.inner, split.validation]))
    assert (both == np.sort(split.train)).all()
    assert len(split.validation) == round(0.2 * len(split.train))


@pytest.mark.parametrize(
    ("use", "why"),
    [
        ("os.system", "not on the allow-list"),
        ("subprocess:Popen", "not on the allow-list"),
        ("builtins.eval", "not on the allow-list"),
        ("sklearn.utils.os.system", "not on the allow-list|cannot be imported|is no estimator"),
        ("sklearn.utils.os:system", "cannot be imported"),
        ("sklearn.externals._arff:ArffDecoder", "not on the allow-list"),
        ("sklearn.tree.tests.test_tree:CLF_TREES", "not on the allow-list"),
        ("sklearn.base.np.load", "cannot be imported"),
        ("sklearn.pipeline.Bunch", "is no estimator"),
        ("sklearn.model_selection.train_test_split", "is no estimator"),
        ("sklearnevil.Estimator", "not on the allow-list"),
        ("sklearn.linear_model.__builtins__", "not on the allow-list"),
        ("sklearn.linear_model.NoSuchThing", "is no estimator"),
    ],
)
def test_what_is_not_on_the_allow_list_is_never_built(use: str, why: str) -> None:
    with pytest.raises(CannotTrain, match=why):
        resolve(use, ["sklearn"])


def test_a_module_that_is_only_re_exported_is_no_way_around_the_list() -> None:
    # The class comes from scikit-learn, but only this folder is allowed to be named.
    with pytest.raises(CannotTrain, match="comes from sklearn"):
        resolve("services.trainer.fitting.candidates.Pipeline", ["services"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": [["m", {"use": "sklearn.linear_model.Ridge"}]], "memory": "/tmp/cache"},
        {"steps": [["t", {"use": "sklearn.feature_extraction.text.CountVectorizer",
                          "with": {"input": "filename"}}]]},
        {"steps": [["m", {"use": "os.system", "with": {"command": "true"}}]]},
    ],
)  # fmt: skip
def test_arguments_that_reach_out_are_refused(arguments: dict[str, Any]) -> None:
    builder = Builder(allowed=["sklearn"], columns=COLUMNS)

    with pytest.raises(CannotTrain):
        builder.build("sklearn.pipeline.Pipeline", arguments)


def test_a_search_cannot_set_what_arguments_may_not() -> None:
    pipeline = {
        "use": "sklearn.pipeline.Pipeline",
        "with": {"steps": [["m", {"use": "sklearn.linear_model.Ridge"}]]},
        "search": {"memory": ["/tmp/cache"]},
    }

    with pytest.raises(CannotTrain, match="reaches for files"):
        fit(an_argument(with_candidates(pipeline)))


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        ({"use": "sklearn.linear_model.Ridge", "with": {"alfa": 1}}, "does not take"),
        ({"use": "sklearn.linear_model.Ridge", "with": {"alpha": -1}}, "cannot be fitted"),
        ({"use": "sklearn.linear_model.LogisticRegression"}, "is not for regression"),
        ({"use": "sklearn.neighbors.KNeighborsRegressor"}, "KDTree"),
    ],
)
def test_a_candidate_that_cannot_be_fitted_fails_with_a_sentence(
    candidate: dict[str, Any], why: str
) -> None:
    with pytest.raises(Exception, match=why):
        fit(an_argument(with_candidates(candidate)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data": {"target": "z"}}, "no target column"),
        ({"data": {"features": ["a", "c"]}}, "is not in the dataset"),
        ({"data": {"features": ["y"]}}, "cannot be a feature"),
        ({"data": {"time": "when"}}, "no column 'when'"),
        ({"train": {"baseline": {"rule": "column", "column": "c"}}}, "are no features"),
    ],
)
def test_a_specification_that_does_not_fit_the_data_fails_with_a_sentence(
    change: dict[str, Any], why: str
) -> None:
    with pytest.raises(CannotTrain, match=why):
        fit(an_argument(a_spec("demand", "sales", **change)))


def test_rows_without_a_target_are_named_not_dropped() -> None:
    csv = "a,b,y\n1,2,3\n1,2,\n3,4,5\n"

    with pytest.raises(CannotTrain, match="1 rows have no finite target, the first is row 2"):
        fit(an_argument(a_spec("demand", "sales"), csv))


def test_missing_numbers_and_unseen_text_can_be_answered() -> None:
    rows = [f"{i % 7},{'xyz'[i % 3]},{i % 7 + 10 * (i % 3)}" for i in range(120)]
    csv = "a,colour,y\n" + "\n".join(rows) + "\n"
    columns = {"a": "number", "colour": "text", "y": "number"}

    result = fit(an_argument(a_spec("demand", "sales"), csv, columns))

    manifest = read_manifest(result["manifest"])
    asked = matrix(manifest.columns, [{"a": None, "colour": "never seen"}, {}])
    assert np.isfinite(predict(load(result["model"]), asked, "regression").values).all()
    assert manifest.columns[1].categories == ("x", "y", "z")


def test_trials_are_shared_among_candidates_that_search() -> None:
    plain = Candidate(use="sklearn.linear_model.Ridge")
    searched = Candidate(use="sklearn.linear_model.Ridge", search={"alpha": [1, 2]})

    assert shares([plain, searched, searched], 10) == [1, 5, 4]
    assert shares([searched], 3) == [3]
    assert shares([plain], 1) == [1]


def test_a_builder_makes_the_estimator_that_is_named() -> None:
    built = Builder(allowed=["sklearn"], columns=COLUMNS).build(
        "sklearn.linear_model.Ridge", {"alpha": 2.0}
    )

    assert isinstance(built, Ridge)
    assert built.alpha == 2.0
