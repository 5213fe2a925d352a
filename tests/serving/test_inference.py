"""The Open Inference Protocol: an unmodified client, tensors in JSON and in bytes, and nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
import uvicorn
from tritonclient.utils import InferenceServerException

from shared.artifacts import ArtifactStore
from shared.manifest import Column
from tests.serving.building import (
    FLOW,
    KEY,
    OTHER_KEY,
    Replica,
    a_classifier,
    a_desired,
    a_replica,
    a_version,
    logged_rows,
    settings_for,
    until,
)

INFER = f"/v2/models/{FLOW}/infer"
VALUES = {"load": [1.0, 2.0], "hour": [3.0, 4.0], "lag": [0.5, 0.25]}
ANSWERS = [11.0, 12.0]
T = TypeVar("T")


def the_key() -> dict[str, str]:
    """Anew for each call: the client puts the length of the JSON into what it is given."""
    return {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inference")


@pytest.fixture
async def served(folder: Path) -> AsyncIterator[Replica]:
    settings = settings_for(folder)
    async with a_replica(settings) as found:
        found.serving.is_ready = True
        if FLOW not in found.serving.deployments.endpoints:
            await found.want(a_desired(1, a_version(ArtifactStore(settings.artifacts), 1)))
        yield found


@contextlib.asynccontextmanager
async def listening(replica: Replica) -> AsyncIterator[str]:
    """The address of the replica's public door on a port of loopback."""
    config = uvicorn.Config(
        replica.serving.app(), host="127.0.0.1", port=0, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined] # a thread has none
    serving = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def with_triton(address: str, work: Callable[[triton.InferenceServerClient], T]) -> T:
    """What a client of NVIDIA's does in a thread of its own."""

    def call() -> T:
        with triton.InferenceServerClient(address) as client:
            return work(client)

    return await asyncio.to_thread(call)


def an_input(
    name: str, values: Any, kind: str, *, binary: bool = True, client: Any = triton
) -> Any:
    array = np.array(values)
    found = client.InferInput(name, list(array.shape), kind)
    found.set_data_from_numpy(array, binary_data=binary)
    return found


# --- unmodified clients


async def test_tritonclient_finds_a_server_that_lives_and_is_ready(served: Replica) -> None:
    def work(client: triton.InferenceServerClient) -> list[Any]:
        return [
            client.is_server_live(),
            client.is_server_ready(),
            client.is_model_ready(FLOW, headers=the_key()),
            client.is_model_ready(FLOW, "1", headers=the_key()),
            client.is_model_ready(FLOW, "7", headers=the_key()),
            client.is_model_ready("unheard-of", headers=the_key()),
            client.get_server_metadata(headers=the_key())["extensions"],
            client.get_model_metadata(FLOW, "1", headers=the_key()),
        ]

    async with listening(served) as address:
        *states, extensions, metadata = await with_triton(address, work)

    assert states == [True, True, True, True, False, False]
    assert extensions == ["binary_tensor_data"]
    assert metadata == {
        "name": FLOW,
        "versions": ["1"],
        "platform": "tidewheel_sklearn",
        "inputs": [{"name": n, "datatype": "FP64", "shape": [-1]} for n in VALUES],
        "outputs": [{"name": "answer", "datatype": "FP64", "shape": [-1]}],
        "parameters": {
            "matrix": True,
            "matrix_input": "input",
            "matrix_shape": "[-1,3]",
            "entity_input": "pump",
        },
    }


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [None, True, False])
@pytest.mark.parametrize("form", ["columns", "columns of one", "matrix"])
async def test_tritonclient_predicts(
    served: Replica, binary_in: bool, binary_out: bool | None, form: str
) -> None:
    def work(client: triton.InferenceServerClient) -> Any:
        matrix = np.array(list(VALUES.values())).T.copy()
        if form == "matrix":
            inputs = [an_input("input", matrix, "FP64", binary=binary_in)]
        else:
            shape = (2,) if form == "columns" else (2, 1)
            inputs = [
                an_input(n, np.array(v).reshape(shape), "FP64", binary=binary_in)
                for n, v in VALUES.items()
            ]
        wanted = (
            None
            if binary_out is None
            else [triton.InferRequestedOutput("answer", binary_data=binary_out)]
        )
        return client.infer(FLOW, inputs, outputs=wanted, request_id="mine", headers=the_key())

    async with listening(served) as address:
        result = await with_triton(address, work)

    told = result.get_response()
    assert result.as_numpy("answer").tolist() == pytest.approx(ANSWERS)
    assert (told["id"], told["model_name"], told["model_version"]) == ("mine", FLOW, "1")
    assert told["parameters"]["rung"] == "champion"
    ids = told["parameters"]["prediction_ids"].split(",")
    assert ids == [row["id"] for row in logged_rows(served)[-2:]]


