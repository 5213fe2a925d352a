"""kill -9 between any two steps of any service: the cascade still ends once, and only once."""

import pytest

from tests.support.house import House, a_spec, assert_told_once, some_rows

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
ROW = {"a": 0.5, "b": -0.5}

STEPS = {
    "registry": "tidewheel.training.completed.v1",
    "trainer": "tidewheel.dataset.published.v1",
    "evaluator": "tidewheel.model.registered.v1",
    "deployer": "tidewheel.evaluation.completed.v1",
    "drift_monitor": "tidewheel.model.registered.v1",
}
"""The event that each service is killed over."""

POINTS = ("before_commit", "after_commit_before_publish", "after_publish_before_offset")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("service", STEPS)
def test_one_outcome_whenever_a_service_is_killed(
    house: House, name: str, service: str, point: str
) -> None:
    house.define(a_spec(name, name))
    starts = house.arm(service, f"{point}@{STEPS[service]}")

    house.publish(name, some_rows(200))

    house.rearmed(service, starts)
    house.answered_by(name, 1, ROW)
    house.heard(name, "model.promoted")
    for step in ("training.completed", "model.registered", "evaluation.completed"):
        assert len(house.events(name, step)) == 1, step
    assert len(house.events(name, "model.promoted")) == 1
    assert_told_once(house.events(name))


@pytest.mark.parametrize("point", POINTS)
def test_a_prediction_is_logged_once_whenever_serving_is_killed(
    house: House, name: str, point: str
) -> None:
    house.define(a_spec(name, name))
    house.publish(name, some_rows(200))
    house.answered_by(name, 1, ROW)
    starts = house.arm("serving", f"{point}@tidewheel.predictions.logged.v1")
    house.answered_by(name, 1, ROW)

    house.rearmed("serving", starts)
    rows = [{"a": (i % 20) / 10 - 1, "b": 0.0} for i in range(40)]
    answered = house.ask("serving", "POST", f"/v1/models/{name}/predict", json={"rows": rows})

    assert answered.status_code == 200, answered.text
    windows = house.heard(name, "window.evaluated", 2)
    assert [window["data"]["rows"] for window in windows[:2]] == [20, 20]


@pytest.mark.parametrize("point", ["before_complete", "after_complete"])
@pytest.mark.parametrize("service", ["trainer", "evaluator"])
def test_a_worker_killed_around_its_completion_completes_once(
    house: House, name: str, service: str, point: str
) -> None:
    house.define(a_spec(name, name))
    starts = house.arm(service, point)

    house.publish(name, some_rows(200))

    house.rearmed(service, starts)
    house.answered_by(name, 1, ROW)
    assert len(house.events(name, "training.completed")) == 1
    assert len(house.events(name, "evaluation.completed")) == 1
    assert_told_once(house.events(name))
