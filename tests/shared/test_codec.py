"""Bytes that are no event are refused with the reason; both modes of CloudEvents are read."""

import json
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import codec
from shared.errors import InvalidEvent, UnknownType, Unprocessable
from shared.events import DatasetName, DatasetOffered, Heard, QualityMeasured
from tests.support.schemas import example_of


def an_offer() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(codec.encode(example_of(DatasetOffered)))
    return found


def headers_of(event: dict[str, Any]) -> list[tuple[str, bytes]]:
    given = [(f"ce_{k}", str(v).encode()) for k, v in event.items() if k != "data"]
    return [*given, ("content-type", b"application/json")]


def test_binary_mode_reads_the_same_event_as_structured_mode() -> None:
    event = an_offer()

    binary = codec.decode(json.dumps(event["data"]).encode(), headers_of(event))

    assert binary == codec.decode(json.dumps(event).encode())


def test_an_outsiders_id_becomes_one_id_of_ours_per_source() -> None:
    event = an_offer() | {"id": "day-2026-11-20", "source": "//acme/etl"}

    first, again = (codec.decode(json.dumps(event).encode()) for _ in range(2))
    other = codec.decode(json.dumps(event | {"source": "//other"}).encode())

    assert isinstance(first.id, UUID)
    assert first.id == again.id != other.id


def test_without_a_correlation_an_event_begins_a_cascade_of_its_own() -> None:
    event = an_offer()
    del event["correlationid"]

    heard = codec.decode(json.dumps(event).encode())

    assert heard.correlation == heard.id


def test_unknown_fields_are_ignored_and_missing_optional_ones_filled_in() -> None:
    event = an_offer()
    event["data"] = {"dataset": event["subject"], "uri": "lake:x", "added_later": 1}

    heard: Heard[Any] = codec.decode(json.dumps(event).encode())

    assert heard.event == DatasetOffered(dataset=DatasetName(event["subject"]), uri="lake:x")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"type": "tidewheel.dataset.offered.v9"}, UnknownType),
        ({"type": "somebody.elses.v1"}, UnknownType),
        ({"subject": "another"}, InvalidEvent),
        ({"time": "yesterday"}, InvalidEvent),
        ({"sequence": "first"}, InvalidEvent),
        ({"correlationid": "x"}, InvalidEvent),
        ({"specversion": "0.3"}, InvalidEvent),
        ({"data": {"dataset": "a"}}, InvalidEvent),
        ({"data": {"dataset": 1, "uri": "lake:x"}}, InvalidEvent),
        ({"data": [1]}, InvalidEvent),
        ({"data": None}, InvalidEvent),
    ],
)
def test_what_is_wrong_with_an_event_is_said(change: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        codec.decode(json.dumps(an_offer() | change).encode())


@given(st.binary(max_size=200) | st.none())
def test_whatever_bytes_come_they_are_an_event_or_unprocessable(value: bytes | None) -> None:
    with pytest.raises(Unprocessable):
        codec.decode(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_never_written(number: float) -> None:
    example = example_of(QualityMeasured)
    heard = replace(example, event=replace(cast("Any", example.event), value=number))

    with pytest.raises(InvalidEvent, match="not finite"):
        codec.encode(heard)


def test_an_event_too_large_for_the_bus_is_refused_where_it_is_said() -> None:
    example = example_of(DatasetOffered)
    event = DatasetOffered(dataset=DatasetName("a"), uri="x" * 300_000)
    heard = replace(example, event=event)

    with pytest.raises(InvalidEvent, match="blob"):
        codec.encode(heard)


def test_an_older_version_is_brought_up_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    current = DatasetOffered.TYPE
    steps = {
        "tidewheel.dataset.offered.v0": (
            "tidewheel.dataset.offered.v0b",
            lambda data: {**data, "uri": f"{data['root']}:{data['key']}"},
        ),
        "tidewheel.dataset.offered.v0b": (current, lambda data: {**data, "format": "csv"}),
    }
    for old, step in steps.items():
        monkeypatch.setitem(cast("Any", codec.UPCASTERS), old, step)
    event = an_offer() | {"type": "tidewheel.dataset.offered.v0"}
    event["data"] = {"dataset": event["subject"], "root": "lake", "key": "x.csv"}

    heard: Heard[Any] = codec.decode(json.dumps(event).encode())

    assert (heard.event.uri, heard.event.format) == ("lake:x.csv", "csv")