async def test_the_asynchronous_tritonclient_predicts(served: Replica) -> None:
    async with (
        listening(served) as address,
        triton_aio.InferenceServerClient(address) as client,
    ):
        inputs = [an_input(n, v, "FP64", client=triton_aio) for n, v in VALUES.items()]
        result = await client.infer(FLOW, inputs, model_version="1", headers=the_key())
        assert await client.is_server_ready()

        with pytest.raises(InferenceServerException) as refused:
            await client.infer(FLOW, inputs[:1], headers=the_key())

    assert result.as_numpy("answer").tolist() == pytest.approx(ANSWERS)
    assert refused.value.status() == "422"
    assert "hour is required" in refused.value.message()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *[("INT8", "int8"), ("INT16", "int16"), ("INT32", "int32"), ("INT64", "int64")],
        *[("UINT8", "uint8"), ("UINT16", "uint16"), ("UINT32", "uint32"), ("UINT64", "uint64")],
        *[("FP16", "float16"), ("FP32", "float32"), ("FP64", "float64")],
    ],
)
async def test_every_datatype_of_numbers_is_taken(served: Replica, kind: str, dtype: str) -> None:
    def work(client: triton.InferenceServerClient) -> Any:
        return [
            client.infer(
                FLOW,
                [an_input(n, np.array([1, 2], dtype), kind, binary=binary) for n in VALUES],
                headers=the_key(),
            ).as_numpy("answer")
            for binary in (True, False)
        ]

    async with listening(served) as address:
        first, second = await with_triton(address, work)

    assert first.tolist() == second.tolist() == pytest.approx(ANSWERS)


