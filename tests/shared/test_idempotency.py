"""A request with a key is carried out once, however often it comes."""

import asyncio
import hashlib
from typing import Any
from uuid import uuid4

import pytest
from fastapi import Request

from shared.access import Principal, Role
from shared.errors import InvalidInput
from shared.idempotency import forget, forgetting, once
from shared.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.real
VERA = Principal(name="vera", key="k", grants={"*": frozenset(Role)})


def a_request(key: str, body: bytes = b"{}") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"idempotency-key", key.encode())] if key else []
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/x", "headers": headers}
    scope |= {"query_string": b"", "server": ("test", 80), "scheme": "http"}
    return Request(scope, receive)


class Counting:
    def __init__(self) -> None:
        self.done = 0

    async def __call__(self) -> tuple[int, Any]:
        self.done += 1
        return 201, {"number": self.done}


async def test_repeated_it_gets_the_first_answer(database: Database) -> None:
    action, key = Counting(), uuid4().hex

    first = await once(a_request(key), database, VERA, action)
    again = await once(a_request(key), database, VERA, action)

    assert action.done == 1
    assert (first.status_code, first.body) == (again.status_code, again.body)
    assert again.headers["idempotency-replayed"] == "true"


async def test_two_at_the_same_time_are_carried_out_once(database: Database) -> None:
    action, key = Counting(), uuid4().hex

    answers = await asyncio.gather(
        *(once(a_request(key), database, VERA, action) for _ in range(5))
    )

    assert action.done == 1
    assert len({answer.body for answer in answers}) == 1


async def test_another_body_under_the_same_key_is_refused(database: Database) -> None:
    action, key = Counting(), uuid4().hex
    await once(a_request(key), database, VERA, action)

    with pytest.raises(InvalidInput) as refused:
        await once(a_request(key, b'{"other": 1}'), database, VERA, action)

    assert refused.value.code == "idempotency_key_reused"


async def test_without_a_key_every_request_counts(database: Database) -> None:
    action = Counting()

    for _ in range(2):
        await once(a_request(""), database, VERA, action)

    assert action.done == 2


async def test_an_action_that_fails_is_not_remembered(database: Database) -> None:
    key = uuid4().hex

    async def failing() -> tuple[int, Any]:
        raise InvalidInput("no")

    with pytest.raises(InvalidInput):
        await once(a_request(key), database, VERA, failing)
    answer = await once(a_request(key), database, VERA, Counting())

    assert answer.status_code == 201


async def test_old_answers_are_forgotten(database: Database) -> None:
    await once(a_request("a"), database, VERA, Counting())
    await database.execute(
        "insert into idempotency (principal, key, body_hash, status, body, created_at) "
        "values ('x', 'old', $1, 201, 'x', now() - interval '25 hours')",
        hashlib.sha256(b"").digest(),
    )

    assert await forget(database) == 1


async def test_a_body_that_comes_slowly_holds_no_transaction(database: Database) -> None:
    request = a_request(uuid4().hex)
    arriving, asked = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        asked.set()
        await arriving.wait()
        return {"type": "http.request", "body": b"{}", "more_body": False}

    request._receive = receive
    answering = asyncio.create_task(once(request, database, VERA, Counting()))
    await asked.wait()
    held = await database.fetchval(
        "select count(*) from pg_stat_activity "
        "where datname = current_database() and state = 'idle in transaction'"
    )
    arriving.set()

    assert (await answering).status_code == 201
    assert held == 0


async def test_answers_are_forgotten_while_a_service_runs(database: Database) -> None:
    key = uuid4().hex
    await once(a_request(key), database, VERA, Counting())
    await database.execute("update idempotency set created_at = now() - interval '25 hours'")

    running = asyncio.create_task(forgetting(database))
    try:
        await eventually(lambda: _is_forgotten(database), what="the old answer to go")
    finally:
        running.cancel()


async def _is_forgotten(database: Database) -> bool:
    return not await database.fetchval("select count(*) from idempotency")
