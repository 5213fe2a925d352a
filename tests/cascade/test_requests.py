"""A request said by the registry reaches the deployer and is done; a forged one is told refused."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from shared import clock
from shared.access import Role
from shared.bus import publish
from shared.events import Event, Heard, ModelName, RollbackRequested
from shared.ids import uuid7
from shared.topics import REQUESTS
from tests.support.house import House, a_spec, some_rows

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

ROW = {"a": 0.1, "b": 0.2}


def put(house: House, kafka: str, heard: Heard[Event]) -> None:
    asyncio.run(publish(kafka, house.services.topic_prefix, REQUESTS, [heard]))


def test_a_rollback_asked_for_on_the_bus_is_done_once_and_a_forged_one_never(
    house: House, kafka: str, name: str
) -> None:
    house.publish(name, some_rows(200))
    house.define(a_spec(name, name))
    house.answered_by(name, 1, ROW)
    house.publish(name, some_rows(300))
    house.answered_by(name, 2, ROW)
    words = RollbackRequested(model=ModelName(name), by="local-operator", reason="it errs")
    forged: Heard[Event] = Heard(
        event=words,
        id=uuid7(),
        source="//tidewheel/registry",
        time=clock.now(),
        correlation=uuid4(),
    )

    put(house, kafka, forged)
    put(
        house, kafka, replace(forged, id=uuid7(), signature="ed25519:registry-1:" + "A" * 86 + "==")
    )
    refused = [one["data"]["code"] for one in house.heard(name, "request.refused", 2)]
    assert refused == ["signature_missing", "signer_unknown"]
    assert house.events(name, "deployment.rolled_back") == []

    operator = {"Authorization": f"Bearer {house.services.keys[Role.OPERATOR.value]}"}
    asked = house.ask(
        "registry",
        "POST",
        "/v1/requests",
        json={"kind": "rollback", "model": name, "reason": "it errs"},
        headers=operator,
    )
    assert asked.status_code == 202, asked.text
    (rolled,) = house.heard(name, "deployment.rolled_back")
    assert (rolled["data"]["by"], rolled["data"]["to_version"]) == ("local-operator", 1)
    assert rolled["correlation"] == asked.json()["cascade"]
    house.answered_by(name, 1, ROW)
    assert len(house.events(name, "deployment.rolled_back")) == 1
