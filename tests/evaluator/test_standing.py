"""Who candidates face: counted rows, the anchor, a champion who comes back."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.evaluator.domain import Question
from services.evaluator.store import Earlier, PostgresStore
from shared import clock
from shared.artifacts import key_of
from shared.events import (
    AnchorMoved,
    AnchorRetired,
)
from tests.evaluator.building import World, a_spec, a_version, broken
from tests.evaluator.conftest import PUMP, Site
from tests.support.waiting import eventually

# One loop for the module, so that one warm template serves all its tests.
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


# --- held-out rows are counted ----------------------------------------------------------------


async def test_each_verdict_takes_a_use_of_its_rows_and_has_less_alpha(site: Site) -> None:
    world = World.drawn()

    for version in (1, 2, 3):
        await site.judged(version, a_version(world, slope=2 + version / 10))

    verdicts = [heard.event for heard in await site.verdicts()]
    assert [verdict.holdout_use for verdict in verdicts] == [1, 2, 3]
    spent = [1 - verdict.gates[-1].confidence for verdict in verdicts]
    assert spent == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12])
    assert await site.store.uses("pump", "e" * 64) == 3


async def test_rows_that_are_used_up_judge_no_more_and_fresh_ones_do(site: Site) -> None:
    world, spec = World.drawn(), a_spec(evaluation={"uses": 2})
    for version in (1, 2):
        await site.judged(version, a_version(world), spec=spec)

    exhausted = await site.judged(3, a_version(world), spec=spec)
    fresh = await site.judged(4, a_version(world), spec=spec, split="9")

    assert (exhausted.accepted, exhausted.reason) == (False, "holdout_exhausted")
    assert "publish a new dataset version" in exhausted.gates[0].detail
    assert (exhausted.evidence, exhausted.holdout_use) == (None, 2)
    assert (fresh.reason, fresh.holdout_use) == ("accepted", 1)


async def test_a_verdict_that_looked_at_nothing_takes_no_use(site: Site) -> None:
    found = await site.judged(1, a_version(World.drawn(), estimator=broken(float("nan"))))

    assert (found.reason, found.holdout_use) == ("invalid_input", 0)
    assert await site.store.uses("pump", found.split) == 0


async def test_rows_used_in_the_last_moment_make_the_verdict_anew(site: Site) -> None:
    await site.register(1, a_version(World.drawn()))
    job = await site.jobs.claim("a test")
    assert job is not None
    stores = Interfering(site.database, site.jobs, site.best_jobs)
    site.judge = replace(site.judge, store=stores)

    await site.judge.work(job)
    await site.work()

    verdicts = await site.verdicts()
    assert [heard.event.holdout_use for heard in verdicts] == [2]
    assert await site.store.uses("pump", "e" * 64) == 2


class Interfering(PostgresStore):
    """Somebody else takes a use of the rows between the question and the answer."""

    asked = 0

    async def earlier(self, question: Question) -> Earlier | None:
        self.asked += 1
        if self.asked == 1:
            await self.take_uses("pump", question.split, 0, 1)
        return await super().earlier(question)


# --- the anchor -------------------------------------------------------------------------------


async def anchors(site: Site) -> list[tuple[int, str]]:
    return [(one.event.version, one.event.reason) for one in await site.said(AnchorMoved)]


async def test_the_first_champion_is_the_anchor(site: Site) -> None:
    await site.crown(1, a_version(World.drawn(), slope=2.0))

    assert await anchors(site) == [(1, "first_champion")]


async def test_a_champion_that_is_only_no_worse_is_judged_beside_the_anchor(site: Site) -> None:
    world, spec = World.drawn(), loose()
    await site.crown(1, a_version(world, slope=2.9), spec=spec)
    await site.crown(2, a_version(world, slope=2.899), spec=spec)

    third = await site.judged(3, a_version(world, slope=3.0), spec=spec)

    assert await anchors(site) == [(1, "first_champion")]
    assert (third.champion, third.anchor) == (2, 1)
    assert third.anchor_manifest == a_version(world, slope=2.9).digest
    assert [gate.versus for gate in third.gates] == ["champion", "anchor", "baseline"]


def loose() -> dict[str, Any]:
    return a_spec(gates=[{"metric": "mae", "vs": "champion", "margin": 0.5}])


async def test_a_champion_that_is_shown_to_be_better_is_the_next_anchor(site: Site) -> None:
    world = World.drawn()
    await site.crown(1, a_version(world, slope=2.0))
    await site.crown(2, a_version(world, slope=3.0))

    third = await site.judged(3, a_version(world, slope=3.0))

    assert await anchors(site) == [(1, "first_champion"), (2, "shown_better")]
    assert (third.champion, third.anchor) == (2, None)


async def test_small_losses_do_not_add_up_because_of_the_anchor(site: Site) -> None:
    world = World.drawn(rows=2000)
    spec = a_spec(gates=[{"metric": "mae", "vs": "champion", "margin": 0.2}])
    await site.crown(1, a_version(world, slope=3.0), spec=spec)
    await site.crown(2, a_version(world, slope=2.6), spec=spec)

    found = await site.judged(3, a_version(world, slope=2.25), spec=spec)

    assert found.champion == 2
    assert {gate.versus for gate in found.gates if not gate.passed} == {"anchor"}
    assert found.reason in ("worse", "not_shown_noninferior")


async def test_an_anchor_that_is_rolled_back_gives_way_to_the_one_before(site: Site) -> None:
    world = World.drawn()
    one, two = a_version(world, slope=2.0), a_version(world)
    await site.crown(1, one)
    await site.crown(2, two)

    await site.roll_back(2, 1, one)

    assert (await anchors(site))[-1] == (1, "rolled_back")
    assert (await site.store.standing(PUMP)).anchor is None


async def test_an_only_champion_that_is_rolled_back_leaves_no_anchor(site: Site) -> None:
    await site.crown(1, a_version(World.drawn()))

    await site.roll_back(1, None, None)

    assert [one.event.version for one in await site.said(AnchorRetired)] == [1]
    assert await site.store.anchor(PUMP) is None


async def test_a_rollback_of_another_version_leaves_the_anchor_alone(site: Site) -> None:
    world, spec = World.drawn(), loose()
    one = a_version(world, slope=2.9)
    await site.crown(1, one, spec=spec)
    await site.crown(2, a_version(world, slope=2.899), spec=spec)

    await site.roll_back(2, 1, one)

    assert await anchors(site) == [(1, "first_champion")]


async def test_an_anchor_whose_files_are_gone_cannot_be_compared_with(
    site: Site, tmp_path: Path
) -> None:
    world, spec = World.drawn(), loose()
    one = a_version(world, slope=2.9)
    await site.crown(1, one, spec=spec)
    await site.crown(2, a_version(world, slope=2.899), spec=spec)
    (tmp_path / key_of(one.digest)).unlink()

    found = await site.judged(3, a_version(world), spec=spec)

    assert found.reason == "cannot_compare"
    assert "the anchor" in found.gates[0].detail


async def test_a_person_may_retire_an_anchor_and_the_champion_is_the_next_one(site: Site) -> None:
    world, spec = World.drawn(), loose()
    await site.crown(1, a_version(world, slope=2.9), spec=spec)
    await site.crown(2, a_version(world, slope=2.899), spec=spec)
    path, body = "/models/pump/anchor/retire", {"reason": "the sensor was broken then"}

    refused = await site.ask("POST", path, "viewer", json=body)
    done = await site.ask("POST", path, "operator", json=body)
    again = await site.ask("POST", path, "operator", json=body)
    told = (await site.ask("GET", "/models/pump/anchor")).json()

    assert (refused.status_code, done.status_code, again.status_code) == (403, 200, 409)
    retired = (await site.said(AnchorRetired))[0].event
    assert (retired.version, retired.by) == (1, "the-operator")
    assert told["anchor"]["version"] == 2
    assert [one["version"] for one in told["history"]] == [2, 1]
    assert told["history"][1]["retired_by"] == "the-operator"


async def test_an_anchor_that_moves_in_the_last_moment_makes_the_verdict_anew(site: Site) -> None:
    world, spec = World.drawn(), loose()
    await site.crown(1, a_version(world, slope=2.9), spec=spec)
    await site.crown(2, a_version(world, slope=2.899), spec=spec)
    await site.register(3, a_version(world), spec=spec)
    job = await site.jobs.claim("a test")
    assert job is not None

    async with site.database.transaction():
        await site.store.locked_champion(PUMP)
        judging = asyncio.create_task(site.judge.work(job), context=contextvars.Context())
        await eventually(site.somebody_waits, what="the verdict waits for the champion")
        await site.store.retire_anchor(PUMP, 1, "ada", "", clock.now())
    await judging
    await site.work()

    assert [one.event.anchor for one in await site.verdicts() if one.event.version == 3] == [None]


# --- a champion who comes back ----------------------------------------------------------------


async def test_a_verdict_against_a_champion_who_has_come_back_is_said_again(site: Site) -> None:
    world = World.drawn()
    one, two, three = (a_version(world, slope=slope) for slope in (2.0, 2.5, 3.0))
    await site.crown(1, one)
    await site.crown(2, two)
    first = await site.judged(3, three)
    await site.roll_back(2, 1, one)
    await site.work()
    uses = await site.store.uses("pump", first.split)

    await site.promote(2, two)
    await site.work()

    said = [heard for heard in await site.verdicts() if heard.event.version == 3]
    assert [heard.event.champion for heard in said] == [2, 1, 2]
    assert len({heard.id for heard in said}) == 3
    assert said[2].event == said[0].event
    assert await site.store.uses("pump", first.split) == uses


async def test_a_verdict_that_was_said_again_is_not_said_a_third_time(site: Site) -> None:
    world = World.drawn()
    one, two, three = (a_version(world, slope=slope) for slope in (2.0, 2.5, 3.0))
    await site.crown(1, one)
    await site.crown(2, two)
    await site.judged(3, three)
    await site.roll_back(2, 1, one)
    await site.work()
    await site.promote(2, two)
    await site.work()
    before = len(await site.verdicts())

    await site.register(3, three)
    await site.work()

    assert len(await site.verdicts()) == before