async def test_a_classifier_of_texts_and_booleans_is_asked_with_bytes(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    columns = (
        Column(name="load", kind="number", minimum=-1.0, maximum=1.0),
        Column(name="wet", kind="boolean"),
        Column(name="lag", kind="number", minimum=-1.0, maximum=1.0),
    )
    version = a_version(
        ArtifactStore(settings.artifacts),
        1,
        estimator=a_classifier(),
        task="classification",
        classes=("dry", "wet"),
        metric="log_loss",
        columns=columns,
    )

    def work(client: triton.InferenceServerClient) -> Any:
        pumps = np.array([b"p\xc3\xb6", b"p2"], dtype=object)
        inputs = [
            an_input("load", [2.5, -2.5], "FP64"),
            an_input("wet", [True, False], "BOOL"),
            an_input("lag", [0.0, 0.0], "FP64"),
            an_input("pump", pumps, "BYTES"),
        ]
        outputs = client.get_model_metadata(FLOW, headers=the_key())["outputs"]
        return outputs, client.infer(FLOW, inputs, headers=the_key())

    async with a_replica(settings) as replica, listening(replica) as address:
        await replica.want(a_desired(1, version))
        outputs, result = await with_triton(address, work)
        rows = logged_rows(replica)

    assert [output["datatype"] for output in outputs] == ["BYTES", "FP64"]
    assert outputs[1]["parameters"] == {"classes": '["dry","wet"]'}
    assert result.as_numpy("answer").tolist() == [b"wet", b"dry"]
    assert result.as_numpy("probabilities").shape == (2, 2)
    assert result.as_numpy("probabilities").sum(axis=1) == pytest.approx([1, 1])
    assert [row["entity"] for row in rows] == ["pö", "p2"]


async def test_tritonclient_is_told_why_it_is_refused(served: Replica) -> None:
    def work(client: triton.InferenceServerClient) -> list[Any]:
        inputs = [an_input(n, v, "FP64") for n, v in VALUES.items()]
        told = []
        for model, version, key in [
            (FLOW, "", "none"),
            (FLOW, "", OTHER_KEY),
            ("unheard-of", "", KEY),
            (FLOW, "9", KEY),
        ]:
            headers = {"Authorization": f"Bearer {key}"}
            with pytest.raises(InferenceServerException) as refused:
                client.infer(model, inputs, model_version=version, headers=headers)
            told.append((refused.value.status(), refused.value.message()[:30]))
        for extra in (
            client.get_model_repository_index,
            client.get_inference_statistics,
            client.get_trace_settings,
            client.get_system_shared_memory_status,
        ):
            with pytest.raises(InferenceServerException) as refused:
                extra(headers=the_key())
            told.append((refused.value.status(), refused.value.message()))
        return told

    async with listening(served) as address:
        told = await with_triton(address, work)

    assert [status for status, _ in told] == ["401", "403"] + ["404"] * 6
    assert "Version 9 is not served" in told[3][1]
    assert "There is no such route" in told[-1][1]


# --- by hand


def inference(**changes: Any) -> dict[str, Any]:
    inputs = [{"name": n, "shape": [2], "datatype": "FP64", "data": v} for n, v in VALUES.items()]
    return {"inputs": inputs} | changes


def one(**changes: Any) -> dict[str, Any]:
    """The request with its first tensor changed."""
    document = inference()
    document["inputs"][0] |= changes
    return document


def without(name: str) -> dict[str, Any]:
    document = inference()
    document["inputs"][0] = {k: v for k, v in document["inputs"][0].items() if k != name}
    return document


def matrix(data: Any, shape: Any, **changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP64", "data": data} | changes]}


async def post(
    served: Replica, document: Any, headers: Mapping[str, str] | None = None, tail: bytes = b""
) -> httpx.Response:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    told = {"inference-header-content-length": str(len(head))} if tail else {}
    return await served.client.post(INFER, content=head + tail, headers=told | dict(headers or {}))


async def test_nested_and_flat_data_are_the_same(served: Replica) -> None:
    flat = await post(served, matrix([1, 3, 0.5, 2, 4, 0.25], [2, 3]))
    nested = await post(served, matrix([[1, 3, 0.5], [2, 4, 0.25]], [2, 3]))
    columns = await post(served, inference())

    data = [answer.json()["outputs"][0]["data"] for answer in (flat, nested, columns)]
    assert data == [pytest.approx(ANSWERS)] * 3


async def test_what_kserve_sends_beside_is_taken(served: Replica) -> None:
    document = inference(model_name=FLOW, id="a", parameters={"trace": "x", "n": 1, "b": True})

    response = await post(served, document, {"content-type": "application/json"})

    assert response.status_code == 200
    assert response.json()["id"] == "a"
    assert response.headers["content-type"] == "application/json"


async def test_null_is_a_missing_value(served: Replica) -> None:
    response = await post(served, one(data=[None, 1.0]))

    assert response.json()["parameters"]["rung"] == "baseline,champion"
    assert "model_version" not in response.json()


async def test_health_needs_no_key_and_says_both_words(served: Replica) -> None:
    transport = httpx.ASGITransport(served.serving.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as nobody:
        found = [
            (await nobody.get(path)).json() for path in ("/v2/health/live", "/v2/health/ready")
        ]
        served.serving.is_ready = False
        unready = await nobody.get("/v2/health/ready")
        locked = await nobody.get("/v2")

    assert found == [{"live": True, "ready": True}] * 2
    assert unready.status_code == 503
    assert (locked.status_code, "Send your key" in locked.json()["error"]) == (401, True)


async def test_a_reader_sees_the_metadata_and_does_not_predict(served: Replica) -> None:
    reader = {"authorization": f"Bearer {OTHER_KEY}"}

    seen = await served.client.get(f"/v2/models/{FLOW}", headers=reader)
    refused = await post(served, inference(), reader)

    assert (seen.status_code, refused.status_code) == (200, 403)
    assert refused.json()["error"] == "This needs the role predictor."


NAN, HUGE = float("nan"), 10**400
WRONG: list[tuple[str, Any, int, str]] = [
    ("empty", b"", 400, ""),
    ("no json", b"{", 400, ""),
    ("deep", b"[" * 700 + b"]" * 700, 400, ""),
    ("a list", [], 422, ""),
    ("null", None, 422, ""),
    ("no inputs", {}, 422, "/inputs"),
    ("inputs null", {"inputs": None}, 422, "/inputs"),
    ("inputs empty", {"inputs": []}, 422, "/inputs"),
    ("too many inputs", {"inputs": [{}] * 2_001}, 422, "/inputs"),
    ("an input that is none", {"inputs": [7]}, 422, "/inputs/0"),
    ("an unknown field", inference(rows=[]), 422, "/rows"),
    ("an unknown field of a tensor", one(rows=[]), 422, "/inputs/0/rows"),
    ("no name", without("name"), 422, "/inputs/0/name"),
    ("name is a number", one(name=1), 422, "/inputs/0/name"),
    ("name twice", one(name="hour"), 422, "/inputs/1/name"),
    ("unknown column", one(name="rain"), 422, "/inputs"),
    ("surrogate name", one(name="\ud800"), 422, "/inputs"),
    ("no datatype", without("datatype"), 422, "/inputs/0/datatype"),
    ("unknown datatype", one(datatype="FP128"), 422, "/inputs/0/datatype"),
    ("datatype is a list", one(datatype=[]), 422, "/inputs/0/datatype"),
    ("no shape", without("shape"), 422, "/inputs/0/shape"),
    ("empty shape", one(shape=[]), 422, "/inputs/0/shape"),
    ("three dimensions", one(shape=[2, 1, 1]), 422, "/inputs/0/shape"),
    ("negative", one(shape=[-1]), 422, "/inputs/0/shape/0"),
    ("negative twice", one(shape=[-2, -1]), 422, "/inputs/0/shape/0"),
    ("zero", one(shape=[0], data=[]), 422, "/inputs/0/shape/0"),
    ("a dimension that is true", one(shape=[True]), 422, "/inputs/0/shape/0"),
    ("a dimension of 2.0", one(shape=[2.0]), 422, "/inputs/0/shape/0"),
    ("huge", one(shape=[2**62]), 413, ""),
    ("beyond 64 bits", one(shape=[2**64 + 2]), 413, ""),
    ("400 digits", one(shape=[HUGE]), 413, ""),
    ("overflow to two", one(shape=[2, 2**63]), 422, "/inputs/0/shape/1"),
    ("product of 2^64", one(shape=[2**32, 2**32]), 413, ""),
    ("wide", one(shape=[2, 2_001]), 422, "/inputs/0/shape/1"),
    ("two values per row of a column", one(shape=[2, 2], data=[1] * 4), 422, "/inputs/0/shape/1"),
    ("no data", without("data"), 422, "/inputs/0/data"),
    ("data is an object", one(data={}), 422, "/inputs/0/data"),
    ("too few", one(data=[1.0]), 422, "/inputs/0/data"),
    ("too many", one(data=[1.0] * 3), 422, "/inputs/0/data"),
    ("ragged", one(data=[[1.0], [1.0, 2.0]]), 422, "/inputs/0/data/1"),
    ("half nested", one(data=[1.0, [2.0]]), 422, "/inputs/0/data/1"),
    ("nested too deeply", one(data=[[[1.0]], [[2.0]]]), 422, "/inputs/0/data/0"),
    ("other rows than the others", one(shape=[1], data=[1]), 422, "/inputs/1/shape/0"),
    ("NaN", one(data=[1.0, NAN]), 422, "/inputs/0/data/1"),
    ("infinity", one(data=[-float("inf"), 1.0]), 422, "/inputs/0/data/0"),
    ("text for a number", one(data=["1", 1.0]), 422, "/inputs/0/data/0"),
    ("true for a number", one(data=[True, 1.0]), 422, "/inputs/0/data/0"),
    ("BOOL for a number", one(datatype="BOOL", data=[True, False]), 422, "/inputs/0/data/0"),
    ("1 for BOOL", one(datatype="BOOL", data=[1, 0]), 422, "/inputs/0/data/0"),
    ("BYTES for a number", one(datatype="BYTES", data=["1", "2"]), 422, "/inputs/0/data/0"),
    ("300 as INT8", one(datatype="INT8", data=[300, 1]), 422, "/inputs/0/data/0"),
    ("-1 as UINT8", one(datatype="UINT8", data=[1, -1]), 422, "/inputs/0/data/1"),
    ("1.5 as INT32", one(datatype="INT32", data=[1.5, 1]), 422, "/inputs/0/data/0"),
    ("1e39 as FP32", one(datatype="FP32", data=[1e39, 1]), 422, "/inputs/0/data/0"),
    ("1e5 as FP16", one(datatype="FP16", data=[1e5, 1]), 422, "/inputs/0/data/0"),
    ("2^63 as UINT64", one(datatype="UINT64", data=[2**63, 1]), 422, "/inputs/0/data/0"),
    ("10^400 as FP64", one(data=[HUGE, 1]), 422, "/inputs/0/data/0"),
    ("narrow matrix", matrix([1, 2], [1, 2]), 422, "/inputs/0/shape/1"),
    ("matrix with NaN", matrix([1, 2, 3, 4, NAN, 6], [2, 3]), 422, "/inputs/0/data/4"),
    ("flat matrix", matrix([1, 2, 3], [3]), 422, "/inputs"),
    ("parameters are a list", inference(parameters=[]), 422, "/parameters"),
    ("a parameter is an object", inference(parameters={"a": {}}), 422, "/parameters/a"),
    ("id is a number", inference(id=5), 422, "/id"),
    ("id is long", inference(id="x" * 1_001), 422, "/id"),
    ("id is a surrogate", inference(id="\ud800"), 422, "/id"),
    ("outputs are a text", inference(outputs="answer"), 422, "/outputs"),
    ("an output without a name", inference(outputs=[{}]), 422, "/outputs/0"),
    ("an unknown output", inference(outputs=[{"name": "shap"}]), 422, "/outputs/0/name"),
    ("an output twice", inference(outputs=[{"name": "answer"}] * 2), 422, "/outputs/1/name"),
    (
        "classification",
        inference(outputs=[{"name": "answer", "parameters": {"classification": 2}}]),
        422,
        "/outputs/0/parameters/classification",
    ),
    (
        "shared memory",
        one(parameters={"shared_memory_region": "x"}),
        422,
        "/inputs/0/parameters/shared_memory_region",
    ),
    (
        "bytes that do not follow",
        one(parameters={"binary_data_size": 16}),
        422,
        "/inputs/0/parameters/binary_data_size",
    ),
    ("many rows", matrix([0] * 3, [10_001, 3]), 413, ""),
]


@pytest.mark.parametrize(
    ("document", "status", "pointer"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
async def test_what_is_no_request_is_refused_with_its_place(
    served: Replica, document: Any, status: int, pointer: str
) -> None:
    before = served.serving.spool.waiting_rows

    response = await post(served, document)

    assert response.status_code == status, response.text
    assert response.json()["error"]
    pointers = [error["pointer"] for error in response.json()["errors"]]
    assert not pointer or any(found.startswith(pointer) for found in pointers), pointers
    assert served.serving.spool.waiting_rows == before


def in_bytes(size: Any, kind: str = "FP64", shape: Any = (2,)) -> dict[str, Any]:
    """The request with its first tensor in the bytes that follow."""
    document = without("data")
    changed = {"parameters": {"binary_data_size": size}, "datatype": kind, "shape": shape}
    document["inputs"][0] |= changed
    return document


TWO = struct.pack("<2d", 1, 2)
TEXT = struct.pack("<I", 1) + b"a"
WRONG_BYTES: list[tuple[str, Any, bytes, Mapping[str, str], int]] = [
    ("truncated", in_bytes(16), TWO[:-1], {}, 422),
    ("size too small", in_bytes(8), TWO, {}, 422),
    ("bytes left over", in_bytes(16), TWO + b"x", {}, 422),
    ("negative size", in_bytes(-1), TWO, {}, 422),
    ("size is true", in_bytes(True), TWO, {}, 422),
    ("size is a text", in_bytes("16"), TWO, {}, 422),
    ("size of 400 digits", in_bytes(HUGE), TWO, {}, 422),
    ("NaN in bytes", in_bytes(16), struct.pack("<2d", 1, NAN), {}, 422),
    ("infinity in bytes", in_bytes(8, "FP32"), struct.pack("<2f", 1, float("inf")), {}, 422),
    ("shape overflow", in_bytes(16, shape=[2, 2**61]), TWO, {}, 422),
    ("many rows", in_bytes(16, shape=[2**61]), TWO, {}, 413),
    ("two is no BOOL", in_bytes(2, "BOOL"), b"\x02\x00", {}, 422),
    ("a text that ends beyond", in_bytes(5, "BYTES", [1]), b"\xff\xff\xff\xff\x00", {}, 422),
    ("a length that ends beyond", in_bytes(3, "BYTES", [1]), b"\x01\x00\x00", {}, 422),
    ("too few texts", in_bytes(5, "BYTES"), TEXT, {}, 422),
    ("too many texts", in_bytes(10, "BYTES", [1]), TEXT * 2, {}, 422),
    ("no UTF-8", in_bytes(10, "BYTES"), TEXT + struct.pack("<I", 1) + b"\xff", {}, 422),
    (
        "data and bytes",
        inference() | in_bytes(16) | one(parameters={"binary_data_size": 16}),
        TWO,
        {},
        422,
    ),
    ("length beyond", in_bytes(16), TWO, {"inference-header-content-length": "99999"}, 400),
    ("length negative", in_bytes(16), TWO, {"inference-header-content-length": "-1"}, 400),
    ("length no number", in_bytes(16), TWO, {"inference-header-content-length": "0x10"}, 400),
    (
        "length of other digits",
        in_bytes(16),
        TWO,
        {"inference-header-content-length": "1" * 50},
        400,
    ),
    ("length too short", in_bytes(16), TWO, {"inference-header-content-length": "10"}, 400),
    ("length zero", in_bytes(16), TWO, {"inference-header-content-length": "0"}, 400),
    ("compressed", in_bytes(16), TWO, {"content-encoding": "gzip"}, 415),
]


@pytest.mark.parametrize(
    ("document", "tail", "headers", "status"),
    [w[1:] for w in WRONG_BYTES],
    ids=[w[0] for w in WRONG_BYTES],
)
async def test_bytes_that_are_not_the_tensors_are_refused(
    served: Replica, document: Any, tail: bytes, headers: Mapping[str, str], status: int
) -> None:
    response = await post(served, document, headers, tail)

    assert response.status_code == status, response.text
    assert response.json()["error"]


async def test_the_same_bytes_as_they_should_be_are_answered(served: Replica) -> None:
    response = await post(served, in_bytes(16), tail=TWO)

    assert response.json()["outputs"][0]["data"] == pytest.approx(ANSWERS)
