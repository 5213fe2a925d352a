"""Other protocols on the quick way: the same answers as on the careful way, for the same bodies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from services.serving.prediction.decoding import UNSET, Decoder, Values, decoder_of
from services.serving.prediction.frames import read_frame
from services.serving.prediction.inference import read_inference
from services.serving.prediction.plain_frames import read_plain_frame
from services.serving.prediction.plain_tensors import read_tensors
from services.serving.prediction.rows import Schema, check_rows, entity_of
from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.manifest import Column
from tests.serving.building import (
    FLOW,
    Replica,
    a_desired,
    a_replica,
    logged_rows,
    settings_for,
)
from tests.serving.test_compiled import a_compiled_version
from tests.serving.test_lanes import Counted, served, without_chance

INFER = f"/v2/models/{FLOW}/infer"
SCORE = f"/v1/models/{FLOW}/invocations"
ROWS: list[list[Any]] = [[1.0, 3, 0.5], [2.5, 4, None]]
NAMES = ["load", "hour", "lag"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """However busy this machine is, a small model is asked on the loop."""
    return settings_for(tmp_path, inline_seconds=0.1, default_model=FLOW)


def a_tensor(name: str, data: Any, *shape: int, kind: str = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": kind, "data": data}


def columns_of(rows: list[list[Any]], **more: Any) -> list[dict[str, Any]]:
    told = [a_tensor(name, [r[i] for r in rows], len(rows)) for i, name in enumerate(NAMES)]
    return [*told, *more.values()]


FLAT = [value for row in ROWS for value in row]
PUMPS = a_tensor("pump", ["north", None], 2, 1, kind="BYTES")
QUESTIONS: Mapping[str, tuple[str, Any]] = {
    "a matrix": (INFER, {"inputs": [a_tensor("input", FLAT, 2, 3)]}),
    "nested": (INFER, {"inputs": [a_tensor("x", ROWS, 2, 3, kind="FP32")], "id": "one"}),
    "columns": (INFER, {"inputs": columns_of(ROWS)}),
    "columns and entity": (INFER, {"inputs": columns_of(ROWS, entity=PUMPS)}),
    "a matrix and entity": (INFER, {"inputs": [a_tensor("x", FLAT, 2, 3), PUMPS]}),
    "numbered entity": (
        INFER,
        {"inputs": [a_tensor("pump", [7, 8], 2, kind="INT64"), *columns_of(ROWS)]},
    ),
    "split": (SCORE, {"dataframe_split": {"columns": NAMES, "data": ROWS}}),
    "split with index": (
        SCORE,
        {"dataframe_split": {"columns": NAMES, "index": [0, 1], "data": ROWS}},
    ),
    "records": (
        SCORE,
        {"dataframe_records": [dict(zip([*NAMES, "pump"], [*r, "p"], strict=True)) for r in ROWS]},
    ),
    "inputs": (SCORE, {"inputs": ROWS}),
    "instances": ("/invocations", {"instances": ROWS}),
}


async def both_ways(
    replica: Replica, path: str, document: Any
) -> tuple[httpx.Response, httpx.Response]:
    """The careful way is taken by whoever sends a query, even one that says nothing."""
    body = orjson.dumps(document)
    headers = {"content-type": "application/json", "x-request-id": "r"}
    quick = await replica.client.post(path, content=body, headers=headers)
    careful = await replica.client.post(f"{path}?x=1", content=body, headers=headers)
    return quick, careful


def plain(response: httpx.Response) -> Any:
    """What was said, without the ids of the rows."""
    said = response.json()
    said.pop("prediction_ids", None)
    said.get("parameters", {}).pop("prediction_ids", None)
    return said


def keys_in(response: httpx.Response) -> list[str]:
    return [*response.json(), *response.json().get("parameters", {})]


@pytest.mark.parametrize("name", QUESTIONS)
async def test_plain_questions_of_other_protocols_are_answered_and_logged_alike(
    replica: Replica, store: ArtifactStore, name: str
) -> None:
    counted = await served(replica, store)
    before = len(logged_rows(replica))
    path, document = QUESTIONS[name]

    quick, careful = await both_ways(replica, path, document)

    assert quick.status_code == careful.status_code == 200, quick.text
    assert plain(quick) == plain(careful)
    assert keys_in(quick) == keys_in(careful)
    assert dict(quick.headers).keys() == dict(careful.headers).keys()
    logged = logged_rows(replica)[before:]
    assert without_chance(logged[:2]) == without_chance(logged[2:])
    assert counted.rows == [2], "the quick way alone asks by arrays"


async def test_a_classifier_of_texts_and_booleans_answers_alike(
    replica: Replica, store: ArtifactStore
) -> None:
    columns = (
        Column(name="load", kind="number", minimum=-3.0, maximum=3.0),
        Column(name="open", kind="boolean"),
        Column(name="site", kind="text", categories=("north", "south")),
    )
    chance = np.random.default_rng(5)
    X = np.empty((120, 3), dtype=object)
    X[:, 0] = chance.normal(size=120)
    X[:, 1] = chance.integers(0, 2, 120).astype(float)
    X[:, 2] = chance.choice(["north", "south"], 120)
    y = np.where(X[:, 0].astype(float) > 0, "wet", "dry")
    encoder = ColumnTransformer(
        [("t", OneHotEncoder(handle_unknown="ignore"), [2])], remainder="passthrough"
    )
    fitted = make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=5)).fit(X, y)
    counted = await served(replica, store, estimator=fitted, columns=columns, rows=X)
    inputs = [
        a_tensor("site", ["north", "else"], 2, kind="BYTES"),
        a_tensor("open", [True, None], 2, kind="BOOL"),
        a_tensor("load", [1.5, -1], 2),
    ]
    frame = {"columns": ["load", "open", "site"], "data": [[1.5, True, "north"], [-1, None, "x"]]}

    for path, document in ((INFER, {"inputs": inputs}), (SCORE, {"dataframe_split": frame})):
        quick, careful = await both_ways(replica, path, document)

        assert quick.status_code == 200, quick.text
        assert plain(quick) == plain(careful)
    assert counted.rows == [2, 2]


async def test_rollouts_are_told_alike_in_other_protocols(
    store: ArtifactStore, settings: Settings
) -> None:
    async with a_replica(settings) as replica:
        champion, challenger = a_compiled_version(store, 2), a_compiled_version(store, 3)
        await replica.want(a_desired(1, champion, challenger=challenger, weight=0.5))
        await replica.open()
        counted = [Counted(replica, one.digest) for one in (champion, challenger)]
        rows = [[1.0, 2, 3]] * 20
        pumps = a_tensor("pump", [f"p-{i}" for i in range(20)], 20, kind="BYTES")

        quick, careful = await both_ways(replica, INFER, {"inputs": columns_of(rows, pump=pumps)})

        assert quick.status_code == 200, quick.text
        assert plain(quick) == plain(careful)
        assert {"2", "3"} == set(quick.json()["parameters"]["version"].split(","))
        assert sum(sum(one.rows) for one in counted) == 20


ODD: list[tuple[str, Any]] = [
    (INFER, {"inputs": [a_tensor("x", FLAT, 2, 3)], "outputs": [{"name": "answer"}]}),
    (INFER, {"inputs": [a_tensor("x", [1, 2, 3], 1, 3, kind="INT32")]}),
    (SCORE, {"inputs": ROWS, "params": {"a": 1}}),
    (SCORE, {"inputs": {name: [1.0] for name in NAMES}}),
    (SCORE, {"dataframe_split": {"columns": NAMES[::-1], "data": [[1, 2, 3]]}}),
]


@pytest.mark.parametrize(("path", "document"), ODD)
async def test_rarer_questions_are_answered_on_the_careful_way(
    replica: Replica, store: ArtifactStore, path: str, document: Any
) -> None:
    counted = await served(replica, store)

    quick, careful = await both_ways(replica, path, document)

    assert quick.status_code == 200, quick.text
    assert plain(quick) == plain(careful)
    assert counted.rows == []


WRONG: list[tuple[str, bytes]] = [
    (INFER, b'{"inputs":[]}'),
    (INFER, b'{"inputs":[{"name":"x","shape":[],"datatype":"FP64","data":[]}]}'),
    (INFER, b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP64","data":[1,2]}]}'),
    (INFER, b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP64","data":[1,2,1e999]}]}'),
    (INFER, b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP64","data":[[1,2],[3]]}]}'),
    (INFER, b'{"inputs":[{"name":"x","name":"x","shape":[1,3],"datatype":"FP64","data":[1,2,3]}]}'),
    (INFER, b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP64","data":[1,2,true]}]}'),
    (INFER, b'{"inputs":[{"name":"x","shape":[0,3],"datatype":"FP64","data":[]}]}'),
    (INFER, b'{"inputs":' + b"[" * 5_000),
    (SCORE, b'{"inputs":[[1,2]]}'),
    (SCORE, b'{"inputs":[[1,2,"3"]]}'),
    (SCORE, b'{"inputs":[]}'),
    (SCORE, b'{"inputs":[[1,2,3]],"instances":[[1,2,3]]}'),
    (SCORE, b'{"inputs":[[1,2,3]],"inputs":[[1,2,3]]}'),
    (SCORE, b'{"dataframe_split":{"columns":["load","hour","lag"],"data":[[1,2,3]],"index":[]}}'),
    (SCORE, b'{"dataframe_records":[{"load":1,"hour":2,"lag":3,"load":4}]}'),
    (SCORE, b'{"inputs":' + b"[" * 5_000),
]


@pytest.mark.parametrize(("path", "body"), WRONG)
async def test_wrong_questions_are_refused_with_their_place_as_ever(
    replica: Replica, store: ArtifactStore, path: str, body: bytes
) -> None:
    counted = await served(replica, store)
    headers = {"content-type": "application/json", "x-request-id": "r"}

    replies = [
        await replica.client.post(one, content=body, headers=headers)
        for one in (path, f"{path}?x=1")
    ]

    assert 400 <= replies[0].status_code < 500
    assert replies[0].json() == replies[1].json()
    assert counted.rows == []


# --- the decoders ---------------------------------------------------------------------------

SCHEMA = Schema(
    columns=(Column(name="a", kind="number"), Column(name="b", kind="number")),
    others={"c": Column(name="c", kind="text")},
    entity="e",
)
NUMBER = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just("1"))
SHAPE = st.lists(st.integers(0, 3), max_size=3)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b", "c", "e", "x", ""]),
        "shape": st.one_of(SHAPE, st.just([2, 2]), st.just([2])),
        "datatype": st.sampled_from(["FP64", "FP32", "BOOL", "BYTES", "INT64", "INT32"]),
        "data": st.one_of(
            st.lists(NUMBER, max_size=5),
            st.lists(st.floats(-9, 9), min_size=2, max_size=4),
            st.lists(st.lists(NUMBER, max_size=3), max_size=3),
        ),
    }
)
FIT = st.builds(
    lambda values, name: a_tensor(name, values, 2, 2),
    st.lists(st.one_of(st.none(), st.floats(-9, 9)), min_size=4, max_size=4),
    st.sampled_from(["x", "y"]),
)
LINE = st.one_of(st.lists(NUMBER, max_size=3), st.lists(st.floats(-9, 9), min_size=2, max_size=2))
FRAME = st.one_of(
    st.fixed_dictionaries({}, optional={"inputs": st.lists(LINE, max_size=2)}),
    st.fixed_dictionaries({"instances": st.lists(LINE, max_size=2)}),
    st.fixed_dictionaries(
        {
            "dataframe_split": st.fixed_dictionaries(
                {
                    "columns": st.sampled_from([["a", "b"], ["b", "a"], ["a"]]),
                    "data": st.lists(LINE, max_size=2),
                },
                optional={"index": st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=2))},
            )
        }
    ),
)


def the_decoder() -> Decoder:
    decoder = decoder_of(SCHEMA)
    assert decoder is not None
    return decoder


def same_values(found: list[Values], rows: Any) -> None:
    """What the quick way reads is what the careful way reads, and takes."""
    check_rows(rows, SCHEMA)
    decoder = the_decoder()
    assert decoder.entities(found) == [entity_of(row, SCHEMA) for row in rows]
    for values, row in zip(found, rows, strict=True):
        told = {
            name: value
            for (name, _), value in zip(decoder.columns, values, strict=False)
            if value is not UNSET
        }
        assert told == {name: value for name, value in row.items() if name != "e"}


@given(tensors=st.one_of(st.lists(TENSOR, max_size=3), st.lists(FIT, min_size=1, max_size=1)))
def test_tensors_that_are_taken_are_those_that_the_careful_way_takes(
    tensors: list[dict[str, Any]],
) -> None:
    try:
        body = orjson.dumps({"inputs": tensors})
    except orjson.JSONEncodeError:
        return  # beyond 64 bits

    found = read_tensors(the_decoder(), body, 10)

    if found is not None:
        same_values(found[0], read_inference(body, "", SCHEMA, 10).batch.rows)


@given(frame=FRAME)
def test_frames_that_are_taken_are_those_that_the_careful_way_takes(frame: dict[str, Any]) -> None:
    try:
        body = orjson.dumps(frame)
    except orjson.JSONEncodeError:
        return  # beyond 64 bits

    found = read_plain_frame(the_decoder(), body, 10)

    if found is not None:
        same_values(found, read_frame(body, SCHEMA, 10).rows)


@given(values=st.lists(st.floats(-9, 9), min_size=4, max_size=4))
def test_plain_forms_are_taken(values: list[float]) -> None:
    lines = [values[:2], values[2:]]

    of_tensors = read_tensors(
        the_decoder(), orjson.dumps({"inputs": [a_tensor("x", values, 2, 2)]}), 10
    )
    of_frame = read_plain_frame(the_decoder(), orjson.dumps({"instances": lines}), 10)

    assert of_tensors is not None
    assert [list(row[:2]) for row in of_tensors[0]] == lines
    assert of_frame is not None
    assert [list(row[:2]) for row in of_frame] == lines
