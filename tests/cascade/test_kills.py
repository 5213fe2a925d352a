"""kill -9 between any two steps of any service: the cascade still ends once, and only once.

Inbox and outbox are one for all services and tested at every point every day
(`tests/contracts/test_bus_faults.py`); here each service dies at one point every day, and at all of
them nightly.
"""

from itertools import product

import pytest

from tests.support.house import House, a_spec, assert_told_once, some_rows
from tests.support.nights import by_day

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
ROW = {"a": 0.5, "b": -0.5}

HEARD_AND_SAID = {
    "registry": ("training.completed", "model.registered"),
    "trainer": ("dataset.published", "training.started"),
    "evaluator": ("model.registered", "evaluation.completed"),
    "deployer": ("evaluation.completed", "model.promoted"),
}
"""The event that each service is killed over, and what it says next."""

POINTS = ("before_commit", "after_commit_before_publish", "after_publish_before_offset")


def fault_of(point: str, heard: str, said: str) -> str:
    """The setting for a point: the relay knows what was said, the transaction what was heard."""
    kind = said if point == "after_publish_before_offset" else heard
    return f"{point}@tidewheel.{kind}.v1"


@by_day(
    "service, point",
    product(HEARD_AND_SAID, POINTS),
    ("registry", "before_commit"),
    ("trainer", "after_publish_before_offset"),
    ("evaluator", "after_commit_before_publish"),
    ("deployer", "before_commit"),
)
def test_one_outcome_whenever_a_service_is_killed(
    house: House, name: str, service: str, point: str
) -> None:
    house.define(a_spec(name, name))
    starts = house.arm(service, fault_of(point, *HEARD_AND_SAID[service]))

    house.publish(name, some_rows(200))

    house.rearmed(service, starts)
    house.answered_by(name, 1, ROW)
    house.heard(name, "model.promoted")
    for step in ("training.completed", "model.registered", "evaluation.completed"):
        assert len(house.events(name, step)) == 1, step
    assert len(house.events(name, "model.promoted")) == 1
    assert_told_once(house.events(name))


@by_day(
    "service, point",
    product(["serving", "drift_monitor"], POINTS),
    ("serving", "after_publish_before_offset"),
    ("drift_monitor", "after_commit_before_publish"),
)
def test_predictions_count_once_whenever_their_writer_or_reader_is_killed(
    house: House, name: str, service: str, point: str
) -> None:
    house.define(a_spec(name, name))
    house.publish(name, some_rows(200))
    house.answered_by(name, 1, ROW)
    said = "predictions.logged" if service == "serving" else "window.evaluated"
    starts = house.arm(service, fault_of(point, "predictions.logged", said))
    rows = [{"a": (i % 20) / 10 - 1, "b": 0.0} for i in range(60)]

    answered = house.ask("serving", "POST", f"/v1/models/{name}/predict", json={"rows": rows})
    house.rearmed(service, starts)
    if answered.status_code != 200:  # it died before it answered; nobody counts on those rows
        again = house.ask("serving", "POST", f"/v1/models/{name}/predict", json={"rows": rows})
        assert again.status_code == 200, again.text

    windows = house.heard(name, "window.evaluated", 3)
    assert [window["data"]["window"] for window in windows[:3]] == [1, 2, 3]
    assert [window["data"]["rows"] for window in windows[:3]] == [20, 20, 20]
    assert_told_once(house.events(name))


@by_day(
    "service, point",
    product(["trainer", "evaluator"], ["before_complete", "after_complete"]),
    ("trainer", "after_complete"),
    ("evaluator", "before_complete"),
)
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
