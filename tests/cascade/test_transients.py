"""What is done while a disturbance may pass: the rule answers, the champion adapts, or neither."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.paths import CHECKOUT
from shared import clock
from shared.topics import SERVICES
from tests.support.deaths import dying
from tests.support.house import House, a_spec, assert_told_once, some_rows, until
from tests.support.waiting import NeverHappened

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
ROW = {"a": 0.5, "b": -0.5}
KINDS = {
    "before_commit": ["fallback.advised", "fallback.ended"],
    "after_commit_before_publish": ["fallback.advised", "fallback.ended"],
    "after_publish_before_offset": ["deployment.desired", "deployment.desired:2"],
}
"""What the deployer dies of at each point: what it hears, or what it says because of it."""


ONLY_IF_ASKED = {"dataset": "material_change", "minimum_rows": 10_000}
"""After the first version, what is published is learned from only when the monitor asks for it."""


def world(row: dict[str, float]) -> float:
    """The outcome as the champion has learned it."""
    return 3 * row["a"] - 2 * row["b"]


def nowhere(_: dict[str, float]) -> float:
    """The outcome in a disturbance, nearly what the rule says: the median of `some_rows(200)`.

    Were it further off, twenty rows could not show surely that the rule is better.
    """
    return 0.09


def labelled_traffic(
    house: House, name: str, outcome: Callable[[dict[str, float]], float]
) -> list[dict[str, Any]]:
    """Forty answers, and what came of them."""
    rows = [{"a": i % 20 / 10 - 1, "b": i * 7 % 20 / 10 - 1} for i in range(40)]
    answer = house.ask("serving", "POST", f"/v1/models/{name}/predict", json={"rows": rows})
    if answer.status_code != 200:
        return []
    found: list[dict[str, Any]] = answer.json()["predictions"]
    observations = [
        {"prediction_id": one["prediction_id"], "value": outcome(row)}
        for one, row in zip(found, rows, strict=True)
    ]
    body = {"model": name, "observations": observations}
    house.ask("serving", "POST", "/v1/feedback", json=body)
    return found


def traffic_until(
    house: House,
    name: str,
    outcome: Callable[[dict[str, float]], float],
    seen: Callable[[list[dict[str, Any]]], object],
    what: str,
) -> list[dict[str, Any]]:
    """Traffic of one world until something is seen of it; all its answers."""
    every: list[dict[str, Any]] = []

    def asked_and_seen() -> object:
        found = labelled_traffic(house, name, outcome)
        every.extend(found)
        if found:
            outcome_of(house, found[-1]["prediction_id"])
        return seen(found)

    try:
        until(asked_and_seen, what=what)
    except NeverHappened as error:
        told = [f"{e['time']} {e['type']} {e['data']}"[:300] for e in house.events(name)]
        raise AssertionError("\n".join([str(error), *told[-60:]])) from None
    return every


def rungs(found: list[dict[str, Any]]) -> set[str]:
    return {one["rung"] for one in found}


def explained(house: House, prediction: str, folder: Path) -> dict[str, Any]:
    """What `tidewheel explain` tells of an answer."""
    context = folder / ".tidewheel" / "context.json"
    context.parent.mkdir(exist_ok=True)
    urls = {name: house.services.url(name) for name in SERVICES}
    context.write_text(json.dumps({"services": urls, "key": house.services.key}))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TIDEWHEEL_")}  # noqa: TID251
    path = os.pathsep.join((str(CHECKOUT / "client"), str(CHECKOUT)))
    command = [sys.executable, "-m", "tidewheel", "explain", prediction, "--json"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "PYTHONPATH": path},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout))


def fall_back_and_return(house: House, name: str, point: str, folder: Path) -> None:
    triggers = {"drift": False, "quality": False}
    spec = {"triggers": triggers, "rollout": {"strategy": "direct", "probation": "0"}}
    house.define(a_spec(name, name, monitor={"transient": "fallback"}, **spec))
    house.publish(name, some_rows(200))
    house.answered_by(name, 1, ROW)
    before = labelled_traffic(house, name, world)

    with dying(house, "deployer", point, KINDS[point]):
        fallen = traffic_until(
            house, name, nowhere, lambda found: rungs(found) == {"baseline"}, "the rule to answer"
        )
        during = [one for _ in range(3) for one in labelled_traffic(house, name, nowhere)]
        traffic_until(
            house, name, world, lambda found: rungs(found) == {"champion"}, "the champion again"
        )
        after = labelled_traffic(house, name, world)

    assert rungs(before) == rungs(after) == {"champion"}
    assert rungs(during) == {"baseline"}
    assert {one["version"] for one in during} == {None}
    (advised,) = house.events(name, "fallback.advised")
    (ended,) = house.events(name, "fallback.ended")
    assert advised["data"]["version"] == ended["data"]["version"] == 1
    assert not house.events(name, "retraining.requested")
    assert_told_once(house.events(name))
    for one in (before[0], fallen[-1], during[0], after[0]):
        assert answer_of(house, one["prediction_id"])["rung"] == one["rung"]
    card = explained(house, during[0]["prediction_id"], folder)
    assert (card["answer"]["rung"], card["answer"]["version"]) == ("baseline", None)


def answer_of(house: House, prediction: str) -> Any:
    """The row of an answer as it was logged, once the monitor has it."""
    path = f"/v1/predictions/{prediction}"
    return until(lambda: house.get("drift_monitor", path), what=f"the log to have {prediction}")


def outcome_of(house: House, prediction: str) -> Any:
    """What came of an answer, once the monitor has joined it."""

    def joined() -> Any:
        return answer_of(house, prediction).get("outcome")

    return until(joined, what=f"the outcome of {prediction}")


def test_the_rule_answers_while_a_disturbance_lasts_and_then_the_champion_again(
    house: House, name: str, tmp_path: Path
) -> None:
    fall_back_and_return(house, name, "before_commit", tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("point", [point for point in KINDS if point != "before_commit"])
def test_the_rule_answers_while_a_disturbance_lasts_wherever_the_deployer_dies(
    house: House, name: str, point: str, tmp_path: Path
) -> None:
    fall_back_and_return(house, name, point, tmp_path)


def recent_rows(count: int) -> str:
    """A CSV with a row every minute, the last one of now."""
    begin = clock.now() - count * dt.timedelta(minutes=1)
    lines = some_rows(count).splitlines()
    moments = ["at", *((begin + i * dt.timedelta(minutes=1)).isoformat() for i in range(count))]
    return "\n".join(f"{at},{line}" for at, line in zip(moments, lines, strict=True)) + "\n"


def told(house: House, name: str, kind: str) -> Callable[[object], object]:
    return lambda _: house.events(name, kind)


@pytest.mark.nightly
def test_of_what_people_call_transient_one_who_adapts_learns_and_one_who_ignores_does_not(
    house: House, name: str
) -> None:
    adapting, ignoring = f"{name}-adapts", f"{name}-ignores"
    for model, transient in ((adapting, "adapt"), (ignoring, "ignore")):
        data = {"dataset": name, "time": "at", "split": "random"}
        monitor = {"transient": transient, "least_labels": 1}
        house.define(a_spec(model, name, data=data, monitor=monitor, triggers=ONLY_IF_ASKED))
    house.publish(name, recent_rows(200))
    for model in (adapting, ignoring):
        house.answered_by(model, 1, ROW)
    house.publish(name, recent_rows(250))
    now = clock.now()
    body = {
        "tag": "transient",
        "starts_at": (now - dt.timedelta(minutes=8)).isoformat(),
        "ends_at": (now + dt.timedelta(hours=12)).isoformat(),
        "reason": "the heat",
    }
    said = house.ask("registry", "POST", f"/v1/datasets/{name}/annotations", json=body)
    house.heard(name, "dataset.annotated")

    for model, kind in ((adapting, "retraining.requested"), (ignoring, "retraining.withheld")):
        traffic_until(house, model, nowhere, told(house, model, kind), kind)

    assert (said.status_code, said.json()["state"]) == (201, "active"), said.text
    reasons = {event["data"]["reason"] for event in house.events(ignoring, "retraining.withheld")}
    assert "transient" in reasons
    assert not house.events(ignoring, "retraining.requested")
    trained = house.heard(adapting, "training.started", 2)
    assert [event["data"]["trigger"] for event in trained[:2]] == ["dataset", "quality"]
    for model in (adapting, ignoring):
        assert not house.events(model, "fallback.advised")
