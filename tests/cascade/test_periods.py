"""What people say of a period is said once, and trainings leave it out once, whatever is killed."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection
from typing import Any

import pytest

from shared.artifacts import ArtifactStore
from shared.manifest import Manifest, read_manifest
from tests.support.deaths import dying
from tests.support.house import House, a_spec, assert_told_once, until

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
BEGIN = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
POINTS = ("before_commit", "after_commit_before_publish", "after_publish_before_offset")
ROW = {"a": 0.5, "b": -0.5}
SPOILED = range(40, 48)
"""Rows whose outcomes are not of this world."""


def timed_rows(count: int, spoiled: Collection[int] = SPOILED) -> str:
    """A CSV with a row every hour, in which y is 3a - 2b."""
    lines = ["at,a,b,y"]
    for i in range(count):
        a, b = (i * 7919 % 1000) / 500 - 1, (i * 104729 % 1000) / 500 - 1
        y = 3 * a - 2 * b + (50 if i in spoiled else 0)
        lines.append(f"{(BEGIN + i * HOUR).isoformat()},{a:.4f},{b:.4f},{y:.5f}")
    return "\n".join(lines) + "\n"


def define(house: House, name: str) -> None:
    triggers = {"drift": False, "quality": False}
    timed = {"time": "at", "split": "random"}
    house.define(a_spec(name, name, data=timed, triggers=triggers))
    house.publish(name, timed_rows(200))


def say(house: House, name: str, path: str, role: str, **body: Any) -> Any:
    """Say something of a period, patiently: each time under the same key."""
    headers = {
        "Authorization": f"Bearer {house.services.keys[role]}",
        "Idempotency-Key": uuid.uuid4().hex,
    }
    url = f"/v1/datasets/{name}/annotations{path}"

    def answered() -> Any:
        answer = house.ask("registry", "POST", url, json=body, headers=headers)
        return answer if answer.status_code < 500 else None

    return until(answered, what=f"the registry to answer {path or 'an annotation'}")


def annotate(house: House, name: str, rows: range, tag: str) -> dict[str, Any]:
    period = {
        "starts_at": (BEGIN + rows.start * HOUR).isoformat(),
        "ends_at": (BEGIN + rows.stop * HOUR).isoformat(),
    }
    answer = say(house, name, "", "data_scientist", tag=tag, reason="a strike", **period)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def states(house: House, name: str) -> dict[str, list[str]]:
    """What became of each annotation, as the log tells it."""
    found: dict[str, list[str]] = {}
    for event in house.events(name, "dataset.annotated"):
        found.setdefault(event["data"]["annotation"], []).append(event["data"]["state"])
    return found


def test_a_second_person_approves_once_though_the_registry_dies_of_it(
    house: House, name: str
) -> None:
    define(house, name)
    waiting = annotate(house, name, range(100, 120), "transient")
    path = f"/{waiting['annotation']}/approve"

    with dying(house, "registry", "after_commit_before_publish", ["dataset.annotated"]):
        own = say(house, name, path, "data_scientist", reason="sure")
        other = say(house, name, path, "approver", reason="I was there")
        until(lambda: len(house.events(name, "dataset.annotated")) > 1, what="the approval")

    assert waiting["state"] == "proposed"
    assert (own.status_code, other.status_code) == (403, 200)
    assert states(house, name) == {waiting["annotation"]: ["proposed", "active"]}
    assert_told_once(house.events(name))


def nth(point: str) -> list[str]:
    """The annotation, the approval after another annotation, the end: counted in each life."""
    again = 0 if point == "after_commit_before_publish" else 1
    return ["dataset.annotated", *(f"dataset.annotated:{n + again}" for n in (2, 1))]


@pytest.mark.nightly
@pytest.mark.parametrize("point", POINTS)
def test_periods_are_annotated_approved_and_lifted_once_whenever_the_registry_dies(
    house: House, name: str, point: str
) -> None:
    define(house, name)

    with dying(house, "registry", point, nth(point)):
        small = annotate(house, name, SPOILED, "corrupt")
        large = annotate(house, name, range(100, 120), "transient")
        approved = say(house, name, f"/{large['annotation']}/approve", "approver", reason="so")
        lifted = say(house, name, f"/{large['annotation']}/lift", "approver", reason="no")
        until(lambda: len(house.events(name, "dataset.annotated")) > 3, what="all to be told")

    assert (approved.status_code, lifted.status_code) == (200, 200)
    assert states(house, name) == {
        small["annotation"]: ["active"],
        large["annotation"]: ["proposed", "active", "lifted"],
    }
    assert_told_once(house.events(name))


@pytest.mark.nightly
@pytest.mark.parametrize("point", ["before_complete", "after_complete"])
def test_a_training_that_leaves_rows_out_makes_one_version_that_says_so_though_it_is_killed(
    house: House, name: str, point: str
) -> None:
    define(house, name)
    # What has learned from the spoiled rows may well be rejected.
    house.heard(name, "evaluation.completed")
    starts = house.arm("trainer", point)

    # What is annotated is as good as changed: another training of the same version.
    told = annotate(house, name, SPOILED, "corrupt")
    house.rearmed("trainer", starts)
    house.heard(name, "model.registered", 2)

    house.answered_by(name, 2, ROW)
    assert len(house.events(name, "training.completed")) == 2
    first, second = (manifest(house, event) for event in house.events(name, "model.registered"))
    assert first.left_out is None or first.left_out.rows == 0
    assert second.left_out is not None
    assert second.left_out.annotations == (told["annotation"],)
    assert 0 < second.left_out.rows <= len(SPOILED)
    assert first.exclusions_digest != second.exclusions_digest
    assert_told_once(house.events(name))


def manifest(house: House, registered: dict[str, Any]) -> Manifest:
    store = ArtifactStore(house.services.artifacts)
    return read_manifest(store.get(registered["data"]["manifest"]))
