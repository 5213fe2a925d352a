"""What people ask of other services is said on the bus in their name, and signed."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from shared import clock, codec
from shared.errors import Refused
from shared.events import (
    ApprovalGiven,
    BestRequested,
    DatasetName,
    DatasetOffered,
    Heard,
    ModelName,
    RollbackRequested,
    TrainingSkipped,
)
from shared.ids import uuid7
from shared.signing import Signers, SigningKey, sign
from tests.registry.conftest import House

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

KEY = SigningKey(id="registry-1", secret=bytes(range(32)))
INSIDER = SigningKey(id="ina-1", secret=bytes(range(1, 33)))
"""Of somebody who may speak for nobody else."""
ROLLBACK = {"kind": "rollback", "model": "pump", "reason": "it errs", "to": 3}
APPROVAL = {
    "kind": "approval",
    "model": "pump",
    "rollout": str(uuid4()),
    "version": 2,
    "manifest": "a" * 64,
    "granted": True,
    "comment": "seen",
    "evaluation": str(uuid4()),
}
BEST = {"kind": "best", "model": "pump", "metric": "mae", "reason": "the last three were worse"}


@pytest_asyncio.fixture(loop_scope="module", name="house")
async def _signing(fed: House, tmp_path: Path) -> House:
    (tmp_path / "signing.json").write_text(
        json.dumps({"id": KEY.id, "private_key": base64.b64encode(KEY.secret).decode()})
    )
    signers = [_known(KEY, "registry", "all"), _known(INSIDER, "ina", "self")]
    (tmp_path / "signers.json").write_text(json.dumps({"signers": signers}))
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(json.loads(keys.read_text()) | {"signers": signers}))
    return fed


def _known(key: SigningKey, principal: str, speaks_for: str) -> dict[str, str]:
    public = base64.b64encode(key.public).decode()
    return {"id": key.id, "principal": principal, "public_key": public, "speaks_for": speaks_for}


async def asked(house: House, key: str, body: Any, **headers: str) -> httpx.Response:
    return await house.client.post(
        "/v1/requests", json=body, headers={"Authorization": f"Bearer tw_{key}", **headers}
    )


async def said(house: House) -> list[dict[str, Any]]:
    return [one for one in await house.said() if "signature" in one]


@pytest.mark.parametrize(
    ("role", "body", "kind"),
    [
        ("approver", APPROVAL, ApprovalGiven),
        ("operator", ROLLBACK, RollbackRequested),
        ("data_scientist", BEST, BestRequested),
        ("operator", BEST, BestRequested),
    ],
    ids=["approval", "rollback", "best", "best of an operator"],
)
async def test_a_request_is_said_in_the_name_of_whoever_asked(
    house: House, tmp_path: Path, role: str, body: dict[str, Any], kind: Any
) -> None:
    answer = await asked(house, f"{role}@rotating", body)

    assert answer.status_code == 202, answer.text
    (told,) = await said(house)
    heard = codec.decode(json.dumps(told).encode())
    assert isinstance(heard.event, kind)
    assert heard.event.by == f"{role}@rotating"
    assert answer.json()["event_id"] == str(heard.id)
    assert "sequence" not in told
    assert Signers(tmp_path / "signers.json").verify(heard).speaks_for("anybody")
    waiting = await house.database.fetch("select s.topic from outbox join said s using (event_id)")
    assert "tidewheel.requests.v1" in [row["topic"] for row in waiting]
    story = await house.get(answer.json()["cascade_url"])
    assert [event["type"] for event in story["events"]] == [kind.TYPE]


@pytest.mark.parametrize(
    ("role", "body"),
    [
        ("viewer", APPROVAL),
        ("operator", APPROVAL),
        ("data_scientist", APPROVAL),
        ("approver", ROLLBACK),
        ("data_scientist", ROLLBACK),
        ("approver", BEST),
    ],
    ids=lambda value: value if isinstance(value, str) else value["kind"],
)
async def test_whoever_may_not_decide_may_not_ask(
    house: House, role: str, body: dict[str, Any]
) -> None:
    answer = await asked(house, f"{role}@rotating", body)

    assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")
    assert await said(house) == []


async def test_a_model_of_another_team_is_as_good_as_none(house: House) -> None:
    foreign = await asked(house, "operator@elsewhere", ROLLBACK)
    none = await asked(house, "operator@elsewhere", ROLLBACK | {"model": "none"})

    assert (foreign.status_code, none.status_code) == (404, 404)
    assert foreign.json()["detail"] == none.json()["detail"]
    assert await said(house) == []


@pytest.mark.parametrize(
    "change",
    [
        {"by": "ada"},
        {"kind": "promotion"},
        {"kind": None},
        {"reason": ""},
        {"reason": "x\0y"},
        {"reason": "x" * 3000},
        {"to": 0},
        {"to": 2**40},
        {"to": "3"},
        {"more": 1},
    ],
    ids=str,
)
async def test_a_request_of_another_form_is_refused(house: House, change: dict[str, Any]) -> None:
    answer = await asked(house, "operator@rotating", ROLLBACK | change)

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]
    assert await said(house) == []


@pytest.mark.parametrize(
    "change",
    [{"manifest": "A" * 64}, {"granted": "yes"}, {"rollout": "seven"}, {"version": None}],
    ids=str,
)
async def test_an_approval_says_exactly_what_it_is_for(
    house: House, change: dict[str, Any]
) -> None:
    answer = await asked(house, "approver@rotating", APPROVAL | change)

    assert answer.status_code == 422


async def test_a_request_repeated_with_its_key_is_said_once(house: House) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await asked(house, "operator@rotating", ROLLBACK, **headers)
    again = await asked(house, "operator@rotating", ROLLBACK, **headers)
    other = await asked(house, "operator@rotating", ROLLBACK | {"to": 4}, **headers)

    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status_code == 422
    assert len(await said(house)) == 1


async def test_without_a_signing_key_nothing_is_said(house: House, tmp_path: Path) -> None:
    (tmp_path / "signing.json").unlink()

    answer = await asked(house, "operator@rotating", ROLLBACK)

    assert (answer.status_code, answer.json()["code"]) == (409, "no_signing_key")
    assert await said(house) == []


async def test_a_changed_name_breaks_the_signature(house: House, tmp_path: Path) -> None:
    await asked(house, "operator@rotating", ROLLBACK)
    (told,) = await said(house)
    told["data"]["by"] = "ada"

    with pytest.raises(Refused) as refused:
        Signers(tmp_path / "signers.json").verify(codec.decode(json.dumps(told).encode()))
    assert refused.value.code == "signature_wrong"


async def test_what_is_wrong_is_pointed_at_in_the_body(house: House) -> None:
    answer = await asked(house, "approver@rotating", APPROVAL | {"rollout": "r", "manifest": "m"})

    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/rollout", "/manifest"]


# --- what others put on the topic -----------------------------------------------------------------


def on_the_topic(**changes: Any) -> Heard[Any]:
    """A request of another tool, as the kernel hands it to the registry."""
    asked = RollbackRequested(model=ModelName("pump"), by="olga", reason="it errs", to=3)
    heard: Heard[Any] = Heard(
        event=asked, id=uuid7(), source="//a-tool", time=clock.now(), correlation=uuid7()
    )
    return replace(heard, **changes)


async def kept(house: House, heard: Heard[Any]) -> list[str]:
    story = await house.get(f"/v1/cascades/{heard.correlation}")
    return [event["data"]["reason"] for event in story["events"]]


async def test_the_log_keeps_what_was_asked_and_no_forgery_of_it(house: House) -> None:
    heard = on_the_topic()
    genuine = sign(heard, KEY.secret, KEY.id)
    forged = replace(genuine, event=replace(heard.event, reason="a forgery"))

    await house.react(forged)
    await house.react(replace(forged, signature=None))
    await house.react(genuine)

    assert await kept(house, heard) == ["it errs"]


async def test_what_was_asked_long_ago_is_kept_when_it_is_heard_late(house: House) -> None:
    heard = on_the_topic(time=clock.now() - timedelta(days=3))

    await house.react(sign(heard, KEY.secret, KEY.id))

    assert await kept(house, heard) == ["it errs"]


def a_fact() -> Heard[Any]:
    skipped = TrainingSkipped(
        model=ModelName("pump"),
        dataset=DatasetName("pumps"),
        dataset_version=1,
        trigger="dataset",
        reason="nothing_new",
        detail="",
    )
    return on_the_topic(event=skipped, source="//tidewheel/trainer", sequence=1)


async def story_of(house: House, heard: Heard[Any]) -> list[tuple[str, str]]:
    story = await house.get(f"/v1/cascades/{heard.correlation}")
    return [(event["id"], event["type"]) for event in story["events"]]


async def test_an_offer_hides_no_fact_whatever_id_it_has(house: House) -> None:
    fact = a_fact()
    offered = DatasetOffered(dataset=DatasetName("pumps"), uri="lake:nothing.csv")
    offer = on_the_topic(event=offered, id=fact.id, key=uuid7())

    for heard in (offer, fact, offer, fact):
        await house.react(heard)

    assert await story_of(house, fact) == [(str(fact.id), TrainingSkipped.TYPE)]
    assert await story_of(house, offer) == [(str(fact.id), DatasetOffered.TYPE)]


async def test_a_request_hides_no_fact_either(house: House) -> None:
    fact = a_fact()
    asked_for = replace(on_the_topic().event, by="ina")
    request = on_the_topic(event=asked_for, id=fact.id, key=uuid7())
    signed = sign(request, INSIDER.secret, INSIDER.id)

    for heard in (signed, fact, signed, fact):
        await house.react(heard)

    assert await story_of(house, fact) == [(str(fact.id), TrainingSkipped.TYPE)]
    assert await story_of(house, request) == [(str(fact.id), RollbackRequested.TYPE)]


async def test_who_may_not_speak_for_somebody_puts_no_words_into_the_log(house: House) -> None:
    request = on_the_topic(key=uuid7())

    await house.react(sign(request, INSIDER.secret, INSIDER.id))

    sql = "select from event_log where correlation = $1"
    assert await house.database.fetch(sql, request.correlation) == []


async def test_what_the_registry_asked_is_in_the_log_once_when_it_comes_back(house: House) -> None:
    answer = await asked(house, "operator@rotating", ROLLBACK)
    (told,) = await said(house)
    heard = codec.decode(json.dumps(told).encode())

    await house.react(replace(heard, key=uuid7()))

    story = await house.get(answer.json()["cascade_url"])
    assert [event["id"] for event in story["events"]] == [str(heard.id)]
