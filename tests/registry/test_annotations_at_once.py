"""What two people say of periods at once leaves out no more than one of them may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.registry.domain.annotations import with_later
from tests.registry.conftest import House
from tests.registry.test_annotations import ADA, BEGIN, BOB, HOUR, a_draft, post, timed


def a_period(start: int, hours: int, **changes: Any) -> dict[str, Any]:
    begin = BEGIN + start * HOUR
    ends = begin + hours * HOUR
    return {
        "tag": "transient",
        "starts_at": begin.isoformat(),
        "ends_at": ends.isoformat(),
        "reason": "a strike",
        **changes,
    }


def test_what_was_written_since_the_rows_were_counted_is_counted_too() -> None:
    later = a_draft(share=0.03)

    assert with_later(a_draft(), 0.03, [later]).state == "proposed"
    assert with_later(a_draft(), 0.03, []).state == "active"
    assert with_later(a_draft(tag="normal"), 0.9, [later]).state == "active"


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_periods_written_at_once_need_a_second_person_where_all_of_them_are_too_much(
    house: House,
) -> None:
    await timed(house)

    # Each leaves out 3 % of the rows; more than one of them is more than a twentieth.
    answers = await asyncio.gather(*(post(house, a_period(20 * n, 12)) for n in range(4)))

    assert [answer.status_code for answer in answers] == [201] * 4
    states = sorted(answer.json()["state"] for answer in answers)
    assert states == ["active", "proposed", "proposed", "proposed"]


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_of_two_who_decide_at_once_one_is_told_that_it_is_decided(house: House) -> None:
    await timed(house)
    made = await post(house, a_period(0, 40))
    path = f"/{made.json()['annotation']}"

    answers = await asyncio.gather(
        post(house, {"reason": "I was there"}, f"{path}/approve", BOB),
        post(house, {"reason": "it was none"}, f"{path}/decline", ADA),
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(await house.said("dataset.annotated")) == 2
