"""What others do to a service over the real broker: nonsense by the thousand, and newer types."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import pytest

from shared import codec
from shared.broker import Message
from shared.codec import encode
from shared.inbox import Limits
from shared.topics import DATASETS, OFFERS
from shared.turned_away import count_turned_away, list_turned_away
from tests.conftest import OpenDatabase
from tests.support.bus_kit import (
    BrokerDelivery,
    BusDelivery,
    FaustDelivery,
    an_offer,
    heard,
    of,
    versions,
)

pytestmark = pytest.mark.real
MUCH = 5_000
ROOM = Limits(parked=1_000, turned_away=300)


class Roomy(BusDelivery):
    """With the room that services have."""

    limits = ROOM


class RoomyFaust(FaustDelivery):
    """The same on Faust."""

    limits = ROOM


@pytest.fixture(params=[Roomy, RoomyFaust])
async def delivery(
    request: pytest.FixtureRequest, open_database: OpenDatabase, kafka: str, topic_prefix: str
) -> AsyncIterator[BrokerDelivery]:
    made: BrokerDelivery = request.param(await open_database("trainer"), kafka, topic_prefix)
    await made.prepare()
    yield made
    await made.close()


async def test_thousands_of_records_that_are_no_events_hold_a_good_one_up_for_seconds(
    delivery: BrokerDelivery, record_property: Callable[[str, object], None]
) -> None:
    nonsense = [
        Message(topic=OFFERS.name, key=b"a", value=b"nonsense %d" % number)
        for number in range(MUCH)
    ]
    for begin in range(0, MUCH, 500):
        await delivery.publisher.send_messages(nonsense[begin : begin + 500])
    await delivery.put(heard(an_offer("b", 1)))

    begun, spent = time.monotonic(), time.process_time()
    await delivery.start()
    await delivery.until_effect("b", 1, seconds=120)
    record_property("seconds", round(time.monotonic() - begun, 2))
    record_property("cpu_seconds", round(time.process_time() - spent, 2))

    database = delivery.database
    assert await database.fetchval("select count(*) from dead_letter") == ROOM.parked
    assert await database.fetchval("select count(*) from turned_away") == ROOM.turned_away
    assert await count_turned_away(database) == {OFFERS.name: MUCH - ROOM.parked}
    newest = await list_turned_away(database, limit=ROOM.turned_away)
    assert {one.offset for one in newest} == set(range(MUCH - ROOM.turned_away, MUCH))
    assert {one.failure for one in newest} == {"InvalidEvent"}


@pytest.mark.parametrize("delivery", [Roomy], indirect=True)
async def test_a_type_that_an_older_reader_did_not_know_is_handled_once_by_the_newer_one(
    delivery: BrokerDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = versions("a", 1, 2, 3)
    offer = heard(an_offer("c", 1))
    newer = encode(first).replace(b"dataset.published.v1", b"dataset.published.v2")
    newer_offer = encode(offer).replace(b"dataset.offered.v1", b"dataset.offered.v2")
    await delivery.start()
    await delivery.put_bytes(DATASETS, b"a", newer)
    await delivery.put_bytes(OFFERS, b"c", newer_offer)
    await delivery.put_bytes(OFFERS, b"c", b"nonsense")
    await delivery.put(second)
    await delivery.settle()
    before = sorted(await delivery.parked(), key=str)

    # The next release knows them; how it reads them is its own affair.
    for kind in ("dataset.published", "dataset.offered"):
        upcast = (f"tidewheel.{kind}.v1", dict)
        monkeypatch.setitem(codec.UPCASTERS, f"tidewheel.{kind}.v2", upcast)
    await delivery.restart()
    await delivery.until_effect("a", 2)
    await delivery.put_bytes(DATASETS, b"a", newer)
    await delivery.put_bytes(OFFERS, b"c", newer_offer)
    await delivery.put(third)
    await delivery.settle()

    assert before == [
        ("a", 1, "UnknownType"),
        ("a", 2, "Behind"),
        ("c", None, "InvalidEvent"),
        ("c", None, "UnknownType"),
    ]
    assert of("a", await delivery.effects()) == [1, 2, 3]
    assert of("c", await delivery.effects()) == [1]
    assert await delivery.parked() == [("c", None, "InvalidEvent")]
