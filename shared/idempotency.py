"""A request with an Idempotency-Key is carried out once; repeated, it gets the first answer."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from fastapi import Request
from fastapi.responses import Response

from shared import telemetry
from shared.access import Principal
from shared.errors import InvalidInput, Unavailable
from shared.postgres import Cause, Database

FORGET_EVERY_SECONDS: Final = 600.0
Action = Callable[[], Awaitable[tuple[int, Any]]]


async def once(
    request: Request,
    database: Database,
    principal: Principal,
    action: Action,
    *,
    body_hash: bytes | None = None,
) -> Response:
    """Carry out `action` in one transaction, at most once per key and principal.

    Args:
        action: does the work in the open transaction; returns a status and a JSON body.
        body_hash: of the body where it was streamed; by default the request's body is hashed.

    Raises:
        InvalidInput: the key was used before with another body.
    """
    key = request.headers.get("idempotency-key", "")
    if len(key) > 200:
        raise InvalidInput("An Idempotency-Key has at most 200 characters.")
    if key and body_hash is None:
        # Before the transaction: whoever sends slowly must not keep a connection meanwhile.
        asked = f"{request.url.path}?{request.url.query}".removesuffix("?")
        body_hash = hashlib.sha256(asked.encode() + await request.body()).digest()
    async with database.transaction(Cause.outside()):
        if not key:
            return _answer(*await action())
        # The lock makes a second request with this key wait for the first one's answer.
        await database.execute(
            "select pg_advisory_xact_lock(hashtextextended($1, 0))", f"{principal.name}\n{key}"
        )
        known = await database.fetchrow(
            "select body_hash, status, body from idempotency where principal = $1 and key = $2",
            principal.name,
            key,
        )
        if known is not None:
            return _again(known["body_hash"] == body_hash, known["status"], known["body"])
        status, body = await action()
        await database.execute(
            "insert into idempotency (principal, key, body_hash, status, body) "
            "values ($1, $2, $3, $4, $5)",
            principal.name,
            key,
            body_hash,
            status,
            orjson.dumps(body, default=str),
        )
        return _answer(status, body)


def _again(same: bool, status: int, body: bytes) -> Response:
    if not same:
        raise InvalidInput(
            "This Idempotency-Key was used with another request; use a new one.",
            code="idempotency_key_reused",
        )
    return Response(body, status, {"Idempotency-Replayed": "true"}, "application/json")


def _answer(status: int, body: Any) -> Response:
    return Response(orjson.dumps(body, default=str), status, media_type="application/json")


async def forget(database: Database) -> int:
    """Drop answers older than a day; how many there were."""
    return await database.execute(
        "delete from idempotency where created_at < now() - interval '1 day'"
    )


async def forgetting(database: Database) -> None:
    """Drop old answers from time to time, until cancelled: a key is good again after a day."""
    while True:
        try:
            await forget(database)
        except Unavailable as error:
            telemetry.log("answers_not_forgotten", level="warning", reason=str(error))
        await asyncio.sleep(FORGET_EVERY_SECONDS)
