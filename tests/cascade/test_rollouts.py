"""Rollouts as people live through them, each with kill -9 of the deployer between its steps."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from shared import clock
from tests.support.deaths import dying
from tests.support.house import House, a_spec, assert_told_once, some_rows, until
from tests.support.nights import by_day

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
POINTS = ("before_commit", "after_commit_before_publish", "after_publish_before_offset")
ROW = {"a": 0.5, "b": -0.5}
FAR = 20.0
"""A shift of the outcomes that makes answers leave the bounds of (-10, 10)."""


def points(everyday: str) -> pytest.MarkDecorator:
    """Every point of death nightly, one of them every day; each point has its tests every day."""
    return by_day("point", POINTS, everyday)


def first_champion(house: House, name: str, **spec: Any) -> None:
    """Version 1 of a model answers; what comes next has somebody to be compared with."""
    at_first = {**spec, "rollout": {"strategy": "direct", "probation": "0"}}
    house.define(quiet_spec(name, **at_first))
    house.publish(name, some_rows(200))
    house.answered_by(name, 1, ROW)
    if spec:
        house.define(quiet_spec(name, **spec))


def quiet_spec(name: str, **changes: Any) -> dict[str, Any]:
    """A model that only published data trains: traffic of these tests is no drift to act on."""
    triggers = {"drift": False, "quality": False}
    return a_spec(name, name, **{"triggers": triggers, **changes})


def waiting_rollout(house: House, name: str, version: int) -> dict[str, Any]:
    def waits() -> Any:
        state = house.get("deployer", f"/v1/models/{name}/deployment") or {}
        rollout = state.get("rollout") or {}
        return rollout if rollout.get("version") == version else None

    return dict(until(waits, what=f"a rollout of version {version} of {name}"))


def decide(house: House, rollout: str, word: str, role: str) -> Any:
    """Approve or deny, patiently: a door that is shut for a moment is asked again."""
    headers = {"Authorization": f"Bearer {house.services.keys[role]}"}

    def answered() -> Any:
        answer = house.ask(
            "deployer",
            "POST",
            f"/v1/rollouts/{rollout}/{word}",
            json={"comment": "seen"},
            headers=headers,
        )
        return answer if answer.status_code < 500 else None

    return until(answered, what=f"the deployer to hear {word}")


def traffic_until(house: House, name: str, seen: Callable[[], Any], what: str) -> Any:
    """Requests of many entities, until something is seen."""

    def asked_and_seen() -> Any:
        rows = [{"a": (i % 20) / 10 - 1, "b": (i * 7 % 20) / 10 - 1} for i in range(40)]
        house.ask("serving", "POST", f"/v1/models/{name}/predict", json={"rows": rows})
        return seen()

    return until(asked_and_seen, what=what)


def told(house: House, name: str, kind: str) -> Callable[[], Any]:
    return lambda: house.events(name, kind) or None


@points("before_commit")
def test_four_eyes_promote_once_however_often_the_deployer_dies(
    house: House, name: str, point: str
) -> None:
    house.define(a_spec(name, name, rollout={"strategy": "direct", "approval": "four_eyes"}))

    with dying(house, "deployer", point, ["approval.requested", "approval.granted"]):
        house.publish(name, some_rows(200))
        rollout = waiting_rollout(house, name, 1)["id"]
        own = decide(house, rollout, "approve", "admin")
        others = decide(house, rollout, "approve", "approver")
        house.heard(name, "model.promoted")

    assert own.status_code == 403
    assert own.json()["code"] == "self_approval"
    assert others.status_code in (200, 409), others.text
    granted = house.events(name, "approval.granted")
    assert [event["data"]["by"] for event in granted] == ["local-approver"]
    promoted = house.events(name, "model.promoted")
    assert [event["data"]["approved_by"] for event in promoted] == [["local-approver"]]
    house.answered_by(name, 1, ROW)
    assert_told_once(house.events(name))


@points("after_commit_before_publish")
def test_an_approval_that_nobody_gives_expires_once(house: House, name: str, point: str) -> None:
    approval = {"needed": 1, "expires": "2s"}
    house.define(a_spec(name, name, rollout={"strategy": "direct", "approval": approval}))

    with dying(house, "deployer", point, ["approval.requested", "approval.expired"]):
        house.publish(name, some_rows(200))
        house.heard(name, "rollout.aborted")

    rollout = house.events(name, "rollout.aborted")[0]["data"]
    late = decide(house, rollout["rollout"], "approve", "approver")
    assert (rollout["version"], rollout["reason"]) == (1, "expired")
    assert late.status_code == 409
    assert len(house.events(name, "approval.expired")) == 1
    assert not house.events(name, "model.promoted")
    assert_told_once(house.events(name))


@points("after_publish_before_offset")
def test_nothing_is_promoted_before_its_moment(house: House, name: str, point: str) -> None:
    opens_at = clock.now() + dt.timedelta(seconds=12)
    house.define(
        a_spec(name, name, rollout={"strategy": "direct", "not_before": opens_at.isoformat()})
    )

    with dying(house, "deployer", point, ["window.awaited", "model.promoted"]):
        house.publish(name, some_rows(200))
        promoted = house.heard(name, "model.promoted")[0]

    assert dt.datetime.fromisoformat(promoted["time"]) >= opens_at
    assert len(house.events(name, "window.awaited")) == 1
    assert len(house.events(name, "model.promoted")) == 1
    house.answered_by(name, 1, ROW)
    assert_told_once(house.events(name))


@points("before_commit")
def test_a_shadow_is_seen_by_nobody_and_then_promoted(house: House, name: str, point: str) -> None:
    shadow = {"share": 1.0, "run_for": "0", "minimum_requests": 30}
    first_champion(house, name, rollout={"strategy": "shadow", "shadow": shadow})

    with dying(house, "deployer", point, ["rollout.advanced", "model.promoted"]):
        house.publish(name, some_rows(300))
        house.heard(name, "rollout.advanced")
        seen = house.predict(name, ROW)
        traffic_until(
            house,
            name,
            lambda: len(house.events(name, "model.promoted")) > 1 or None,
            "the shadow to be promoted",
        )

    assert seen is None or seen["version"] == 1
    advanced = [event["data"] for event in house.events(name, "rollout.advanced")]
    assert [(step["stage"], step["version"]) for step in advanced] == [("shadow", 2)]
    house.answered_by(name, 2, ROW)
    assert_told_once(house.events(name))


@points("after_commit_before_publish")
def test_a_canary_that_errs_is_aborted_once(house: House, name: str, point: str) -> None:
    first_champion(
        house,
        name,
        serving={"bounds": [-10, 10]},
        rollout={"strategy": "canary", "steps": [0.5], "step_for": "0", "minimum_requests": 10},
    )

    with dying(house, "deployer", point, ["rollout.advanced", "rollout.aborted"]):
        house.publish(name, some_rows(300, shift=FAR))
        house.heard(name, "rollout.advanced")
        traffic_until(house, name, told(house, name, "rollout.aborted"), "the canary to be aborted")

    aborted = house.events(name, "rollout.aborted")
    assert [event["data"]["version"] for event in aborted] == [2]
    # Serving stops an arm that leaves its bounds by itself; the counts may be quicker.
    assert aborted[0]["data"]["reason"] in ("refused_by_serving", "worse")
    assert len(house.events(name, "model.promoted")) == 1
    house.answered_by(name, 1, ROW)
    assert_told_once(house.events(name))


@points("after_publish_before_offset")
def test_a_young_champion_whose_quality_falls_is_rolled_back_once(
    house: House, name: str, point: str
) -> None:
    first_champion(house, name, rollout={"strategy": "direct", "probation": "1h"})
    house.publish(name, some_rows(300, shift=FAR))
    house.answered_by(name, 2, ROW)

    with dying(house, "deployer", point, ["deployment.rolled_back"]):
        labelled_traffic(house, name, told(house, name, "deployment.rolled_back"))

    rolled = [event["data"] for event in house.events(name, "deployment.rolled_back")]
    assert [(event["from_version"], event["to_version"]) for event in rolled] == [(2, 1)]
    house.answered_by(name, 1, ROW)
    assert_told_once(house.events(name))


def labelled_traffic(house: House, name: str, seen: Callable[[], Any]) -> None:
    """Requests whose outcomes are those of the first version's world."""

    def fed_and_seen() -> Any:
        rows = [{"a": (i % 20) / 10 - 1, "b": (i * 7 % 20) / 10 - 1} for i in range(40)]
        path = f"/v1/models/{name}/predict"
        answer = house.ask("serving", "POST", path, json={"rows": rows})
        if answer.status_code == 200:
            observations = [
                {"prediction_id": p["prediction_id"], "value": 3 * row["a"] - 2 * row["b"]}
                for p, row in zip(answer.json()["predictions"], rows, strict=True)
            ]
            body = {"model": name, "observations": observations}
            house.ask("serving", "POST", "/v1/feedback", json=body)
        return seen()

    until(fed_and_seen, what="quality to be seen falling")


