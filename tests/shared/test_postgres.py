"""A transaction holds an effect and what is said of it, together or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from contextvars import Context

import asyncpg
import pytest

from shared.codec import decode
from shared.errors import InvalidEvent, StoreUnavailable
from shared.events import DatasetName, DatasetOffered, EventParked
from shared.ids import uuid7
from shared.postgres import SESSION, Cause, Database, passes
from tests.support.bus_kit import a_version

pytestmark = pytest.mark.real
CAUSE = Cause(id=uuid7(), correlation=uuid7())


@pytest.fixture
async def table(database: Database) -> Database:
    await database.execute("create table note (id bigserial, text text not null)")
    return database


async def test_what_is_said_is_numbered_per_subject_in_the_order_of_saying(
    database: Database,
) -> None:
    async with database.transaction(CAUSE) as transaction:
        first = await transaction.say([a_version("a", 1), a_version("b", 1), a_version("a", 2)])
        second = await transaction.say([a_version("a", 3)])

    assert [heard.sequence for heard in [*first, *second]] == [1, 1, 2, 3]


async def test_the_stored_bytes_are_the_event_with_its_sequence(database: Database) -> None:
    async with database.transaction(CAUSE) as transaction:
        await transaction.say([a_version("a", 1)])
        (heard,) = await transaction.say([a_version('"sequence":"0"', 1)])

    row = await database.fetchrow("select * from said where event_id = $1", heard.id)
    assert row is not None
    assert decode(row["payload"]) == heard
    assert row["digest"] == hashlib.sha256(row["payload"]).digest()


async def test_what_fails_apart_is_undone_with_what_it_said_and_the_rest_is_kept(
    table: Database,
) -> None:
    ran: list[str] = []

    async with table.transaction(CAUSE) as transaction:
        await table.execute("insert into note (text) values ('before')")
        await table.defer("insert into note (text) values ($1)", "deferred before")
        (kept,) = await transaction.say([a_version("a", 1)])

        async def fail() -> None:
            async with transaction.apart():
                await table.execute("insert into note (text) values ('apart')")
                await table.defer("insert into note (text) values ($1)", "deferred apart")
                await transaction.say([a_version("a", 2), a_version("b", 1)])
                transaction.after_commit.append(lambda: ran.append("apart"))
                await table.execute("select 1 / 0")

        with pytest.raises(asyncpg.DataError):
            await fail()
        async with transaction.apart():
            (after,) = await transaction.say([a_version("a", 3)])

    notes = [row["text"] for row in await table.fetch("select text from note order by id")]
    assert notes == ["before", "deferred before"]
    assert [heard.sequence for heard in transaction.said] == [1, 2]
    assert (kept.sequence, after.sequence, ran) == (1, 2, [])
    assert await table.fetchval("select count(*) from outbox") == 2


async def test_numbers_beyond_64_bits_come_back_as_the_floats_that_they_were(
    database: Database,
) -> None:
    written = {"e_value": 1.2345e41, "least": -3e300, "tiny": 1e-300, "seed": 2**63 - 1}
    await database.execute("create table plain (data jsonb not null)")

    await database.execute("insert into plain values ($1)", written)
    (row,) = await database.fetch("select data from plain")

    assert row["data"] == written
    assert {name: type(value) for name, value in row["data"].items()} == {
        "e_value": float,
        "least": float,
        "tiny": float,
        "seed": int,
    }


async def test_an_event_without_order_gets_no_sequence(database: Database) -> None:
    parked = EventParked(
        parked_subject="a",
        service="registry",
        consumer="registry",
        topic="t",
        partition=0,
        offset=1,
        event="e",
        event_sequence=None,
        failure="f",
        reason="r",
        trace="",
        payload="",
    )

    async with database.transaction(CAUSE) as transaction:
        heards = await transaction.say([parked, a_version("a", 1)])

    assert [heard.sequence for heard in heards] == [None, 1]


async def test_the_same_cause_gives_the_same_ids(database: Database) -> None:
    ids = []

    async def say_in_vain() -> None:
        async with database.transaction(CAUSE) as transaction:
            ids.append([one.id for one in await transaction.say([a_version("a", 1)] * 2)])
            raise RuntimeError("not this time")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="not this time"):
            await say_in_vain()

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


async def test_a_transaction_that_fails_leaves_neither_effect_nor_event(table: Database) -> None:
    async def fail_midway() -> None:
        async with table.transaction() as transaction:
            await table.execute("insert into note (text) values ('x')")
            await transaction.say([a_version("a", 1)])
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        await fail_midway()

    assert await table.fetchval("select count(*) from note") == 0
    assert await table.fetchval("select count(*) from outbox") == 0
    assert await table.fetchval("select count(*) from stream_head") == 0


async def test_an_event_that_is_too_large_rolls_its_transaction_back(table: Database) -> None:
    large = DatasetOffered(dataset=DatasetName("a"), uri="lake:" + "x" * 300_000)

    async def say_too_much() -> None:
        async with table.transaction() as transaction:
            await table.execute("insert into note (text) values ('x')")
            await transaction.say([large])

    with pytest.raises(InvalidEvent):
        await say_too_much()

    assert await table.fetchval("select count(*) from note") == 0


async def test_writers_of_one_subject_get_outbox_ids_in_the_order_of_their_sequences(
    database: Database,
) -> None:
    async def write() -> None:
        for _ in range(10):
            async with database.transaction() as transaction:
                await transaction.say([a_version("a", 1), a_version("b", 1)])

    await asyncio.gather(*(write() for _ in range(6)))

    rows = await database.fetch(
        "select s.sequence from outbox o join said s using (event_id) "
        "where s.subject = 'a' order by o.id"
    )
    assert [row["sequence"] for row in rows] == list(range(1, 61))


async def test_deferred_statements_run_together_before_the_commit(table: Database) -> None:
    async with table.transaction():
        for text in ("one", "two", "three"):
            await table.defer("insert into note (text) values ($1)", text)
        inside = await table.fetchval("select count(*) from note")
    rows = await table.fetch("select text from note order by id")

    assert inside == 0
    assert [row["text"] for row in rows] == ["one", "two", "three"]


async def test_what_is_to_follow_a_commit_follows_only_a_commit(database: Database) -> None:
    followed: list[str] = []

    async def fail() -> None:
        async with database.transaction() as transaction:
            transaction.after_commit.append(lambda: followed.append("rolled back"))
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await fail()
    async with database.transaction() as transaction:
        transaction.after_commit.append(lambda: followed.append("committed"))
        inside = list(followed)

    assert inside == []
    assert followed == ["committed"]


async def test_a_commit_that_said_something_wakes_the_relay(database: Database) -> None:
    async with database.transaction():
        pass
    silent = database.committed.is_set()
    async with database.transaction() as transaction:
        await transaction.say([a_version("a", 1)])

    assert not silent
    assert database.committed.is_set()


async def test_a_lost_connection_is_unavailable_and_the_next_call_works(
    database: Database,
) -> None:
    with pytest.raises(StoreUnavailable):
        async with database.transaction():
            await database.execute("select pg_terminate_backend(pg_backend_pid())")

    assert await database.fetchval("select 1") == 1


async def test_who_freezes_inside_a_transaction_loses_its_locks_and_may_try_again(
    table: Database,
) -> None:
    await table.execute("insert into note (text) values ('held')")
    lock = "select 1 from note for update"
    given = {name: await table.fetchval("select current_setting($1)", name) for name in SESSION}

    async def freeze() -> None:
        async with table.transaction():
            await table.execute("set local idle_in_transaction_session_timeout = 50")
            await table.fetchval(lock)
            # In a context of its own: otherwise it would join the open transaction.
            other = asyncio.create_task(table.fetchval(lock), context=Context())
            assert await other == 1
            await table.fetchval("select 1")

    with pytest.raises(StoreUnavailable):
        await freeze()

    assert given["idle_in_transaction_session_timeout"] == "1min"


async def test_a_table_that_a_newer_release_changes_is_tried_again_not_parked(
    database: Database,
) -> None:
    await database.execute("create table note (id bigint)")
    sql = "select * from note"

    async def read() -> None:
        async with database.transaction():
            await database.fetch(sql)

    await read()
    await database.execute("alter table note add column text text")
    with pytest.raises(StoreUnavailable):
        await read()

    await read()


async def test_a_connection_that_cannot_be_given_back_does_not_undo_what_was_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(asyncpg.Connection, "reset", lost)
    async with database.transaction() as transaction:
        await transaction.say([a_version("a", 1)])
    monkeypatch.undo()

    assert await database.fetchval("select count(*) from said") == 1


async def test_a_wrong_argument_does_not_pass_for_a_lost_connection(database: Database) -> None:
    with pytest.raises(asyncpg.DataError) as caught:
        await database.fetchval("select $1::bigint", 2**70)

    assert not passes(caught.value)


async def test_a_database_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        await Database.open("postgresql://nobody@127.0.0.1:1/none", "registry")
