"""MLflow's scoring protocol: every form of a request, its errors, and the bare path."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving import VERSION
from shared.artifacts import ArtifactStore
from shared.manifest import Column
from tests.serving.building import (
    FLOW,
    OTHER_KEY,
    Replica,
    a_desired,
    a_replica,
    a_version,
    logged_rows,
    settings_for,
)

PATH = f"/v1/models/{FLOW}/invocations"
COLUMNS = ["load", "hour", "lag"]
DATA = [[1.0, 3, 0.5], [2.0, 4, 0.25]]
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in DATA]
NAMED: dict[str, list[Any]] = {name: [row[i] for row in DATA] for i, name in enumerate(COLUMNS)}
ANSWERS = [11.0, 12.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("invocations")


@pytest.fixture
async def served(folder: Path) -> AsyncIterator[Replica]:
    settings = settings_for(folder, default_model=FLOW)
    async with a_replica(settings) as found:
        found.serving.is_ready = True
        if FLOW not in found.serving.deployments.endpoints:
            await found.want(a_desired(1, a_version(ArtifactStore(settings.artifacts), 1)))
        yield found


async def post(
    served: Replica, body: Any, kind: str = "application/json", path: str = PATH, **headers: str
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await served.client.post(path, content=content, headers={"content-type": kind} | headers)


FORMS: list[Any] = [
    {"dataframe_split": {"columns": COLUMNS, "data": DATA}},
    {"dataframe_split": {"columns": COLUMNS[::-1], "data": [row[::-1] for row in DATA]}},
    {"dataframe_split": {"columns": COLUMNS, "data": DATA, "index": [7, 8]}},
    {"dataframe_records": RECORDS},
    {"inputs": DATA},
    {"inputs": NAMED},
    {"inputs": {name: [[value] for value in values] for name, values in NAMED.items()}},
    {"inputs": RECORDS},
    {"instances": DATA},
    {"instances": RECORDS},
    {"instances": NAMED, "params": {"temperature": 1}},
]


@pytest.mark.parametrize("document", FORMS)
@pytest.mark.parametrize("path", [PATH, "/invocations"])
async def test_every_form_of_mlflow_has_the_same_answers(
    served: Replica, document: Any, path: str
) -> None:
    response = await post(served, document, path=path)

    assert response.status_code == 200, response.text
    told = response.json()
    assert told["predictions"] == pytest.approx(ANSWERS)
    assert told["prediction_ids"] == [row["id"] for row in logged_rows(served)[-2:]]
    assert (told["rungs"], told["versions"]) == (["champion"] * 2, [1, 1])


@pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=UTF-8"])
@pytest.mark.parametrize(
    "text",
    [
        "load,hour,lag\n1.0,3,0.5\n2.0,4,0.25\n",
        "\ufeffhour,load,lag\r\n3,1,.5\r\n\r\n4,2e0,+0.25",
        '"load","hour","lag","pump"\n" 1 ",3,0.5,a\n2.,4,0.25,"b,c"\n',
    ],
)
async def test_csv_is_read_by_its_header(served: Replica, kind: str, text: str) -> None:
    response = await post(served, text.encode(), kind)

    assert response.status_code == 200, response.text
    assert response.json()["predictions"] == pytest.approx(ANSWERS)


async def test_an_empty_cell_is_a_missing_value(served: Replica) -> None:
    response = await post(served, b"load,hour,lag\n1,,0.5\n", "text/csv")

    assert response.status_code == 200
    assert logged_rows(served)[-1]["features"] == [1.0, None, 0.5]


async def test_csv_knows_booleans_and_entities(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    columns = (
        Column(name="load", kind="number"),
        Column(name="wet", kind="boolean"),
        Column(name="lag", kind="number"),
    )
    async with a_replica(settings) as replica:
        version = a_version(ArtifactStore(settings.artifacts), 1, columns=columns)
        await replica.want(a_desired(1, version))
        good = await post(replica, b"load,wet,lag,pump\n1,True,2,7\n1,false,2,8\n", "text/csv")
        bad = await post(replica, b"load,wet,lag\n1,yes,2\n", "text/csv")
        rows = logged_rows(replica)

    assert (good.status_code, bad.status_code) == (200, 422)
    assert [(row["features"][1], row["entity"]) for row in rows] == [(True, "7"), (False, "8")]
    assert "/rows/0/1" in bad.json()["message"]


WRONG: list[tuple[Any, str, int, str]] = [
    (b"", "application/json", 400, ""),
    (b"{", "application/json", 400, ""),
    ([], "application/json", 422, ""),
    (DATA, "application/json", 422, ""),
    (None, "application/json", 422, ""),
    ({}, "application/json", 422, ""),
    ({"rows": RECORDS}, "application/json", 422, "/rows"),
    ({"inputs": DATA, "instances": DATA}, "application/json", 422, "/instances"),
    ({"inputs": DATA, "params": 5}, "application/json", 422, "/params"),
    ({"inputs": None}, "application/json", 422, "/inputs"),
    ({"inputs": []}, "application/json", 422, "/inputs"),
    ({"inputs": 5}, "application/json", 422, "/inputs"),
    ({"inputs": [1, 2, 3]}, "application/json", 422, "/inputs/0"),
    ({"inputs": [[1, 2]]}, "application/json", 422, "/inputs/0"),
    ({"inputs": [[[1], 2, 3]]}, "application/json", 422, "/inputs/0/0"),
    ({"inputs": [[1, 2, float("nan")]]}, "application/json", 422, "/inputs/0/2"),
    ({"inputs": {}}, "application/json", 422, "/inputs"),
    ({"inputs": {**NAMED, "hour": [1]}}, "application/json", 422, "/inputs/hour"),
    ({"inputs": {**NAMED, "hour": ["x", 1]}}, "application/json", 422, "/inputs/hour/0"),
    ({"inputs": {"load": [1]}}, "application/json", 422, "/inputs"),
    ({"inputs": [*RECORDS, 5]}, "application/json", 422, "/inputs/2"),
    ({"inputs": [[0, 0, 0]] * 10_001}, "application/json", 413, ""),
    ({"instances": {"load": 5}}, "application/json", 422, "/instances/load"),
    ({"dataframe_split": DATA}, "application/json", 422, "/dataframe_split"),
    ({"dataframe_split": {"data": DATA}}, "application/json", 422, "/dataframe_split/columns"),
    ({"dataframe_split": {"columns": COLUMNS}}, "application/json", 422, "/dataframe_split/data"),
    (
        {"dataframe_split": {"columns": COLUMNS, "data": DATA, "index": [1]}},
        "application/json",
        422,
        "/dataframe_split/index",
    ),
    (
        {"dataframe_split": {"columns": ["load", "load", "lag"], "data": DATA}},
        "application/json",
        422,
        "/dataframe_split/columns/1",
    ),
    (
        {"dataframe_split": {"columns": COLUMNS, "data": [[1, "x", 2]]}},
        "application/json",
        422,
        "/dataframe_split/data/0/1",
    ),
    (
        {"dataframe_split": {"columns": COLUMNS, "data": DATA, "dtypes": []}},
        "application/json",
        422,
        "/dataframe_split/dtypes",
    ),
    ({"dataframe_records": {}}, "application/json", 422, "/dataframe_records"),
    ({"dataframe_records": [{"load": 1}]}, "application/json", 422, "/dataframe_records/0/hour"),
    (b"", "text/csv", 422, "/header"),
    (b"\n\n", "text/csv", 422, "/header"),
    (b"load,hour,lag\n", "text/csv", 422, "/rows"),
    (b"load,hour\n1,2\n", "text/csv", 422, "/header"),
    (b"load,hour,lag,rain\n1,2,3,4\n", "text/csv", 422, "/header/3"),
    (b"load,load,lag\n1,2,3\n", "text/csv", 422, "/header/1"),
    (b"load,hour,lag\n1,2\n", "text/csv", 422, "/rows/0"),
    (b"load,hour,lag\n1,2,3,4\n", "text/csv", 422, "/rows/0"),
    (b"load,hour,lag\n1,nan,3\n", "text/csv", 422, "/rows/0/1"),
    (b"load,hour,lag\n1,1_000,3\n", "text/csv", 422, "/rows/0/1"),
    (b"load,hour,lag\n1,0x1F,3\n", "text/csv", 422, "/rows/0/1"),
    (b"load,hour,lag\n1,1e999,3\n", "text/csv", 422, "/rows/0/1"),
    (b"load,hour,lag\n1," + b"9" * 5_000 + b",3\n", "text/csv", 422, "/rows/0/1"),
    ("load,hour,lag\n1,٣,3\n".encode(), "text/csv", 422, "/rows/0/1"),
    (b'load,hour,lag\n"1"x,2,3\n', "text/csv", 400, ""),
    (b'load,hour,lag\n"1,2,3\n', "text/csv", 400, ""),
    (b"load,hour,lag\n\xff,2,3\n", "text/csv", 400, ""),
    ("load,hour,lag\n1,2,3\n".encode("utf-16"), "text/csv", 400, ""),
    (b"load,hour,lag\n\x00,2,3\n", "text/csv", 422, "/rows/0/0"),
    (b"load,hour,lag\n" + b"x" * 200_000 + b",2,3\n", "text/csv", 400, ""),
    (b"," * 3_000, "text/csv", 422, "/rows/0"),
    (b"load,hour,lag\n" + b"1,2,3\n" * 10_001, "text/csv", 413, ""),
    (b" " * 9_000_000, "text/csv", 413, ""),
    ({"inputs": DATA}, "", 415, ""),
    ({"inputs": DATA}, "application/json; format=pandas-split", 415, ""),
    ({"inputs": DATA}, "application/json; charset=latin-1", 415, ""),
    ({"inputs": DATA}, "text/csv; charset=utf-16", 415, ""),
    ({"inputs": DATA}, "application/x-npy", 415, ""),
]


@pytest.mark.parametrize(("body", "kind", "status", "place"), WRONG)
async def test_what_is_no_request_is_refused_in_mlflows_words(
    served: Replica, body: Any, kind: str, status: int, place: str
) -> None:
    before = served.serving.spool.waiting_rows

    response = await post(served, body, kind)

    assert response.status_code == status, response.text
    told = response.json()
    assert told["error_code"]
    assert place in told["message"]
    assert not place or place in [error["pointer"] for error in told["errors"]]
    assert len(response.content) < 20_000
    assert served.serving.spool.waiting_rows == before


async def test_compressed_bodies_are_not_taken(served: Replica) -> None:
    response = await post(served, {"inputs": DATA}, **{"content-encoding": "gzip"})

    assert response.status_code == 415


async def test_who_may_not_predict_may_not_do_it_here(served: Replica) -> None:
    key = {"authorization": f"Bearer {OTHER_KEY}"}

    found = [
        await post(served, {"inputs": DATA}, path=path, **key) for path in (PATH, "/invocations")
    ]

    assert [answer.status_code for answer in found] == [403, 403]
    assert {answer.json()["error_code"] for answer in found} == {"PERMISSION_DENIED"}


async def test_an_unknown_model_is_not_found(served: Replica) -> None:
    response = await post(served, {"inputs": DATA}, path="/v1/models/unheard-of/invocations")

    assert response.status_code == 404
    assert response.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


async def test_without_a_default_model_there_is_no_bare_path(tmp_path: Path) -> None:
    async with a_replica(settings_for(tmp_path)) as replica:
        response = await post(replica, {"inputs": DATA}, path="/invocations")

    assert response.status_code == 404


async def test_health_and_version_need_no_key(served: Replica) -> None:
    transport = httpx.ASGITransport(served.serving.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as nobody:
        found = {path: await nobody.get(path) for path in ("/ping", "/health", "/version")}
        served.serving.is_ready = False
        unready = await nobody.get("/ping")
        locked = await nobody.post("/invocations", json={"inputs": DATA})

    assert {answer.status_code for answer in found.values()} == {200}
    assert found["/version"].text == VERSION
    assert (unready.status_code, locked.status_code) == (503, 401)
    assert locked.json()["error_code"] == "UNAUTHENTICATED"
