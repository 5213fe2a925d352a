"""Signed requests: whom to believe, and once."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared import clock
from shared.access import Keys, hash_of
from shared.codec import encode
from shared.errors import NotPermitted
from shared.events import Heard, ModelName, RollbackRequested
from shared.ids import uuid7
from shared.inbox import Inbox
from shared.letters import Letter, Reader, Record
from shared.postgres import Database
from shared.reactions import on
from shared.requests import Askers, readable
from shared.signing import BadSignature, Signers, SigningKey, sign
from shared.topics import REQUESTS
from tests.conftest import OpenDatabase

pytestmark = pytest.mark.real
ANN = SigningKey(id="ann-1", secret=os.urandom(32))
BOB = SigningKey(id="bob-1", secret=os.urandom(32))
STRANGER = SigningKey(id="ann-1", secret=os.urandom(32))


def a_request(**changes: Any) -> Heard[Any]:
    asked = RollbackRequested(model=ModelName("pump"), by="ann", reason="a test", to=None)
    heard: Heard[Any] = Heard(
        event=asked, id=uuid7(), source="//a-tool", time=clock.now(), correlation=uuid7()
    )
    return replace(heard, **changes)


def signed(heard: Heard[Any], key: SigningKey = ANN) -> Heard[Any]:
    return sign(heard, key.secret, key.id)


class Desk:
    """Does what signed requests ask for, over the unit of work."""

    def __init__(self, database: Database, folder: Path) -> None:
        file = folder / "keys.json"
        people = [
            {"id": name, "hash": hash_of(f"tw_{name}"), "principal": name, "roles": ["operator"]}
            for name in ("ann", "bob")
        ]
        signers = [
            {
                "id": key.id,
                "principal": name,
                "public_key": base64.b64encode(key.public).decode(),
            }
            for name, key in (("ann", ANN), ("bob", BOB))
        ]
        file.write_text(json.dumps({"keys": people, "signers": signers}))
        self.askers = Askers(database=database, signers=Signers(file), keys=Keys(file))
        self.database = database
        self.done: list[str] = []
        self.refused: list[str] = []
        self.inbox = Inbox(database, "deployer", [on(RollbackRequested, self.answer)])
        self.offset = 0

    async def answer(self, heard: Heard[RollbackRequested]) -> tuple[()]:
        try:
            who = await self.askers.believe(heard, heard.event.by)
        except (BadSignature, NotPermitted) as error:
            self.refused.append(error.code)
        else:
            self.done += [who.name] if who else []
        return ()

    def read(self, heard: Heard[Any]) -> Letter:
        self.offset += 1
        return self.inbox.read(a_record(heard, self.offset))

    async def hear(self, *heards: Heard[Any]) -> None:
        for heard in heards:
            await self.inbox.take([self.read(heard)], never)


def a_record(heard: Heard[Any], offset: int = 0) -> Record:
    return Record(
        topic=REQUESTS.name,
        partition=0,
        offset=offset,
        key=heard.event.subject.encode(),
        value=encode(heard),
    )


async def never(_: float) -> None:
    raise AssertionError("nothing here is worth another try")


@pytest.fixture
async def desk(open_database: OpenDatabase, tmp_path: Path) -> Desk:
    return Desk(await open_database("deployer"), tmp_path)


async def test_a_forged_request_that_comes_first_keeps_the_genuine_one_from_nothing(
    desk: Desk,
) -> None:
    genuine = signed(a_request())
    by_a_stranger = signed(a_request(id=genuine.id), STRANGER)
    under_its_signature = replace(
        genuine, event=replace(genuine.event, reason="another", to=1), correlation=uuid7()
    )
    unsigned = replace(genuine, signature=None)

    await desk.hear(by_a_stranger, under_its_signature, unsigned, genuine)

    assert desk.done == ["ann"]
    assert desk.refused == ["signature_wrong", "signature_wrong", "signature_missing"]


async def test_a_forged_request_that_comes_after_it_is_refused(desk: Desk) -> None:
    genuine = signed(a_request())

    await desk.hear(genuine, signed(a_request(id=genuine.id), STRANGER))

    assert desk.done == ["ann"]
    assert desk.refused == ["signature_wrong"]


async def test_a_request_acts_once_however_it_is_written_when_it_is_played_again(
    desk: Desk,
) -> None:
    genuine = signed(a_request())
    kind, key, text = str(genuine.signature).split(":")
    # The last digit before the padding carries four bits that decode to nothing.
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = digits[digits.index(text[-3]) ^ 1]
    rewritten = replace(genuine, signature=f"{kind}:{key}:{text[:-3]}{other}==")
    elsewhere = replace(genuine, correlation=uuid7(), traceparent="00-1")
    again = signed(replace(genuine, time=clock.now()))

    await desk.hear(genuine, genuine, rewritten, elsewhere, again)

    assert desk.done == ["ann"]
    assert desk.refused == []


async def test_who_may_sign_cannot_use_up_the_id_of_another(desk: Desk) -> None:
    genuine = signed(a_request())
    of_bob = a_request(id=genuine.id, event=replace(genuine.event, by="bob"))

    await desk.hear(signed(of_bob, BOB), signed(a_request(id=genuine.id), BOB), genuine)

    assert desk.done == ["bob", "ann"]
    assert desk.refused == ["may_not_speak_for"]


async def test_what_an_earlier_release_did_is_not_done_again(desk: Desk) -> None:
    genuine = signed(a_request())
    await desk.database.execute(
        "insert into inbox (consumer, topic, event_id) values ('deployer', $1, $2)",
        REQUESTS.name,
        genuine.id,
    )

    await desk.hear(genuine)

    assert desk.done == []


def test_the_key_of_a_request_is_a_function_of_all_that_it_says() -> None:
    async def nothing(_: Heard[RollbackRequested]) -> tuple[()]:
        return ()

    reader = Reader([on(RollbackRequested, nothing)])
    genuine = signed(a_request())
    keys = {
        reader.read(a_record(heard)).id
        for heard in (
            genuine,
            genuine,
            replace(genuine, signature=None),
            signed(genuine, STRANGER),
            replace(genuine, event=replace(genuine.event, reason="another")),
            replace(genuine, time=clock.now()),
        )
    }

    assert len(keys) == 5
    assert genuine.id not in keys


def test_words_of_strangers_are_made_fit_to_be_told() -> None:
    assert readable("a\x00b\x1b[31m\ud800" + "c" * 500) == "a?b?[31m?" + "c" * 191
