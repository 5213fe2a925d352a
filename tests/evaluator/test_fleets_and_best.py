"""Verdicts among many: a fleet's stream, and the best of several versions."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import key_of
from shared.events import BestRefused, BestRequested, RolloutAborted, RolloutId
from shared.ids import uuid7
from tests.evaluator.building import Version, World, a_registration, a_spec, a_version
from tests.evaluator.conftest import PUMP, Site
from tests.support.waiting import eventually

# One loop for the module, so that one warm template serves all its tests.
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


# --- fleets -----------------------------------------------------------------------------------


async def crowd(site: Site, *models: str) -> None:
    """Other models of the same owner and definition."""
    for model in models:
        files = a_version(World.drawn()).keep(site.artifacts)
        spec = a_spec() | {"name": model}
        await site.hear(a_registration(1, files, spec=spec, model=model))


async def test_a_small_fleet_keeps_alpha_per_model(site: Site) -> None:
    site.judge = replace(site.judge, fleet_minimum=3)
    await crowd(site, "valve")

    found = await site.judged(1, a_version(World.drawn()))

    assert found.fleet is None


async def test_models_of_a_fleet_take_places_in_one_stream(site: Site) -> None:
    site.judge = replace(site.judge, fleet_minimum=2)
    await crowd(site, "valve")

    await site.judged(1, a_version(World.drawn(rows=2000)))

    claims = [heard.event.fleet for heard in await site.verdicts()]
    assert [claim.claim for claim in claims if claim] == [1, 2]
    assert len({claim.stream for claim in claims if claim}) == 1
    accepted = [heard.event.accepted for heard in await site.verdicts()]
    row = await site.database.fetchrow("select claims, accepted from fleet_stream")
    assert row is not None
    assert tuple(row) == (2, sum(accepted))


async def test_too_little_evidence_for_a_fleet_is_told_as_such(site: Site) -> None:
    site.judge = replace(site.judge, fleet_minimum=2)
    await crowd(site, "valve", "tap")
    await site.work()
    await site.database.execute("update fleet_stream set claims = 1000000000000")

    found = await site.judged(1, a_version(World.drawn(), slope=0.4))

    assert (found.accepted, found.reason) == (False, "fleet_fdr")
    assert all(gate.passed for gate in found.gates)
    assert found.fleet is not None
    assert not found.fleet.passed
    assert found.fleet.e_value < found.fleet.threshold


async def test_a_claim_of_somebody_else_in_the_last_moment_moves_this_one_behind_it(
    site: Site,
) -> None:
    site.judge = replace(site.judge, fleet_minimum=2)
    await crowd(site, "valve", "tap")
    await site.work()
    stream = await site.database.fetchval("select stream from fleet_stream")
    await site.register(1, a_version(World.drawn()))
    job = await site.jobs.claim("a test")
    assert job is not None

    async with site.database.transaction():
        await site.store.locked_stream(stream)
        judging = asyncio.create_task(site.judge.work(job), context=contextvars.Context())
        await eventually(site.somebody_waits, what="the verdict waits for the stream")
        await site.store.add_claim(stream, accepted=False)
    await judging

    claim = (await site.verdicts())[-1].event.fleet
    assert claim is not None
    assert (claim.claim, claim.accepted_before) == (4, 2)
    assert await site.store.uses("pump", "e" * 64) == 1


# --- the best of several ----------------------------------------------------------------------


async def three_versions(site: Site) -> list[Version]:
    """The second is the best; the third, the worst, is the champion."""
    world = World.drawn()
    files = [a_version(world, slope=slope) for slope in (2.0, 3.0, 1.0)]
    for version, one in enumerate(files, start=1):
        await site.judged(version, one)
    await site.promote(3, files[2])
    return files


async def test_the_best_registered_version_may_be_asked_for(site: Site) -> None:
    files = await three_versions(site)

    asked = await site.ask(
        "POST", "/models/pump/best", "operator", json={"metric": "rmse", "reason": "spring"}
    )
    await site.work()

    assert asked.status_code == 202
    found = (await site.verdicts())[-1].event
    assert (found.version, found.manifest, found.accepted) == (2, files[1].digest, True)
    assert (found.champion, found.mode) == (3, "change")
    assert found.best is not None
    assert (found.best.by, found.best.metric, found.best.reason) == (
        "the-operator",
        "rmse",
        "spring",
    )
    assert [version for version, _ in found.best.ranking] == [2, 1, 3]
    assert found.holdout_use == 3 + 2


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"metric": "roc_auc", "reason": "it judges no regression"}, "/metric"),
        ({"metric": "mae", "reason": "a\0b"}, "/reason"),
    ],
)
async def test_what_cannot_be_looked_for_is_refused_at_once(
    site: Site, asked: dict[str, str], place: str
) -> None:
    await three_versions(site)
    before = len(await site.verdicts())

    answer = await site.ask("POST", "/models/pump/best", "operator", json=asked)
    await site.work()

    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [place]
    assert len(await site.verdicts()) == before


async def test_a_champion_that_is_the_best_stays(site: Site) -> None:
    files = await three_versions(site)
    await site.promote(2, files[1])

    await site.ask("POST", "/models/pump/best", "operator", json={"metric": "mae"})
    await site.work()

    found = (await site.verdicts())[-1].event
    assert (found.version, found.champion, found.accepted) == (2, 2, False)
    assert "the champion is the best of the newest 3" in found.gates[0].detail


async def test_a_version_that_cannot_be_scored_is_ranked_last(site: Site, tmp_path: Path) -> None:
    files = await three_versions(site)
    (tmp_path / key_of(files[0].digest)).unlink()

    await site.ask("POST", "/models/pump/best", "operator", json={"metric": "mae"})
    await site.work()

    found = (await site.verdicts())[-1].event
    assert found.best is not None
    assert found.best.ranking[-1] == (1, None)


@pytest.mark.parametrize(
    ("path", "role", "body", "status"),
    [
        ("/models/pump/best", "viewer", {"metric": "mae"}, 403),
        ("/models/pump/best", "operator", {"metric": "beauty"}, 422),
        ("/models/pump/best", "operator", {"metric": "mae", "more": 1}, 422),
        ("/models/absent/best", "operator", {"metric": "mae"}, 404),
    ],
)
async def test_a_wrong_request_for_the_best_is_refused(
    site: Site, path: str, role: str, body: Any, status: int
) -> None:
    await site.judged(1, a_version(World.drawn()))

    answer = await site.ask("POST", path, role, json=body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_signed_request_on_the_bus_is_carried_out_once(site: Site) -> None:
    await three_versions(site)
    asked = BestRequested(model=PUMP, metric="mae", by="the-operator", reason="spring")

    heard = await site.hear(asked, signed=True)
    await site.hear(asked, event_id=heard.id, signed=True)
    await site.work()

    best = [one.event for one in await site.verdicts() if one.event.best is not None]
    assert [one.version for one in best] == [2]


@pytest.mark.parametrize(
    ("by", "signed"),
    [("the-operator", False), ("the-viewer", True), ("nobody", True)],
)
async def test_a_request_that_nobody_may_make_changes_nothing(
    site: Site, by: str, signed: bool
) -> None:
    await three_versions(site)

    heard = await site.hear(
        BestRequested(model=PUMP, metric="mae", by=by, reason=""), signed=signed
    )

    assert await site.best_jobs.waiting() == 0
    (refused,) = await site.said(BestRefused)
    assert (refused.event.by, refused.event.request) == (by, heard.id)
    assert refused.event.code in ("signature_missing", "not_permitted", "nobody_known")


async def test_a_request_about_a_model_that_is_not_there_is_not_repeated(site: Site) -> None:
    await site.hear(
        BestRequested(model=PUMP, metric="mae", by="the-operator", reason=""), signed=True
    )

    assert await site.said(BestRefused) == []


async def test_the_best_is_looked_for_again_when_the_champion_has_changed(site: Site) -> None:
    files = await three_versions(site)
    asked = {"metric": "mae", "reason": "spring"}
    await site.ask("POST", "/models/pump/best", "operator", json=asked)
    await site.work()
    verdict = (await site.verdicts())[-1]
    aborted = RolloutAborted(
        model=PUMP,
        rollout=RolloutId(uuid7()),
        version=2,
        dataset_version=2,
        reason="champion_changed",
        detail="",
        evidence={"evaluation": str(verdict.id)},
    )

    await site.promote(1, files[0])
    await site.hear(aborted)
    await site.hear(replace(aborted, detail="told twice in one reign"))
    await site.work()

    best = [one.event for one in await site.verdicts() if one.event.best is not None]
    assert [(one.version, one.champion) for one in best] == [(2, 3), (2, 1)]
    assert best[1].best is not None
    assert (best[1].best.by, best[1].best.reason) == ("the-operator", "spring")


async def test_a_rollout_that_ends_for_another_reason_asks_for_nothing(site: Site) -> None:
    await three_versions(site)
    aborted = RolloutAborted(
        model=PUMP,
        rollout=RolloutId(uuid7()),
        version=2,
        dataset_version=2,
        reason="champion_changed",
        detail="",
        evidence={},
    )

    await site.hear(aborted)
    await site.hear(replace(aborted, reason="worse", evidence={"evaluation": str(uuid7())}))

    assert await site.best_jobs.waiting() == 0
