"""The unit of work: place in order, effect and words in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from shared import clock
from shared.codec import MAX_EVENT_BYTES, encode
from shared.errors import Unprocessable
from shared.events import DatasetOffered, Event, Heard
from shared.inbox import Inbox, Limits, place_of
from shared.letters import Letter, Record
from shared.parking import list_parked
from shared.postgres import Database
from shared.reactions import Reaction
from shared.retrying import retry_parked
from shared.topics import DATASETS, OFFERS, SERVING
from tests.conftest import OpenDatabase
from tests.support.bus_kit import (
    EFFECTS,
    EffectsInDatabase,
    Script,
    Skipper,
    an_offer,
    heard,
    versions,
)
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("sequence", "mark", "place"),
    [
        (1, None, "next"),
        (2, None, "gap"),
        (3, (3, False), "repeat"),
        (2, (3, True), "repeat"),
        (4, (3, False), "next"),
        (4, (3, True), "behind"),
        (5, (3, False), "gap"),
        (5, (3, True), "gap"),
    ],
)
def test_the_place_of_an_event_follows_from_the_watermark(
    sequence: int, mark: tuple[int, bool] | None, place: str
) -> None:
    assert place_of(sequence, mark, DATASETS) == place


def test_first_sight_sets_the_baseline_where_history_is_finite() -> None:
    assert SERVING.retention == timedelta(days=30)
    assert place_of(7, None, SERVING) == "next"


async def no_wait(_: float) -> None:
    await asyncio.sleep(0)


class GivenUp(Exception):
    """The test does not wait for ever."""


async def give_up(_: float) -> None:
    raise GivenUp


def record(one: Heard[Event], offset: int) -> Record:
    topic = OFFERS if one.sequence is None else DATASETS
    return Record(
        topic=topic.name,
        partition=0,
        offset=offset,
        key=one.event.subject.encode(),
        value=encode(one),
    )


@pytest.fixture
async def service(open_database: OpenDatabase) -> tuple[Database, Skipper]:
    database = await open_database("trainer")
    await database.execute(EFFECTS)
    return database, Skipper(EffectsInDatabase(database), Script(), together=10)


def letters(inbox: Inbox, ones: Sequence[Heard[Event]]) -> list[Letter]:
    return [inbox.read(record(one, offset)) for offset, one in enumerate(ones)]


@pytest.mark.real
async def test_a_zombie_owner_waits_at_the_watermark_and_then_skips(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    one, other = (Inbox(database, "trainer", skipper.reactions()) for _ in range(2))
    gate = skipper.script.hold("a", 1)
    (letter,) = letters(one, versions("a", 1))

    first = asyncio.create_task(one.take([letter], no_wait))

    async def has_started() -> bool:
        return bool(skipper.script.started)

    await eventually(has_started, what="the first owner's reaction")
    second = asyncio.create_task(other.take([letter], no_wait))
    gate.set()
    await asyncio.gather(first, second)

    assert await skipper.effects.all() == [("a", 1)]
    assert skipper.script.tries("a", 1) == 1


@pytest.mark.real
async def test_a_batch_is_one_transaction_and_falls_apart_at_a_poison(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    inbox = Inbox(database, "trainer", skipper.reactions())
    skipper.script.poison["b", 1] = ValueError("a bug")
    batch = letters(inbox, [*versions("a", 1, 2), *versions("b", 1), *versions("a", 3)])

    held = await inbox.take(batch, no_wait)

    assert held == []
    assert await skipper.effects.all() == [("a", 1), ("a", 2), ("a", 3)]
    assert [one.subject for one in await list_parked(database)] == ["b"]


@pytest.mark.real
async def test_a_repeat_within_a_batch_without_order_has_one_effect(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    inbox = Inbox(database, "trainer", skipper.reactions())
    one = heard(an_offer("a", 1))

    await inbox.take(letters(inbox, [one, one, heard(an_offer("a", 2)), one]), no_wait)

    assert await skipper.effects.all() == [("a", 1), ("a", 2)]


@pytest.mark.real
async def test_the_ceiling_stops_the_consumer_instead_of_draining_a_topic(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    inbox = Inbox(database, "trainer", skipper.reactions(), limits=Limits(parked=2))
    subjects = ("a", "b", "c")
    for subject in subjects:
        skipper.script.poison[subject, 1] = ValueError("a bad release")
    parked = letters(inbox, [versions(subject, 1)[0] for subject in subjects])
    await inbox.take(parked[:2], no_wait)

    with pytest.raises(GivenUp):
        await inbox.take(parked[2:], give_up)

    assert [one.subject for one in await list_parked(database)] == ["a", "b"]


@pytest.mark.real
async def test_ids_are_forgotten_only_where_the_broker_forgets_too(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    inbox = Inbox(database, "trainer", skipper.reactions())
    await inbox.take(letters(inbox, [heard(an_offer("a", 1))]), no_wait)
    await database.execute(
        "insert into inbox (consumer, topic, event_id, heard_at) "
        "values ('trainer', $1, gen_random_uuid(), now() - interval '61 days')",
        SERVING.name,
    )
    await database.execute(
        "update inbox set heard_at = now() - interval '1 year' where topic = $1", OFFERS.name
    )

    is_all = await inbox.forget_old([OFFERS, SERVING])

    assert is_all
    rows = await database.fetch("select topic from inbox")
    assert [row["topic"] for row in rows] == [OFFERS.name]


@pytest.mark.real
async def test_records_that_are_no_events_make_room_after_a_month(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    inbox = Inbox(database, "trainer", skipper.reactions())
    skipper.script.poison["a", 1] = ValueError("a bug")
    junk = inbox.read(Record(topic=OFFERS.name, partition=0, offset=9, key=b"a", value=b"{"))
    await inbox.take([junk], no_wait)
    await inbox.take(letters(inbox, [heard(an_offer("a", 1))]), no_wait)
    await database.execute("update dead_letter set parked_at = now() - interval '31 days'")

    await inbox.forget_old([OFFERS, DATASETS])

    assert [one.failure for one in await list_parked(database)] == ["ValueError"]


@pytest.mark.real
async def test_whatever_headers_a_record_has_its_copy_can_be_published(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    inbox = Inbox(database, "trainer", skipper.reactions())
    value = b'{"specversion":"1.0","type":"' + b"\x01" * 99_000
    headers = tuple(("\x01" * 900, b"\x01" * 900) for _ in range(80))
    hostile = Record(
        topic=OFFERS.name, partition=0, offset=0, key=b"\x01" * 900, value=value, headers=headers
    )

    await inbox.take([inbox.read(hostile)], give_up)
    own = inbox.read(replace(hostile, topic=DATASETS.name))
    await inbox.take([own], give_up)

    said = await database.fetch("select length(payload) as size from said")
    assert len(said) == 2
    assert max(row["size"] for row in said) < MAX_EVENT_BYTES


@pytest.mark.real
@pytest.mark.parametrize("is_stamped", [True, False])
async def test_a_strangers_event_has_come_when_it_came_however_late_it_is_tried_again(
    service: tuple[Database, Skipper], is_stamped: bool
) -> None:
    database, _ = service
    came_at = clock.now() - timedelta(days=40)
    taken: list[Heard[Event]] = []

    async def take(one: Heard[Event]) -> Sequence[Event]:
        if not taken:
            raise Unprocessable("not yet")
        taken.append(one)
        return []

    reactions = [Reaction(DatasetOffered, take)]
    inbox = Inbox(database, "trainer", reactions)
    sent = replace(record(heard(an_offer("a", 1)), 0), came_at=came_at if is_stamped else None)
    first = inbox.read(sent)
    await inbox.take([first], give_up)
    assert first.heard is not None
    taken.append(first.heard)

    await retry_parked(database, reactions, OFFERS.name, "a", consumer="trainer")

    told = [one.came_at for one in taken]
    assert len(told) == 2
    assert told[0] == told[1]
    assert (told[0] == came_at) is is_stamped


@pytest.mark.real
async def test_batches_share_a_transaction_as_far_as_their_reactions_allow(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    inbox = Inbox(database, "trainer", skipper.reactions(), limits=Limits(together=20))
    ones = letters(inbox, versions("a", *range(1, 15)))
    broken = inbox.read(Record(topic=DATASETS.name, partition=0, offset=9, key=b"a", value=b"{"))

    assert inbox.batch(ones) == ones[:10]
    assert inbox.batch([ones[0], broken, ones[1]]) == ones[:1]
    assert inbox.batch([broken, ones[0]]) == [broken]


HOSTILE = {
    "nul-in-subject": encode(heard(an_offer("a\x00b", 1))),
    "nul-in-type": encode(heard(an_offer("a", 1))).replace(b"offered.v1", b"\\u0000"),
    "large": b"{" + b"x" * 90_000,
    "surrogate": b'{"specversion":"1.0","type":"\\ud800","subject":"\\udfff"}',
    "no-id": b'{"specversion":"1.0","type":"tidewheel.dataset.offered.v1","subject":"a"}',
    "numbers-for-texts": b'{"specversion":"1.0","type":7,"subject":[1],"source":{},"id":null}',
    "bad-time": encode(heard(an_offer("a", 1))).replace(b'"time":"2', b'"time":"x'),
    "bad-cause": encode(heard(an_offer("a", 1))).replace(
        b'"correlationid":"', b'"correlationid":"x'
    ),
}


@pytest.mark.real
@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_a_record_holds_it_can_be_parked(
    service: tuple[Database, Skipper], name: str
) -> None:
    database, skipper = service
    inbox = Inbox(database, "trainer", skipper.reactions())
    hostile = Record(
        topic=OFFERS.name,
        partition=0,
        offset=0,
        key=b"\xff\x00a",
        value=HOSTILE[name],
        headers=tuple((f"h\x00{n}", b"\xff\x00" * 400) for n in range(200)),
    )

    held = await inbox.take([inbox.read(hostile)], give_up)
    again = await inbox.take([inbox.read(hostile)], give_up)

    (parked,) = await list_parked(database)
    assert held == again == []
    assert parked.payload == HOSTILE[name]
    assert await database.fetchval("select count(*) from outbox") == 1


@pytest.mark.real
async def test_two_consumers_that_park_the_same_event_announce_it_apart(
    service: tuple[Database, Skipper],
) -> None:
    database, skipper = service
    skipper.script.poison["a", 1] = ValueError("a bug")
    event = versions("a", 1)

    for consumer in ("trainer", "another"):
        inbox = Inbox(database, consumer, skipper.reactions())
        await inbox.take(letters(inbox, event), no_wait)

    said = await database.fetch("select event_id from said where topic like '%dead-letters%'")
    assert len({row["event_id"] for row in said}) == 2
