"""When changes are allowed: windows, freezes, earliest moments, break-glass; a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.deployer.domain import Stage, rollout_id
from shared import telemetry
from shared.events import (
    DatasetName,
    DatasetPublished,
    DeploymentRolledBack,
    Digest,
    Event,
    FreezeDeclared,
    FreezeLifted,
    ModelName,
    ModelPromoted,
    WindowAwaited,
    WindowOverridden,
)
from tests.deployer.conftest import Site
from tests.deployer.people import PUMP, Door, a_definition, a_verdict_about

pytestmark = pytest.mark.real

SECOND = rollout_id(PUMP, 2)
TOMORROW = "Thu 08:00-16:00 UTC"
"""The clock of these tests begins on a Wednesday at noon."""


@pytest.fixture
async def door(site: Site, tmp_path: Path) -> AsyncIterator[Door]:
    opened = Door(site, tmp_path)
    yield opened
    await opened.http.aclose()


async def proposed(
    site: Site, *, model: ModelName = PUMP, owner: str = "water", **rollout: Any
) -> None:
    """Version 1 answers, version 2 has just been accepted."""
    await site.hear(a_definition("wanda", model, owner))
    await site.hear(a_verdict_about(1, model=model, owner=owner))
    await site.hear(a_verdict_about(2, 1, model=model, owner=owner, **rollout))


async def champion(site: Site, model: ModelName = PUMP) -> int | None:
    endpoint = await site.store.endpoint(model)
    return endpoint.champion_version if endpoint else None


async def later(site: Site, **span: float) -> None:
    """Time passes and timers run out."""
    site.now += timedelta(**span)
    while await site.timers.take_one():
        pass


def published(version: int, dataset: str = "billing/closed") -> DatasetPublished:
    return DatasetPublished(
        dataset=DatasetName(dataset),
        version=version,
        digest=Digest("d" * 64),
        format="csv",
        size_bytes=1,
        rows=1,
        columns={"y": "number"},
        profile=Digest("e" * 64),
        published_by="dora",
    )


async def freeze(
    door: Door, site: Site, who: str = "olga", models: tuple[str, ...] = (PUMP,), **changes: Any
) -> httpx.Response:
    body = {
        "models": models,
        "ends_at": (site.now + timedelta(days=3)).isoformat(),
        "reason": "year end",
    }
    return await door.ask(who, "POST", "/freezes", body | changes)


# --- windows --------------------------------------------------------------------------------------


async def test_nothing_answers_before_its_window(site: Site) -> None:
    await proposed(site, window=["Sat 10:00-12:00 UTC", "0 8 * * 4 for 2h UTC"])
    awaited = (await site.said(WindowAwaited))[0].event

    await later(site, hours=19, minutes=59)
    before = await champion(site)
    await later(site, minutes=1)

    assert awaited.opens_at == site.now
    assert "outside the windows" in awaited.reason
    assert (before, await champion(site)) == (1, 2)


async def test_a_clock_that_jumps_back_after_the_opening_promotes_nothing_twice(site: Site) -> None:
    await proposed(site, window=TOMORROW)
    await later(site, hours=20)

    for jump in (-20, -3, 30, -30):
        await later(site, hours=jump)

    assert [h.event.version for h in await site.said(ModelPromoted)] == [1, 2]


async def test_a_clock_that_jumps_over_the_window_waits_for_the_next(site: Site) -> None:
    await proposed(site, window=TOMORROW)

    await later(site, hours=30)
    missed = await champion(site)
    await later(site, hours=7 * 24 - 10)

    assert missed == 1
    assert await champion(site) == 2


async def test_a_month_is_awaited_by_the_clock_of_its_zone(site: Site) -> None:
    await proposed(site, not_before="month_start Asia/Kathmandu")

    awaited = (await site.said(WindowAwaited))[0].event

    assert awaited.opens_at == datetime.fromisoformat("2026-04-01T00:00:00+05:45")
    assert "not before" in awaited.reason


# --- what a dataset does --------------------------------------------------------------------------


async def test_a_rollout_waits_for_a_dataset_and_goes_on_when_it_comes(site: Site) -> None:
    site.now = datetime.fromisoformat("2026-03-04T12:00:00+00:00")
    await hear_at(site, published(1), site.now - timedelta(days=1))
    await proposed(site, not_before="dataset billing/closed")
    awaited = (await site.said(WindowAwaited))[0].event
    await later(site, days=2)
    before = await champion(site)

    await hear_at(site, published(1, "other"), site.now)
    await hear_at(site, published(2), site.now)
    while await site.timers.take_one():
        pass

    assert awaited.opens_at is None
    assert "billing/closed" in awaited.reason
    assert (before, await champion(site)) == (1, 2)
    assert len(await site.said(WindowAwaited)) == 1


async def hear_at(site: Site, event: Event, moment: datetime) -> None:
    """The event says that it happened then."""
    await site.hear(event, said_at=moment)


async def test_an_old_publication_heard_late_opens_nothing(site: Site) -> None:
    await proposed(site, not_before="dataset billing/closed")

    await hear_at(site, published(2), site.now - timedelta(minutes=1))
    while await site.timers.take_one():
        pass

    assert await champion(site) == 1


# --- freezes --------------------------------------------------------------------------------------


async def test_a_freeze_of_the_specification_is_kept(site: Site) -> None:
    await proposed(site, freeze="2026-03-04..2026-03-06 Europe/Berlin")

    awaited = (await site.said(WindowAwaited))[0].event

    assert awaited.opens_at == datetime.fromisoformat("2026-03-07T00:00:00+01:00")


async def test_a_declared_freeze_holds_everything_until_it_ends(site: Site, door: Door) -> None:
    await site.hear(a_definition("wanda"))
    declared = await freeze(door, site)
    await site.hear(a_verdict_about(1))
    before = await champion(site)

    await later(site, days=2, hours=23)
    still = await champion(site)
    await later(site, hours=1)

    assert declared.status_code == 201
    said = (await site.said(FreezeDeclared))[0]
    assert (said.event.by, said.event.models, said.event.reason) == ("olga", ("pump",), "year end")
    assert declared.json()["event_id"] == str(said.id)
    assert (before, still, await champion(site)) == (None, None, 1)


async def test_a_lifted_freeze_lets_it_go_on(site: Site, door: Door) -> None:
    await site.hear(a_definition("wanda"))
    await site.hear(a_verdict_about(1))
    name = (await freeze(door, site)).json()["freeze"]
    await site.hear(a_verdict_about(2, 1))
    held = await champion(site)

    lifted = await door.ask("otto", "POST", f"/freezes/{name}/lift", {"reason": "it is over"})
    again = await door.ask("otto", "POST", f"/freezes/{name}/lift", {"reason": "once more"})
    while await site.timers.take_one():
        pass

    assert (lifted.status_code, again.status_code) == (200, 409)
    assert (await site.said(FreezeLifted))[0].event.by == "otto"
    assert (held, await champion(site)) == (1, 2)
    assert (await door.ask("vic", "GET", "/freezes")).json()["items"] == []
    kept = (await door.ask("vic", "GET", "/freezes?over=true")).json()["items"]
    assert (kept[0]["lifted_by"], kept[0]["lifted_why"]) == ("otto", "it is over")


async def test_a_freeze_concerns_only_the_models_it_names(site: Site, door: Door) -> None:
    other = ModelName("valve")
    await site.hear(a_definition("wanda"))
    await freeze(door, site)

    await proposed(site, model=other)

    assert await champion(site, other) == 2


async def test_a_freeze_of_all_concerns_all(site: Site, door: Door) -> None:
    answer = await freeze(door, site, "otto", models=())

    await proposed(site)

    assert answer.status_code == 201
    assert await champion(site) is None


async def test_a_rollback_needs_no_open_window(site: Site, door: Door) -> None:
    await proposed(site)
    await freeze(door, site)

    answer = await door.ask("olga", "POST", "/models/pump/rollback", {"reason": "odd"})

    assert answer.status_code == 200
    assert (await site.said(DeploymentRolledBack))[0].event.to_version == 1


async def test_a_freeze_that_begins_later_holds_later(site: Site, door: Door) -> None:
    await site.hear(a_definition("wanda"))
    start = site.now + timedelta(hours=1)
    await freeze(door, site, starts_at=start.isoformat())

    await site.hear(a_verdict_about(1))
    site.now = start
    await site.hear(a_verdict_about(2, 1))

    assert await champion(site) == 1


@pytest.mark.parametrize(
    ("who", "models", "status"),
    [
        ("ann", ("pump",), 403),
        ("vic", ("pump",), 403),
        ("olga", (), 403),
        ("olga", ("secret",), 404),
        ("olga", ("pump", "secret"), 404),
        ("otto", ("nothing",), 404),
        ("otto", ("pump", "secret"), 201),
        ("root", (), 201),
        ("gas", ("secret",), 201),
        ("gas", ("pump",), 404),
    ],
)
async def test_who_may_freeze_what(
    site: Site, door: Door, who: str, models: tuple[str, ...], status: int
) -> None:
    await site.hear(a_definition("wanda"))
    await site.hear(a_definition("gas", ModelName("secret"), "gas"))

    answer = await freeze(door, site, who, models)

    assert answer.status_code == status, answer.text
    assert len(await site.said(FreezeDeclared)) == (status == 201)


async def test_a_freeze_tells_nobody_of_models_they_may_not_see(site: Site, door: Door) -> None:
    await site.hear(a_definition("wanda"))
    await site.hear(a_definition("gas", ModelName("secret"), "gas"))
    await freeze(door, site, "otto", ("pump", "secret"))
    await freeze(door, site, "otto", ("secret",))

    seen = (await door.ask("vic", "GET", "/freezes")).json()["items"]

    assert [item["models"] for item in seen] == [["pump"]]


@pytest.mark.parametrize(
    "change",
    [
        {"reason": ""},
        {"reason": "  "},
        {"reason": "a\0b"},
        {"reason": "x" * 2001},
        {"ends_at": None},
        {"ends_at": "2026-03-09"},
        {"ends_at": "2026-03-09T00:00:00"},
        {"ends_at": "2026-03-01T00:00:00Z"},
        {"ends_at": "2029-03-01T00:00:00Z"},
        {"ends_at": "99999-03-01T00:00:00Z"},
        {"starts_at": "2026-04-01T00:00:00Z"},
        {"models": [7]},
        {"models": {"pump": 1}},
        {"models": ["../pump"]},
        {"models": ["pump"] * 1001},
        {"by": "bob"},
    ],
)
async def test_a_wrong_freeze_is_refused_with_a_pointer(
    site: Site, door: Door, change: dict[str, Any]
) -> None:
    await site.hear(a_definition("wanda"))

    answer = await freeze(door, site, **change)

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]
    assert not await site.said(FreezeDeclared)


@pytest.mark.parametrize("name", ["nothing", "%00", "a" * 300])
async def test_an_unknown_freeze_is_lifted_by_nobody(site: Site, door: Door, name: str) -> None:
    answer = await door.ask("otto", "POST", f"/freezes/{name}/lift", {"reason": "x"})

    assert answer.status_code in (404, 422)
    assert not await site.said(FreezeLifted)


async def test_a_repeated_freeze_with_one_key_is_one(site: Site, door: Door) -> None:
    await site.hear(a_definition("wanda"))
    body = {"models": ["pump"], "ends_at": "2026-03-09T00:00:00Z", "reason": "x"}

    answers = [await door.ask("olga", "POST", "/freezes", body, key="k") for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    assert len(await site.said(FreezeDeclared)) == 1


# --- break-glass ----------------------------------------------------------------------------------


async def test_break_glass_needs_a_reason_and_leaves_a_mark(site: Site, door: Door) -> None:
    await proposed(site, window=TOMORROW, not_before="month_start UTC")
    await freeze(door, site)
    before = counted("tidewheel_overrides_total")

    empty = [await door.decide("olga", SECOND, "override", body) for body in ({}, {"reason": " "})]
    answer = await door.decide("olga", SECOND, "override", {"reason": "the old one harms people"})

    assert [one.status_code for one in empty] == [422, 422]
    assert (answer.status_code, answer.json()["stage"]) == (200, None)
    said = (await site.said(WindowOverridden))[0]
    assert (said.event.by, said.event.reason) == ("olga", "the old one harms people")
    assert (await site.said(ModelPromoted))[-1].event.break_glass == "olga"
    assert counted("tidewheel_overrides_total") == before + 1


def counted(name: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name) or 0.0


@pytest.mark.parametrize(("who", "status"), [("ann", 403), ("vic", 403), ("gas", 404)])
async def test_who_may_not_break_the_glass(site: Site, door: Door, who: str, status: int) -> None:
    await proposed(site, window=TOMORROW)

    answer = await door.decide(who, SECOND, "override", {"reason": "now"})

    assert answer.status_code == status
    assert await champion(site) == 1


async def test_break_glass_is_no_approval(site: Site, door: Door) -> None:
    await proposed(site, window=TOMORROW, approval="four_eyes")

    early = await door.decide("olga", SECOND, "override", {"reason": "now"})
    await door.decide("ann", SECOND)
    await door.decide("olga", SECOND, "override", {"reason": "now"})

    assert early.status_code == 409
    promoted = (await site.said(ModelPromoted))[-1].event
    assert (promoted.version, promoted.approved_by) == (2, ("ann",))
    assert promoted.break_glass == "olga"


async def test_break_glass_opens_no_evidence(site: Site, door: Door) -> None:
    await proposed(
        site, window=TOMORROW, strategy="canary", steps=[0.1], step_for="1h", minimum_requests=50
    )

    answer = await door.decide("olga", SECOND, "override", {"reason": "now"})
    await later(site, hours=2)

    assert answer.json()["stage"] == "canary"
    assert await champion(site) == 1


async def test_what_waits_for_nothing_is_not_overridden(site: Site, door: Door) -> None:
    await proposed(site)

    answer = await door.decide("olga", SECOND, "override", {"reason": "now"})

    assert answer.status_code == 409
    assert not await site.said(WindowOverridden)


# --- races ----------------------------------------------------------------------------------------


async def test_a_freeze_and_a_promotion_at_once_leave_no_promotion_after_the_freeze(
    site: Site, door: Door
) -> None:
    await site.hear(a_definition("wanda"))
    await site.hear(a_verdict_about(1))

    await asyncio.gather(freeze(door, site), site.hear(a_verdict_about(2, 1)))

    order = [type(h.event) for h in await site.said() if not isinstance(h.event, WindowAwaited)]
    endpoint = await site.store.endpoint(PUMP)
    assert endpoint is not None
    if endpoint.champion_version == 1:
        assert endpoint.rollout is not None
        assert endpoint.rollout.stage is Stage.AWAITING_WINDOW
    assert FreezeDeclared in order


async def test_lifting_while_a_verdict_comes_forgets_nobody(site: Site, door: Door) -> None:
    await site.hear(a_definition("wanda"))
    await site.hear(a_verdict_about(1))
    for version in range(2, 7):
        name = (await freeze(door, site)).json()["freeze"]

        await asyncio.gather(
            site.hear(a_verdict_about(version, version - 1)),
            door.ask("olga", "POST", f"/freezes/{name}/lift", {"reason": "over"}),
        )
        while await site.timers.take_one():
            pass

        assert await champion(site) == version
