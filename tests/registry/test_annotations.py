"""What people say of periods of a dataset, and when a second person must agree."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.registry.domain.annotations import (
    Annotation,
    Covered,
    approved,
    column_for,
    declined,
    lifted,
    written,
)
from shared.errors import Conflict, InvalidInput, NotPermitted
from shared.events import AnnotationProposed, DatasetName, Heard, ModelName
from shared.ids import uuid7
from tests.registry.builders import a_spec
from tests.registry.conftest import House

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROWS = 400
ADA = "Bearer tw_data_scientist@rotating"
BOB = "Bearer tw_approver@rotating"


def a_draft(**changes: Any) -> Annotation:
    given: dict[str, Any] = {
        "annotation": uuid4(),
        "dataset": DatasetName("flow"),
        "state": "active",
        "tag": "transient",
        "column": "at",
        "starts_at": BEGIN,
        "ends_at": BEGIN + 10 * HOUR,
        "models": (),
        "share": 0.0,
        "author": "ada",
        "by": "ada",
        "reason": "a strike",
        "said": "a strike",
    }
    return Annotation(**given | changes)


def covered(inside: int, together: int | None = None) -> Covered:
    return Covered(rows=100, inside=inside, together=together or inside, last=BEGIN + 100 * HOUR)


NOW = BEGIN + 100 * HOUR


def test_a_few_rows_are_left_out_at_once() -> None:
    assert written(a_draft(), covered(5), NOW).state == "active"


def test_more_than_a_twentieth_waits_for_a_second_person() -> None:
    found = written(a_draft(), covered(6), NOW)

    assert (found.state, found.share) == ("proposed", 0.06)


def test_many_small_periods_are_counted_together() -> None:
    assert written(a_draft(), covered(3, together=7), NOW).state == "proposed"


def test_what_leaves_nothing_out_needs_nobody() -> None:
    assert written(a_draft(tag="normal"), covered(50), NOW).state == "active"


def test_a_period_without_rows_or_in_the_future_is_refused() -> None:
    with pytest.raises(InvalidInput) as nothing:
        written(a_draft(), covered(0), NOW)
    with pytest.raises(InvalidInput) as later:
        written(a_draft(ends_at=NOW + timedelta(days=30)), covered(3), NOW)

    assert nothing.value.faults[0].pointer == "/starts_at"
    assert later.value.faults[0].pointer == "/ends_at"


def test_the_author_is_not_the_second_pair_of_eyes() -> None:
    proposed = a_draft(state="proposed")

    with pytest.raises(NotPermitted):
        approved(proposed, "ada", "it was so")
    assert approved(proposed, "bob", "I remember it").approved_by == "bob"


def test_an_author_may_take_a_proposal_back() -> None:
    assert declined(a_draft(state="proposed"), "ada", "wrong week").state == "declined"


@pytest.mark.parametrize(
    ("state", "step"), [("active", approved), ("lifted", lifted), ("active", declined)]
)
def test_only_what_waits_is_decided_and_only_what_is_active_is_lifted(
    state: Any, step: Any
) -> None:
    with pytest.raises(Conflict):
        step(a_draft(state=state), "bob", "so")


def test_the_column_is_the_one_that_models_call_the_moment() -> None:
    kinds = {"at": "time", "flow": "number", "site": "text"}

    assert column_for(None, kinds, ["at"], "flow") == "at"
    assert column_for("flow", kinds, [], "flow") == "flow"
    for asked, times in (("site", ["at"]), ("nowhere", ["at"]), (None, [])):
        with pytest.raises(InvalidInput):
            column_for(asked, kinds, times, "flow")


# --- the door -------------------------------------------------------------------------------------


def rows() -> str:
    lines = ["at,a,b,y"]
    for i in range(ROWS):
        a, b = i * 7 % 20, i * 3 % 10
        lines.append(f"{(BEGIN + i * HOUR).isoformat()},{a},{b},{3 * a - 2 * b}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def wanted() -> dict[str, Any]:
    return {
        "tag": "transient",
        "starts_at": BEGIN.isoformat(),
        "ends_at": (BEGIN + 10 * HOUR).isoformat(),
        "reason": "a strike",
    }


async def timed(house: House) -> House:
    spec = a_spec(data={"dataset": "pumps", "target": "y", "time": "at"})
    assert (await house.define(spec)).status_code == 201
    assert (await house.publish("pumps", rows())).status_code == 201
    return house


async def post(
    house: House, body: Mapping[str, Any], path: str = "", key: str = ADA
) -> httpx.Response:
    url = f"/v1/datasets/pumps/annotations{path}"
    return await house.client.post(url, json=body, headers={"Authorization": key})


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_an_annotation_is_said_listed_and_lifted(
    house: House, wanted: dict[str, Any]
) -> None:
    await timed(house)

    made = await post(house, wanted)
    again = await post(house, wanted)

    assert made.status_code == 201, made.text
    told = made.json()
    assert (told["state"], told["share"], told["column"]) == ("active", 0.025, "at")
    assert (again.status_code, again.json()["code"]) == (409, "annotated_already")
    ended = await post(house, {"reason": "it was none"}, f"/{told['annotation']}/lift")
    assert (ended.status_code, ended.json()["state"]) == (200, "lifted")
    (item,) = (await house.get("/v1/datasets/pumps/annotations"))["items"]
    assert (item["state"], item["author"]) == ("lifted", "data_scientist@rotating")
    said = await house.said("dataset.annotated")
    assert [one["data"]["state"] for one in said] == ["active", "lifted"]


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_above_a_twentieth_of_the_rows_somebody_else_must_agree(
    house: House, wanted: dict[str, Any]
) -> None:
    await timed(house)
    made = await post(house, {**wanted, "ends_at": (BEGIN + 40 * HOUR).isoformat()})
    path = f"/{made.json()['annotation']}/approve"

    own = await post(house, {"reason": "sure"}, path)
    other = await post(house, {"reason": "I was there"}, path, BOB)

    assert made.json()["state"] == "proposed"
    assert (own.status_code, own.json()["code"]) == (403, "own_annotation")
    assert (other.status_code, other.json()["state"]) == (200, "active")
    assert other.json()["by"] == "approver@rotating"


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_monitor_proposes_is_taken_up_by_its_id(house: House) -> None:
    await timed(house)
    proposed = AnnotationProposed(
        model=ModelName("pump"),
        version=1,
        dataset=DatasetName("pumps"),
        starts_at=BEGIN,
        ends_at=BEGIN + 8 * HOUR,
        tag="corrupt",
        windows=(3, 4),
        evidence=(uuid7(),),
        detail="only missing values showed it",
    )
    chosen = uuid7()
    await house.react(
        Heard(event=proposed, id=chosen, source="//t", time=BEGIN, correlation=chosen)
    )

    (before,) = (await house.get("/v1/datasets/pumps/annotations"))["items"]
    made = await post(house, {"proposal": str(chosen), "reason": "the sensor was broken"})

    assert (before["state"], before["proposal"]) == ("suggested", str(chosen))
    assert made.status_code == 201, made.text
    assert (made.json()["tag"], made.json()["evidence"][0]) == ("corrupt", str(chosen))
    after = (await house.get("/v1/datasets/pumps/annotations"))["items"]
    assert [one["state"] for one in after] == ["active"]


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_whatever_is_wrong_is_answered_with_its_place(
    house: House, wanted: dict[str, Any]
) -> None:
    await timed(house)
    cases = {
        "/ends_at": {"ends_at": wanted["starts_at"]},
        "/column": {"column": "nowhere"},
        "/tag": {"tag": "odd"},
        "/starts_at": {"starts_at": "1990-01-01T00:00:00Z", "ends_at": "1990-01-02T00:00:00Z"},
        "/models/0": {"models": ["another"]},
        "/proposal": {"proposal": str(uuid4())},
        "/reason": {"reason": " "},
    }

    found = {}
    for place, change in cases.items():
        answer = await post(house, {**wanted, **change})
        assert answer.status_code == 422, answer.text
        found[place] = {error["pointer"] for error in answer.json()["errors"]}

    assert {place for place, told in found.items() if place in told} == set(cases)


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_without_the_role_or_in_another_team_nothing_is_said(
    house: House, wanted: dict[str, Any]
) -> None:
    await timed(house)

    viewer = await post(house, wanted, key="Bearer tw_viewer@rotating")
    stranger = await post(house, wanted, key="Bearer tw_data_scientist@elsewhere")
    nothing = await house.client.post("/v1/datasets/none/annotations", json=wanted)

    assert [viewer.status_code, stranger.status_code, nothing.status_code] == [403, 404, 404]
    assert await house.said("dataset.annotated") == []


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_a_dataset_without_a_version_has_no_periods(
    house: House, wanted: dict[str, Any]
) -> None:
    assert (await house.define()).status_code == 201

    answer = await post(house, wanted)

    assert (answer.status_code, answer.json()["code"]) == (409, "no_dataset_version")
