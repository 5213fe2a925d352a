"""Batches as Arrow: rows in, answers out, and streams that are hostile or damaged."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import httpx
import orjson
import pytest

from services.serving.prediction.arrow import ARROW, MalformedArrow, read_arrow
from shared.artifacts import ArtifactStore
from shared.errors import Refused
from tests.serving.building import A_ROW, FLOW, Replica, a_desired, a_version

pa: Any = import_module("pyarrow")
import_module("pyarrow.ipc")

PATH = f"/v1/models/{FLOW}/predict"
COLUMNS: Mapping[str, Any] = {"load": [1.0, None, -0.5], "hour": [3, 4, 5], "lag": [0.5, 0.1, 2.0]}


def a_stream(columns: Any = COLUMNS, **options: Any) -> bytes:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


async def sent(replica: Replica, body: bytes, **headers: str) -> httpx.Response:
    told = {"content-type": ARROW} | {name.replace("_", "-"): v for name, v in headers.items()}
    return await replica.client.post(PATH, content=body, headers=told)


@pytest.fixture
async def served(replica: Replica, store: ArtifactStore) -> Replica:
    await replica.want(a_desired(1, a_version(store, 2)))
    return replica


async def test_a_batch_in_arrow_is_answered_in_arrow_as_in_json(served: Replica) -> None:
    rows = [{name: values[i] for name, values in COLUMNS.items()} for i in (0, 2)]
    plain = await served.answers(*rows)

    whole = {name: [values[0], values[2]] for name, values in COLUMNS.items()}
    response = await sent(served, a_stream(whole))

    assert (response.status_code, response.headers["content-type"]) == (200, ARROW)
    found = pa.ipc.open_stream(response.content).read_all().to_pylist()
    assert [one["answer"] for one in found] == [one["answer"] for one in plain]
    assert found[0].keys() == plain[0].keys()


async def test_whoever_accepts_json_gets_json_and_whoever_sends_it_may_have_arrow(
    served: Replica,
) -> None:
    as_json = await sent(served, a_stream(), accept="application/json")
    as_arrow = await served.client.post(PATH, json={"rows": [A_ROW]}, headers={"accept": ARROW})

    assert len(as_json.json()["predictions"]) == 3
    assert pa.ipc.open_stream(as_arrow.content).read_all().num_rows == 1


async def test_wrong_values_are_refused_with_their_place_in_the_columns(served: Replica) -> None:
    wrong = {**COLUMNS, "hour": [3, 4, float("nan")], "lag": ["a", "b", "c"]}

    response = await sent(served, a_stream(wrong))

    pointers = [fault["pointer"] for fault in response.json()["errors"]]
    assert (response.status_code, set(pointers)) == (
        422,
        {"/columns/hour/2", "/columns/lag/0", "/columns/lag/1", "/columns/lag/2"},
    )


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"x"]),
        pa.array([[1.0]]),
        pa.array(["a"]).dictionary_encode(),
        pa.array([0], pa.timestamp("us")),
        pa.array([{"a": 1}]),
    ],
    ids=["bytes", "list", "dictionary", "timestamp", "struct"],
)
async def test_what_no_feature_is_made_of_is_refused(served: Replica, column: Any) -> None:
    table = pa.table({"load": column, "hour": [1], "lag": [0.5]})

    response = await sent(served, a_stream(table))

    assert response.status_code in (400, 422), response.text


async def test_compressed_buffers_are_refused_before_they_are_opened(served: Replica) -> None:
    bomb = a_stream({"load": pa.array([0.0] * 9_000)}, compression="zstd")

    response = await sent(served, bomb)

    assert (response.status_code, response.json()["code"]) == (400, "malformed_arrow")
    assert "compressed" in response.json()["detail"]


async def test_more_rows_than_are_taken_are_refused_unread(served: Replica) -> None:
    response = await sent(served, a_stream({"load": pa.nulls(20_000)}))

    assert (response.status_code, response.json()["code"]) == (413, "too_large")


async def test_explanations_are_not_told_in_arrow(served: Replica) -> None:
    response = await served.client.post(
        f"{PATH}?explain=true", content=a_stream(), headers={"content-type": ARROW}
    )

    assert response.status_code == 406


async def test_without_the_library_the_answer_names_the_extra(
    served: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)

    response = await sent(served, a_stream())

    assert response.status_code == 415
    assert "serving[arrow]" in response.json()["detail"]


def test_bytes_that_chance_has_changed_are_rows_or_are_refused(seed: int) -> None:
    chance = random.Random(seed)
    whole = a_stream({**COLUMNS, "text": ["a", "bc", None]})

    for _ in range(3_000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        cut = bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        try:
            batch = read_arrow(cut, 100)
        except Refused:
            continue
        assert 1 <= len(batch.rows) <= 100
        orjson.dumps([list(row.values()) for row in batch.rows], default=str)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ARROW1\0\0",
        b"\xff\xff\xff\xff",
        struct.pack("<Ii", 0xFFFFFFFF, 2**31 - 1),
        struct.pack("<Ii", 0xFFFFFFFF, -8),
        struct.pack("<Ii", 0xFFFFFFFF, 0),
        struct.pack("<IiI", 0xFFFFFFFF, 4, 0xFFFFFFFF),
        a_stream() + b"more",
    ],
)
def test_what_is_no_stream_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedArrow):
        read_arrow(body, 100)
