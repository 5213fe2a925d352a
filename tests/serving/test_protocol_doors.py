"""The doors of other protocols: teams, the table of routes, and clients that lie about lengths."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.access import hash_of
from shared.artifacts import ArtifactStore
from shared.http import CLIENT_PATHS, OPEN_PATHS
from tests.serving.building import FLOW, KEY, Replica, a_desired, a_replica, a_version, settings_for
from tests.serving.test_inference import inference, listening
from tests.support.routes import table

FOREIGN = "tw_predictor-of-another-team"
ROWS = [{"load": 1.0, "hour": 3, "lag": 0.5}]
DOORS: list[tuple[str, str, Any]] = [
    ("GET", "/v2/models/{model}", None),
    ("GET", "/v2/models/{model}/ready", None),
    ("GET", "/v2/models/{model}/versions/1", None),
    ("GET", "/v2/models/{model}/versions/1/ready", None),
    ("GET", "/v1/models/{model}/openapi.json", None),
    ("GET", "/v1/models/{model}/docs", None),
    ("POST", "/v2/models/{model}/infer", inference()),
    ("POST", "/v2/models/{model}/versions/1/infer", inference()),
    ("POST", "/v1/models/{model}/invocations", {"dataframe_records": ROWS}),
    ("POST", "/v1/models/{model}/versions/1/predict", {"rows": ROWS}),
    ("POST", "/v1/models/{model}/aliases/champion/predict", {"rows": ROWS}),
]


def admit_foreigner(file: Path) -> None:
    known = json.loads(file.read_text())["keys"]
    grants = [{"team": "others", "roles": ["admin"]}]
    known += [{"id": "f", "hash": hash_of(FOREIGN), "principal": "f", "grants": grants}]
    file.write_text(json.dumps({"keys": known}))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Replica]:
    """A replica with a model of team `own`."""
    settings = settings_for(tmp_path)
    admit_foreigner(Path(settings.keys_file))
    async with a_replica(settings) as found:
        found.serving.is_ready = True
        heard = a_desired(1, a_version(ArtifactStore(settings.artifacts), 1))
        await found.want(replace(heard, event=replace(heard.event, owner="own")))
        yield found


async def test_what_another_team_owns_answers_like_nothing(served: Replica) -> None:
    for method, path, body in DOORS:
        found = []
        for model, key in ((FLOW, FOREIGN), ("unheard-of", FOREIGN), (FLOW, KEY)):
            answer = await served.client.request(
                method,
                path.format(model=model),
                json=body,
                headers={"authorization": f"Bearer {key}"},
            )
            found.append(answer)
        foreign, nothing, own = found

        assert [a.status_code for a in found] == [404, 404, 200], (path, own.text)
        assert foreign.json()["detail"] == nothing.json()["detail"]


async def test_the_table_names_every_route_and_no_other(served: Replica) -> None:
    described = (await served.client.get("/openapi.json")).json()["paths"]
    found = {
        f"{method.upper()} {path}"
        for path, methods in described.items()
        for method in methods
        if path not in OPEN_PATHS | CLIENT_PATHS
    }

    assert found == {
        row.partition(" | ")[0].removeprefix("serving ")
        for row in table()
        if row.startswith("serving ")
    }


async def test_without_a_key_only_health_answers(served: Replica) -> None:
    transport = httpx.ASGITransport(served.serving.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as nobody:
        for method, path, body in DOORS:
            answer = await nobody.request(method, path.format(model=FLOW), json=body)
            assert answer.status_code == 401, path
        for path in OPEN_PATHS | CLIENT_PATHS:
            assert (await nobody.get(path)).status_code == 200, path


values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["load", "hour", "lag", "FP64", "INT8", "BYTES", "BOOL", "answer"])
)
members = st.sampled_from(
    [
        "inputs",
        "outputs",
        "name",
        "shape",
        "datatype",
        "data",
        "parameters",
        "binary_data_size",
        "id",
        "dataframe_split",
        "dataframe_records",
        "instances",
        "columns",
        "index",
        "load",
        "hour",
    ]
)
anything = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(members, inner, max_size=5),
    max_leaves=15,
)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["load", "hour", "lag", "pump", "x"]),
        "shape": st.lists(st.integers(-1, 3) | values, max_size=3),
        "datatype": st.sampled_from(["FP64", "FP32", "INT8", "UINT64", "BOOL", "BYTES", "FP1"]),
    },
    optional={
        "data": st.lists(values | st.lists(values, max_size=3), max_size=6) | anything,
        "parameters": st.dictionaries(members, values, max_size=2),
    },
)


@given(
    document=anything | st.fixed_dictionaries({"inputs": st.lists(tensors, max_size=4)}),
    tail=st.binary(max_size=20),
    length=st.none() | st.integers(-1, 500),
)
@hypothesis_settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_whatever_comes_the_answer_is_never_a_5xx(
    served: Replica, document: Any, tail: bytes, length: int | None
) -> None:
    head = json.dumps(document).encode()
    told = {} if length is None else {"inference-header-content-length": str(length)}
    exact = {"inference-header-content-length": str(len(head))}
    for path, kind, headers in (
        (f"/v2/models/{FLOW}/infer", "application/json", told),
        (f"/v2/models/{FLOW}/infer", "application/octet-stream", exact),
        (f"/v1/models/{FLOW}/invocations", "application/json", {}),
        (f"/v1/models/{FLOW}/invocations", "text/csv", {}),
        (f"/v1/models/{FLOW}/predict", "application/json", {}),
    ):
        body = head + (tail if headers else b"")
        answer = await served.client.post(
            path, content=body, headers={"content-type": kind, **headers}
        )

        assert answer.status_code in (200, 400, 413, 422), (path, answer.text)


async def raw(address: str, head: str, body: bytes, *, is_finished: bool) -> bytes:
    """What a connection is answered that sends exactly these bytes."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = f"Authorization: Bearer {KEY}\r\nHost: x\r\nConnection: close\r\n"
    writer.write(f"POST {head.replace('KEY', key)}\r\n".encode() + body)
    await writer.drain()
    if is_finished:
        writer.write_eof()
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("path", [f"/v2/models/{FLOW}/infer", f"/v1/models/{FLOW}/invocations"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: 999999999\r\n", b"413"),
        ("Content-Length: -5\r\n", b"400"),
        ("Content-Length: 1e3\r\n", b"400"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", b"400"),
        ("Content-Length: 3\r\n", b"400"),
        ("Transfer-Encoding: chunked\r\n", b"400"),
    ],
)
async def test_a_length_that_lies_is_the_clients_fault(
    served: Replica, path: str, headers: str, status: bytes
) -> None:
    head = f"{path} HTTP/1.1\r\nKEYContent-Type: application/json\r\n{headers}"

    async with listening(served) as address:
        answer = await raw(address, head, b'{"inputs": 5}', is_finished=False)

        assert answer.split(b" ")[1] == status, answer
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            assert (await client.get("/ping")).status_code == 200


async def test_a_client_that_leaves_in_its_body_harms_nobody(served: Replica) -> None:
    head = (
        f"/v2/models/{FLOW}/infer HTTP/1.1\r\nKEYInference-Header-Content-Length: 10\r\n"
        "Content-Length: 1000\r\n"
    )
    before = served.serving.spool.waiting_rows

    async with listening(served) as address:
        answer = await raw(address, head, b'{"inputs": ', is_finished=True)

    assert b" 500 " not in answer
    assert served.serving.spool.waiting_rows == before
