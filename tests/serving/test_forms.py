"""Rows as objects, as columns and as arrays: the same answers, and faults told where they stand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.artifacts import ArtifactStore
from tests.serving.building import (
    FLOW,
    Replica,
    a_desired,
    a_replica,
    a_version,
    logged_rows,
    settings_for,
)

PATH = f"/v1/models/{FLOW}/predict"
ROWS: list[dict[str, Any]] = [
    {"load": 1.0, "hour": 3, "lag": 0.5},
    {"load": 2.0, "hour": 4, "lag": None},
]
COLUMNS: dict[str, list[Any]] = {"load": [1.0, 2.0], "hour": [3, 4], "lag": [0.5, 0.5]}
NAMES = ["lag", "hour", "load"]
ARRAYS = [[0.5, 3, 1.0], [0.5, 4, 2.0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms")


@pytest.fixture
async def served(folder: Path) -> AsyncIterator[Replica]:
    settings = settings_for(folder)
    async with a_replica(settings) as found:
        if FLOW not in found.serving.deployments.endpoints:
            await found.want(a_desired(1, a_version(ArtifactStore(settings.artifacts), 1)))
        yield found


async def post(served: Replica, document: Any) -> httpx.Response:
    return await served.client.post(
        PATH, content=json.dumps(document), headers={"content-type": "application/json"}
    )


@pytest.mark.parametrize(
    "document", [{"columns": COLUMNS}, {"names": NAMES, "rows": ARRAYS}], ids=["columns", "arrays"]
)
async def test_another_form_has_the_same_answers(served: Replica, document: Any) -> None:
    objects = [{**row, "lag": 0.5} for row in ROWS]
    wanted = (await post(served, {"rows": objects})).json()["predictions"]

    found = (await post(served, document)).json()["predictions"]

    assert [one["answer"] for one in found] == [one["answer"] for one in wanted]
    assert logged_rows(served)[-1]["features"] == [2.0, 4.0, 0.5]


async def test_what_is_not_known_is_null_in_every_form(served: Replica) -> None:
    arrays = {"names": NAMES, "rows": [[None, 3, 1.0]]}
    columns = {"columns": {**COLUMNS, "lag": [None, 0.5]}}

    found = [(await post(served, document)) for document in (arrays, columns)]

    assert [answer.status_code for answer in found] == [200, 200]
    assert [answer.json()["predictions"][0]["rung"] for answer in found] == ["baseline"] * 2


async def test_the_entity_may_be_one_of_the_columns(served: Replica) -> None:
    await post(served, {"columns": {**COLUMNS, "pump": ["p1", 7]}})

    assert [row["entity"] for row in logged_rows(served)[-2:]] == ["p1", "7"]


WRONG: list[tuple[Any, int, str]] = [
    ({"columns": None}, 422, "/columns"),
    ({"columns": []}, 422, "/columns"),
    ({"columns": {}}, 422, "/columns"),
    ({"columns": {f"c{i}": [1] for i in range(2_001)}}, 422, "/columns"),
    ({"columns": {**COLUMNS, "load": []}}, 422, "/columns/load"),
    ({"columns": {**COLUMNS, "load": 1}}, 422, "/columns/load"),
    ({"columns": {**COLUMNS, "hour": [1]}}, 422, "/columns/hour"),
    ({"columns": {**COLUMNS, "lag": [1, 2, 3]}}, 422, "/columns/lag"),
    ({"columns": {**COLUMNS, "load": [1, "x"]}}, 422, "/columns/load/1"),
    ({"columns": {**COLUMNS, "load": [1, [2]]}}, 422, "/columns/load/1"),
    ({"columns": {**COLUMNS, "load": [float("nan"), 1]}}, 422, "/columns/load/0"),
    ({"columns": {**COLUMNS, "load": [1, float("inf")]}}, 422, "/columns/load/1"),
    ({"columns": {**COLUMNS, "rain~/": [1, 2]}}, 422, "/columns/rain~0~1"),
    ({"columns": {"load": [1]}}, 422, "/columns"),
    ({"columns": COLUMNS, "rows": []}, 422, "/rows"),
    ({"columns": COLUMNS, "row": {}}, 422, "/row"),
    ({"columns": {name: [1] * 10_001 for name in NAMES}}, 413, ""),
    ({"names": NAMES}, 422, "/rows"),
    ({"names": NAMES, "rows": []}, 422, "/rows"),
    ({"names": NAMES, "rows": {}}, 422, "/rows"),
    ({"names": NAMES, "rows": [ROWS[0]]}, 422, "/rows/0"),
    ({"names": NAMES, "rows": [[1, 2]]}, 422, "/rows/0"),
    ({"names": NAMES, "rows": [[1, 2, 3], [1, 2, 3, 4]]}, 422, "/rows/1"),
    ({"names": NAMES, "rows": [[1, 2, "x"]]}, 422, "/rows/0/2"),
    ({"names": NAMES, "rows": [[True, 2, 1]]}, 422, "/rows/0/0"),
    ({"names": [], "rows": [[]]}, 422, "/names"),
    ({"names": "load", "rows": [[1]]}, 422, "/names"),
    ({"names": [1, "hour", "lag"], "rows": [[1, 2, 3]]}, 422, "/names/0"),
    ({"names": ["load", "load", "lag"], "rows": [[1, 2, 3]]}, 422, "/names/1"),
    ({"names": ["load", "hour"], "rows": [[1, 2]]}, 422, "/names"),
    ({"names": [*NAMES, "rain"], "rows": [[1, 2, 3, 4]]}, 422, "/names/3"),
    ({"names": NAMES, "rows": ARRAYS, "x": 1}, 422, "/x"),
    ({"names": NAMES, "rows": [[1, 2, 3]] * 10_001}, 413, ""),
]


@pytest.mark.parametrize(("document", "status", "pointer"), WRONG)
async def test_what_is_wrong_is_told_where_it_stands(
    served: Replica, document: Any, status: int, pointer: str
) -> None:
    before = served.serving.spool.waiting_rows

    response = await post(served, document)

    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert not pointer or pointer in [e["pointer"] for e in response.json()["errors"]]
    assert served.serving.spool.waiting_rows == before


@pytest.mark.parametrize("levels", [33, 450, 600, 990, 1_020])
@pytest.mark.parametrize("inner", ["1", "NaN"])
async def test_a_body_that_is_nested_deeply_is_malformed(
    served: Replica, levels: int, inner: str
) -> None:
    for body in ("[" * levels + inner + "]" * levels, '{"a":' * levels + inner + "}" * levels):
        response = await served.client.post(
            PATH, content=body, headers={"content-type": "application/json"}
        )

        assert response.status_code == 400, response.text
