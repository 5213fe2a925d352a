"""The Python client: two forms of one thing."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Recorded
from tidewheel import AsyncClient, Client, Failure

pytestmark = pytest.mark.enable_socket


def _verbs(kind: type[Any]) -> dict[str, str]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: _signature(method) for name, method in found if not name.startswith("_")}


def _signature(method: Any) -> str:
    return str(inspect.signature(method)).replace("Async", "").rpartition(" -> ")[0]


def test_both_clients_have_the_same_methods() -> None:
    assert _verbs(Client) == _verbs(AsyncClient)


def test_a_file_is_streamed_with_its_type(
    recorded: Recorded, context_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "flow.csv").write_text("a\n1\n")
    recorded.says("POST /v1/datasets/plant/flow/versions", (201, {"version": 1}))

    with Client(context_file=context_file) as client:
        receipt = client.publish("plant/flow", tmp_path / "flow.csv")

    assert receipt == {"version": 1}
    assert recorded.asked[0].body == b"a\n1\n"
    assert recorded.asked[0].headers["content-type"] == "text/csv"


def test_a_reference_is_sent_as_one(recorded: Recorded, context_file: Path) -> None:
    recorded.says("POST /v1/datasets/flow/versions", (201, {"version": 1}))

    with Client(context_file=context_file) as client:
        client.publish("flow", "lake:day=1.parquet")

    assert recorded.asked[0].body == b'{"uri": "lake:day=1.parquet"}'


def test_a_state_changing_call_carries_a_key_under_which_it_happens_once(
    recorded: Recorded, context_file: Path
) -> None:
    recorded.says("POST /v1/models/pump/train", (503, {}), (202, {"run": "r-1"}))

    with Client(context_file=context_file) as client:
        client.train("pump")

    keys = [asked.headers["idempotency-key"] for asked in recorded.asked]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_refusal_is_a_failure_with_its_reasons(recorded: Recorded, context_file: Path) -> None:
    problem = {"detail": "one thing is wrong", "errors": [{"pointer": "/rows/0/load"}]}
    recorded.says("POST /v1/models/pump/predict", (422, problem))

    with Client(context_file=context_file) as client, pytest.raises(Failure) as raised:
        client.predict("pump", [{}])

    assert raised.value.status == 422
    assert raised.value.why == ("one thing is wrong", "/rows/0/load: ")


def test_a_number_that_json_does_not_know_is_refused_before_it_is_sent(
    recorded: Recorded, context_file: Path
) -> None:
    with Client(context_file=context_file) as client, pytest.raises(Failure) as raised:
        client.predict("pump", [{"load": float("nan")}])

    assert "send null" in raised.value.fix
    assert not recorded.asked


async def test_the_asynchronous_client_does_the_same(
    recorded: Recorded, context_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "flow.csv").write_text("a\n1\n")
    recorded.says("POST /v1/datasets/flow/versions", (201, {"version": 1, "cascade": "c"}))
    stream = b'id: 1\ndata: {"type": "a"}\n\nid: 2\ndata: {"type": "b"}\n\n'
    recorded.says("GET /v1/cascades/c/events", (200, stream))

    seen = []
    async with AsyncClient(context_file=context_file) as client:
        receipt = await client.publish("flow", tmp_path / "flow.csv")
        async for event in client.watch(receipt["cascade"]):
            seen.append(event["type"])
            if len(seen) == 3:
                break

    assert seen == ["a", "b", "a"]
    assert recorded.asked[-1].headers["last-event-id"] == "2"
