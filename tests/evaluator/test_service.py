"""Registered to judged on a real database and with a real child."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared.artifacts import ArtifactStore, key_of
from shared.errors import StoreUnavailable
from shared.events import (
    Digest,
    EvaluationCompleted,
    RolloutAborted,
    RolloutId,
)
from shared.ids import derived, uuid7
from tests.evaluator.building import World, a_spec, a_version
from tests.evaluator.conftest import PUMP, Site
from tests.support.waiting import eventually

# One loop for the module, so that one warm template serves all its tests.
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


async def test_a_first_good_candidate_is_accepted_with_its_evidence(site: Site) -> None:
    files = a_version(World.drawn())
    await site.register(1, files)

    await site.work()

    verdict = (await site.verdicts())[0]
    assert (verdict.event.accepted, verdict.event.mode) == (True, "first")
    assert verdict.event.champion is None
    assert verdict.event.rows == 200
    assert verdict.event.evidence is not None
    assert site.artifacts.has(verdict.event.evidence)
    gate = verdict.event.gates[0]
    assert gate.lower is not None
    assert gate.lower > 0


async def test_a_candidate_is_compared_with_the_champion(site: Site) -> None:
    world = World.drawn()
    good, bad = a_version(world), a_version(world, slope=1.0)
    await site.register(1, good)
    await site.work()
    await site.promote(1, good)

    await site.register(2, bad)
    await site.work()

    verdict = (await site.verdicts())[-1].event
    assert (verdict.accepted, verdict.reason, verdict.mode) == (False, "worse", "refresh")
    assert (verdict.champion, verdict.champion_manifest) == (1, good.digest)
    assert verdict.gates[0].margin > 0


async def test_a_change_has_to_be_better_than_the_champion(site: Site) -> None:
    world = World.drawn()
    same = a_version(world)
    await site.register(1, same)
    await site.work()
    await site.promote(1, same)

    await site.register(2, a_version(world, slope=3.0), code="9")
    await site.work()

    verdict = (await site.verdicts())[-1].event
    assert (verdict.mode, verdict.reason) == ("change", "not_shown_better")


async def test_a_repeated_registration_is_judged_once(site: Site) -> None:
    files = a_version(World.drawn())
    registered = await site.register(1, files)

    await site.work()
    await site.hear(registered)
    await site.work()

    assert len(await site.verdicts()) == 1


async def test_a_worker_that_was_replaced_changes_nothing(site: Site) -> None:
    await site.register(1, a_version(World.drawn()))
    frozen = await site.jobs.claim("frozen")
    assert frozen is not None
    await site.database.execute("update job set lease_until = now() - interval '1 s'")

    await site.work()
    await site.judge.work(frozen)

    assert len(await site.verdicts()) == 1


async def test_the_same_candidate_judged_anew_gives_the_same_verdict_and_id(
    site: Site,
) -> None:
    await site.register(1, a_version(World.drawn()))
    await site.work()
    first = (await site.verdicts())[0]

    await site.database.execute("delete from outbox")
    await site.database.execute("delete from said")
    await site.database.execute("delete from stream_head")
    await site.database.execute("delete from verdict")
    await site.database.execute("delete from holdout_use")
    await site.database.execute("update job set state = 'waiting'")
    await site.work()

    second = (await site.verdicts())[0]
    assert second.id == first.id
    assert _timeless(second.event) == _timeless(first.event)


def _timeless(event: EvaluationCompleted) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__slots__ if name != "seconds"}


async def test_a_champion_that_changes_meanwhile_is_compared_with(site: Site) -> None:
    world = World.drawn()
    one, two = a_version(world, slope=2.0), a_version(world, slope=2.9)
    for version, files in ((1, one), (2, two)):
        await site.register(version, files)
        await site.work()
    await site.register(3, a_version(world))
    job = await site.jobs.claim("a test")
    assert job is not None

    await site.promote(2, two)
    await site.judge.work(job)
    await site.work()

    verdicts = [heard.event for heard in await site.verdicts()]
    assert [(v.version, v.champion) for v in verdicts if v.version == 3] == [(3, 2)]


async def test_an_accepted_version_is_judged_again_when_another_is_promoted(site: Site) -> None:
    world = World.drawn()
    two, three = a_version(world, slope=2.5), a_version(world)
    await site.register(2, two)
    await site.register(3, three)
    await site.work()

    await site.promote(2, two)
    await site.work()

    against = [(h.event.version, h.event.champion) for h in await site.verdicts()]
    assert against == [(2, None), (3, None), (3, 2)]
    last = (await site.verdicts())[-1]
    assert last.correlation == derived(None, "cascade", "pump")


async def test_a_version_older_than_the_champion_is_not_judged_again(site: Site) -> None:
    world = World.drawn()
    two, three = a_version(world, slope=2.5), a_version(world)
    await site.register(2, two)
    await site.register(3, three)
    await site.work()

    await site.promote(3, three)
    await site.work()

    assert len(await site.verdicts()) == 2


def an_abortion_of(version: int) -> RolloutAborted:
    return RolloutAborted(
        model=PUMP,
        rollout=RolloutId(uuid7()),
        version=version,
        dataset_version=version,
        reason="worse",
        detail="",
        evidence={},
    )


async def test_a_version_whose_rollout_ended_is_not_judged_again(site: Site) -> None:
    world = World.drawn()
    two, three = a_version(world, slope=2.5), a_version(world)
    await site.register(2, two)
    await site.register(3, three)
    await site.work()
    await site.hear(an_abortion_of(3))

    await site.promote(2, two)
    await site.work()

    assert len(await site.verdicts()) == 2


async def test_a_verdict_that_comes_after_the_end_of_a_rollout_changes_that_no_more(
    site: Site,
) -> None:
    world = World.drawn()
    two, three = a_version(world, slope=2.5), a_version(world)
    await site.register(2, two)
    await site.register(3, three)
    await site.work()
    await site.promote(2, two)

    await site.hear(an_abortion_of(3))
    await site.work()

    assert (await site.verdicts())[-1].event.accepted
    assert await site.store.newest_accepted(PUMP) is None


async def test_a_version_that_became_champion_while_its_job_waited_is_not_judged_by_itself(
    site: Site,
) -> None:
    one = a_version(World.drawn())
    await site.register(1, one)

    await site.promote(1, one)
    await site.work()

    assert await site.verdicts() == []
    assert await site.jobs.waiting() == 0


async def test_after_a_rollback_the_former_champion_is_compared_with(site: Site) -> None:
    world = World.drawn()
    one, two = a_version(world, slope=2.0), a_version(world, slope=2.5)
    await site.register(1, one)
    await site.work()
    await site.promote(1, one)
    await site.register(2, two)
    await site.work()
    await site.promote(2, two)

    await site.roll_back(2, 1, one)
    await site.register(3, a_version(world))
    await site.work()

    assert (await site.verdicts())[-1].event.champion == 1


async def test_a_champion_whose_files_are_gone_cannot_be_compared_with(
    site: Site, tmp_path: Path
) -> None:
    world = World.drawn()
    one = a_version(world, slope=2.0)
    await site.register(1, one)
    await site.work()
    await site.promote(1, one)
    (tmp_path / key_of(one.digest)).unlink()

    await site.register(2, a_version(world))
    await site.work()

    verdict = (await site.verdicts())[-1].event
    assert (verdict.accepted, verdict.reason) == (False, "cannot_compare")


async def test_a_candidate_whose_files_are_gone_is_invalid(site: Site, tmp_path: Path) -> None:
    files = a_version(World.drawn())
    await site.register(1, files)
    (tmp_path / key_of(files.digest)).unlink()

    await site.work()

    assert (await site.verdicts())[0].event.reason == "invalid_input"


class Away(ArtifactStore):
    """An object store that does not answer the first requests."""

    requests = 0

    async def aget(self, digest: Digest) -> bytes:
        self.requests += 1
        if self.requests < 4:
            raise StoreUnavailable("not now")
        return await super().aget(digest)


async def test_an_object_store_that_is_away_is_waited_for_and_costs_no_attempt(
    site: Site, tmp_path: Path
) -> None:
    site.judge = replace(site.judge, artifacts=Away(f"file://{tmp_path}"))
    await site.register(1, a_version(World.drawn()))

    await site.work()

    assert (await site.verdicts())[0].event.accepted
    assert await site.database.fetchval("select attempt from job") == 1


async def test_a_specification_that_cannot_be_read_still_ends_in_a_verdict(site: Site) -> None:
    await site.register(1, a_version(World.drawn()), spec={"apiVersion": "tidewheel/v0"})

    await site.work()

    assert (await site.verdicts())[0].event.reason == "invalid_input"


async def test_a_comparison_that_takes_too_long_is_killed_and_rejected(site: Site) -> None:
    slow = replace(site.judge, score_seconds=0.001)
    await site.register(1, a_version(World.drawn()), spec=a_spec(ordered=False))
    job = await site.jobs.claim("a test")
    assert job is not None

    await slow.work(job)

    verdict = (await site.verdicts())[0].event
    assert verdict.reason == "invalid_input"
    assert "seconds" in verdict.gates[0].detail


async def test_verdicts_can_be_read_in_pages(site: Site) -> None:
    world = World.drawn()
    for version in (1, 2, 3):
        await site.register(version, a_version(world, slope=2 + version / 10))
    await site.work()

    first = await site.store.verdicts("pump", below=2**62, limit=2)
    rest = await site.store.verdicts("pump", below=first[-1].sequence or 0, limit=2)
    one = await site.store.said(rest[0].id)

    assert [heard.event.version for heard in first + rest] == [3, 2, 1]
    assert one == rest[0]
    assert await site.store.said(UUID(int=1)) is None


async def test_a_verdict_without_champion_is_kept_under_number_0(site: Site) -> None:
    await site.register(1, a_version(World.drawn()))

    await site.work()

    rows = await site.database.fetch("select champion, accepted from verdict")
    assert [tuple(row) for row in rows] == [(0, True)]


async def test_a_promotion_during_the_last_moment_makes_the_verdict_anew(site: Site) -> None:
    world = World.drawn()
    two, three = a_version(world, slope=2.5), a_version(world)
    await site.register(2, two)
    await site.work()
    await site.register(3, three)
    job = await site.jobs.claim("a test")
    assert job is not None

    async with site.database.transaction():
        await site.store.crown(PUMP, 2, two.digest)
        # A context of its own: this task must not join the transaction that it has to wait for.
        judging = asyncio.create_task(site.judge.work(job), context=contextvars.Context())
        await eventually(site.somebody_waits, what="the verdict waits for the champion")
    await judging
    await site.work()

    against = [(h.event.version, h.event.champion) for h in await site.verdicts()]
    assert against == [(2, None), (3, 2)]


async def test_a_candidate_whose_champion_never_stays_is_not_to_blame(site: Site) -> None:
    await site.register(1, a_version(World.drawn()))
    await site.database.execute("update job set given_back = $1, attempt = $1", 26)

    running = asyncio.create_task(site.judge.run())
    await eventually(lambda: _has_verdict(site), what="the giving up")
    running.cancel()
    await asyncio.wait({running})

    (told,) = await site.verdicts()
    assert (told.event.accepted, told.event.reason) == (False, "cannot_compare")
    assert "begun 26 times for nothing" in told.event.gates[0].detail


async def test_attempts_that_were_given_back_make_no_verdict_worse(site: Site) -> None:
    await site.register(1, a_version(World.drawn()))
    await site.database.execute("update job set given_back = $1, attempt = $1", 20)

    running = asyncio.create_task(site.judge.run())
    await eventually(lambda: _has_verdict(site), what="the verdict")
    running.cancel()
    await asyncio.wait({running})

    assert [told.event.accepted for told in await site.verdicts()] == [True]


async def _has_verdict(site: Site) -> bool:
    return bool(await site.verdicts())


# --- what readers are shown -------------------------------------------------------------------


async def test_readers_see_rounded_figures_until_the_rows_are_retired(site: Site) -> None:
    world = World.drawn()
    await site.judged(1, a_version(world))
    path = f"/verdicts/{(await site.verdicts())[0].id}"

    viewer = (await site.ask("GET", path)).json()
    auditor = (await site.ask("GET", path, "auditor")).json()
    listed = (await site.ask("GET", "/models/pump/verdicts")).json()["items"][0]
    await site.judged(2, a_version(world), split="9")
    later = (await site.ask("GET", path)).json()

    assert (viewer["rounded"], auditor["rounded"], later["rounded"]) == (True, False, False)
    assert viewer["gates"][0]["se"] is None
    assert viewer["gates"][0]["lower"] != auditor["gates"][0]["lower"]
    assert listed == viewer
    assert later["gates"] == auditor["gates"]


async def test_a_verdict_has_a_card_in_two_forms(site: Site) -> None:
    found = await site.judged(1, a_version(World.drawn()))

    page = await site.ask("GET", "/models/pump/versions/1/card")
    text = await site.ask("GET", "/models/pump/versions/1/card?format=md")
    none = await site.ask("GET", "/models/pump/versions/2/card")

    assert found.card is not None
    assert found.card_html is not None
    assert site.artifacts.has(found.card_html)
    assert "<svg" in page.text
    assert page.headers["content-disposition"].startswith("attachment")
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert text.text.startswith("#")
    assert none.status_code == 404


async def test_the_verdict_carries_what_its_readers_need(site: Site) -> None:
    spec = a_spec(checks={"bounds": [-99, 99]}, slices=[{"name": "warm", "where": "x > 0"}])

    found = await site.judged(1, a_version(World.drawn()), spec=spec)

    assert found.accepted
    assert set(found.policy) == {"rules", "given"}
    assert len(found.policy_digest) == 64
    assert [check.name for check in found.checks] == ["bounds"]
    assert found.slices[0].name == "warm"
    assert found.authors == {"spec": "grace"}
    assert found.engine
    assert found.draws >= 0
