"""The registry as a process on the real broker: offers, kills between any two lines, memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.services import Services
from local.stack import Infrastructure
from shared import clock
from shared.bus import follow, publish
from shared.events import DatasetName, DatasetOffered, DatasetPublished, Event, Heard
from shared.ids import uuid7
from shared.topics import DATASETS, OFFERS
from tests.registry.builders import a_spec, some_rows
from tests.support.house import House, until
from tests.support.stack import fresh_topic_prefix, temporary_folder

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def lake() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def house(infrastructure: Infrastructure, lake: Path) -> Iterator[House]:
    """The registry alone, ready."""
    with temporary_folder() as folder:
        knobs = {
            "registry": {
                "ROOTS": json.dumps({"lake": lake.as_uri()}),
                "UPLOADS": str(folder / "uploads"),
            }
        }
        services = Services(
            infrastructure,
            folder / "house",
            names=["registry"],
            topic_prefix=fresh_topic_prefix(),
            partitions=2,
            knobs=knobs,
        )
        try:
            house = House(services.start())
            yield house
            house.http.close()
        finally:
            services.discard()


def an_offer(dataset: str, uri: str) -> Heard[Event]:
    return Heard(
        event=DatasetOffered(dataset=DatasetName(dataset), uri=uri),
        id=uuid7(),
        source="//acme/etl",
        time=clock.now(),
        correlation=uuid7(),
    )


def offer(house: House, kafka: str, *offers: Heard[Event]) -> None:
    asyncio.run(publish(kafka, house.services.topic_prefix, OFFERS, offers))


def published_on_the_broker(house: House, kafka: str, dataset: str) -> list[Heard[Any]]:
    """What lies on the topic, read from its beginning."""
    found: list[Heard[Any]] = []

    async def read() -> None:
        caught_up = asyncio.Event()

        async def take(heard: Heard[Event], _partition: int, _offset: int) -> None:
            if heard.event.subject == dataset and isinstance(heard.event, DatasetPublished):
                found.append(heard)

        reading = asyncio.create_task(
            follow(
                kafka,
                [DATASETS],
                prefix=house.services.topic_prefix,
                handle=take,
                caught_up=caught_up,
            )
        )
        async with asyncio.timeout(30):
            await caught_up.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(read())
    return found


def test_an_offer_is_published_and_names_its_cause(house: House, kafka: str, lake: Path) -> None:
    (lake / "offered.csv").write_text(some_rows(30))
    offered = an_offer("offered", "lake:offered.csv")

    offer(house, kafka, offered)

    (event,) = house.heard("offered", "dataset.published")
    assert event["causation"] == str(offered.id)
    assert event["correlation"] == str(offered.correlation)
    assert event["data"]["offer"] == str(offered.id)
    assert event["data"]["published_by"] == "//acme/etl"


def test_an_offer_that_leads_nowhere_is_refused_and_not_met_with_silence(
    house: House, kafka: str
) -> None:
    offered = an_offer("nowhere", "lake:nothing.csv")

    offer(house, kafka, offered)

    (event,) = house.heard("nowhere", "dataset.refused")
    assert event["causation"] == str(offered.id)
    assert "nothing lies at" in event["data"]["reasons"][0]["detail"]


def test_the_same_bytes_offered_twice_are_one_version(house: House, kafka: str, lake: Path) -> None:
    (lake / "twice.csv").write_text(some_rows(31))
    (lake / "other.csv").write_text(some_rows(32))

    offer(house, kafka, an_offer("twice", "lake:twice.csv"), an_offer("twice", "lake:twice.csv"))
    offer(house, kafka, an_offer("twice", "lake:other.csv"))

    versions = [event["data"]["version"] for event in house.heard("twice", "dataset.published", 2)]
    assert versions == [1, 2]


def test_an_offer_for_what_is_no_dataset_is_set_aside(house: House, kafka: str) -> None:
    offer(house, kafka, an_offer("No Dataset", "lake:x.csv"))

    letter = until(
        lambda: next(iter(_letters(house, "No Dataset")), None), what="the offer to be set aside"
    )
    assert "names no dataset" in letter["reason"]


def _letters(house: House, subject: str) -> list[dict[str, Any]]:
    found = house.get("registry", "/v1/dead-letters", subject=subject)
    return list(found["items"]) if found else []


@pytest.mark.parametrize("point", ["before_commit", "after_commit_before_publish"])
def test_an_upload_killed_on_its_way_is_one_version_when_it_is_sent_again(
    house: House, kafka: str, point: str
) -> None:
    dataset = f"killed-{point.replace('_', '-')}"
    starts = house.arm("registry", f"{point}@tidewheel.dataset.published.v1")
    first = house.ask(
        "registry",
        "POST",
        f"/v1/datasets/{dataset}/versions",
        content=some_rows(33),
        headers={"Content-Type": "text/csv"},
    )
    house.rearmed("registry", starts)

    receipt = house.publish(dataset, some_rows(33))

    assert first.status_code == 599
    assert (receipt["version"], receipt["created"]) == (1, point == "before_commit")
    until(lambda: published_on_the_broker(house, kafka, dataset), what="the event on the broker")
    events = published_on_the_broker(house, kafka, dataset)
    assert {str(event.id) for event in events} == {receipt["event_id"]}
    data = house.ask("registry", "GET", f"/v1/datasets/{dataset}/versions/1/data")
    assert data.text == some_rows(33)


@pytest.mark.parametrize("point", ["before_complete", "after_complete"])
def test_an_offer_killed_around_its_end_is_one_version(
    house: House, kafka: str, lake: Path, point: str
) -> None:
    dataset = f"offered-{point.replace('_', '-')}"
    (lake / f"{dataset}.csv").write_text(some_rows(34))
    starts = house.arm("registry", f"{point}@offer")

    offer(house, kafka, an_offer(dataset, f"lake:{dataset}.csv"))
    house.rearmed("registry", starts)

    (event,) = house.heard(dataset, "dataset.published")
    assert event["data"]["version"] == 1
    job = house.get("registry", f"/v1/datasets/{dataset}/versions")
    assert [version["version"] for version in job["items"]] == [1]


def test_what_a_dead_process_left_behind_is_swept_at_start(house: House) -> None:
    folder = Path(house.services.places.folder).parent / "uploads" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    leftover = folder / "upload-left"
    leftover.write_bytes(b"half a file")

    house.services.restart("registry")

    assert not leftover.exists()


def test_the_process_never_loads_polars_nor_a_whole_file(house: House) -> None:
    pid = house.services.pid("registry")
    before = _peak_megabytes(pid)

    house.publish("large", "a,b\n" + "0.123456789,0.987654321\n" * 3_000_000)

    assert _peak_megabytes(pid) - before < 50
    assert "polars" not in Path(f"/proc/{pid}/maps").read_text()


def _peak_megabytes(pid: int | None) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def test_a_definition_is_said_on_the_broker_once(house: House) -> None:
    house.define(a_spec("said", "said"))
    house.define(a_spec("said", "said"))

    assert len(house.heard("said", "model.defined")) == 1


def test_it_answers_nothing_without_a_key(house: House) -> None:
    answer = httpx.get(house.services.url("registry") + "/v1/models")

    assert answer.status_code == 401