@points("before_commit")
def test_a_newer_version_takes_the_place_of_a_rollout(house: House, name: str, point: str) -> None:
    first_champion(
        house,
        name,
        rollout={"strategy": "canary", "steps": [0.5], "step_for": "0", "minimum_requests": 10},
    )
    house.publish(name, some_rows(300))
    waiting_rollout(house, name, 2)

    with dying(house, "deployer", point, ["rollout.superseded", "model.promoted"]):
        house.publish(name, some_rows(400))
        house.heard(name, "rollout.superseded")
        traffic_until(
            house,
            name,
            lambda: len(house.events(name, "model.promoted")) > 1 or None,
            "the newer version to be promoted",
        )

    superseded = [event["data"] for event in house.events(name, "rollout.superseded")]
    assert [(event["version"], event["by_version"]) for event in superseded] == [(2, 3)]
    versions = [event["data"]["version"] for event in house.events(name, "model.promoted")]
    assert versions == [1, 3]
    house.answered_by(name, 3, ROW)
    assert_told_once(house.events(name))


@points("after_commit_before_publish")
def test_answers_step_down_and_up_again_while_the_deployer_is_dead(
    house: House, name: str, point: str
) -> None:
    first_champion(
        house,
        name,
        serving={"bounds": [-10, 10]},
        rollout={"strategy": "direct", "probation": "0"},
    )
    with dying(house, "deployer", point, ["model.promoted"]):
        house.publish(name, some_rows(300, start=50))
        house.heard(name, "model.promoted", 2)
    house.answered_by(name, 2, ROW)
    house.services.stop("deployer")
    try:
        far = {"a": 40.0, "b": -40.0}
        lower = until(lambda: house.predict(name, far), what="an answer to an extreme row")
        again = house.answered_by(name, 2, ROW)
    finally:
        house.services.start_again("deployer")

    assert lower["rung"] == "baseline"
    assert again["rung"] == "champion"
    assert_told_once(house.events(name))


def test_a_champion_is_rolled_back_while_everybody_else_is_dead(house: House, name: str) -> None:
    first_champion(house, name, rollout={"strategy": "direct"})
    house.publish(name, some_rows(300))
    house.answered_by(name, 2, ROW)
    others = ("registry", "trainer", "evaluator", "drift_monitor")
    house.services.stop(*others)

    try:
        path = f"/v1/models/{name}/rollback"
        answer = house.ask("deployer", "POST", path, json={"reason": "worse than before"})
        house.answered_by(name, 1, ROW)
    finally:
        house.services.start_again(*others)

    assert answer.status_code == 200, answer.text
    rolled = house.heard(name, "deployment.rolled_back")[0]["data"]
    assert (rolled["by"], rolled["to_version"]) == ("local-admin", 1)
    assert_told_once(house.events(name))
