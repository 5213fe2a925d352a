"""Killed at any moment around a brake, the monitor sets it once, lifts it once, and forgets nobody.

All of six models change at once. Their brake is lifted by two people at once, or by time; then each
model is asked for once. All of it is as where nothing dies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from local.stack import Infrastructure
from services.drift_monitor.brake import USUAL
from shared.access import EVERY_TEAM, Principal, Role
from shared.artifacts import ArtifactStore
from shared.events import ModelName
from shared.postgres import Cause
from tests.drift_monitor.building import Serving, a_spec, published, registered
from tests.drift_monitor.stories import POINTS, SHIFT, Stand, Story, open_stand, told
from tests.drift_monitor.test_service import PROFILE, promoted
from tests.support.door import door_settings

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
MODELS = [ModelName(f"m-{n}") for n in range(6)]
SOON = timedelta(seconds=0.5)
A_CROWD = replace(USUAL, least_confirmed=3, least_watched=4, settle=SOON)
SET = "brake.set"
LIFTED = "brake.lifted"
ASKED = "retraining.requested"
ONCE = Counter({SET: 1, "retraining.withheld": len(MODELS), LIFTED: 1, ASKED: len(MODELS)})


@pytest.fixture
async def stand(
    child_settings: dict[str, str],
    infrastructure: Infrastructure,
    artifacts: ArtifactStore,
    tmp_path: Path,
) -> AsyncIterator[Stand]:
    door_settings(tmp_path)  # keys for people, in the file that the process reads
    async with open_stand(child_settings, infrastructure, artifacts, tmp_path, A_CROWD) as opened:
        yield opened


def a_heatwave(artifacts: ArtifactStore, **monitor: str) -> Story:
    """Every model has had a quiet window, and enough new rows to learn from; then all change."""
    story, spec = Story(), a_spec(**monitor)
    story.tell(published(1, 100), published(2, 900))
    known = registered(artifacts, PROFILE, spec=spec)
    story.tell(*(replace(known, model=model) for model in MODELS))
    story.tell(*(replace(promoted(), model=model) for model in MODELS))
    serving = Serving()
    story.windows(serving, 1, models=MODELS)
    story.windows(serving, 1, SHIFT, models=MODELS)
    return story


def faults(points: Sequence[str]) -> list[str]:
    """To die as the brake is set, as it is lifted, and among those that are asked for then."""
    # The relay may send all six at once; of transactions each has its own.
    nth = "" if points[2] == "after_publish_before_offset" else ":2"
    kinds = (SET, LIFTED, ASKED)
    return [
        f"{point}@tidewheel.{kind}.v1{nth if kind == ASKED else ''}"
        for point, kind in zip(points, kinds, strict=True)
    ]


async def decided(stand: Stand) -> Counter[str]:
    """What was said of brakes and retrainings."""
    types = [event["type"].split(".", 1)[1] for event in await told(stand.database)]
    return Counter(
        kind.removesuffix(".v1") for kind in types if kind.startswith(("brake", "retraining"))
    )


async def held(stand: Stand) -> bool:
    return (await decided(stand))["retraining.withheld"] == len(MODELS)


async def all_asked(stand: Stand) -> bool:
    asked = (await decided(stand))[ASKED] == len(MODELS)
    return asked and await stand.player.is_silent()


async def until_held(stand: Stand, story: Story) -> None:
    await stand.player.play(story)
    await stand.player.until(lambda: held(stand), "every model to be held by the brake")


async def until_asked(stand: Stand) -> None:
    await stand.player.until(lambda: all_asked(stand), "every model to be asked for")


async def looked(stand: Stand, later: timedelta) -> None:
    """So much time passes for the monitor that never dies."""
    stand.site.now += later
    await stand.site.brakes.look()
    while await stand.site.brakes.look_at_one():
        pass


async def ask_to_release(stand: Stand, role: Role) -> httpx.Response:
    """Ask the process, patiently and under one key, until it answers."""
    headers = {"Authorization": f"Bearer tw_{role}", "Idempotency-Key": f"by-{role}"}
    body = {"scope": "fleet", "reason": "the sensors really are new"}
    async with httpx.AsyncClient(base_url=stand.player.child.url, headers=headers) as people:
        while True:
            try:
                answer = await people.post("/v1/brakes/release", json=body)
            except httpx.TransportError:
                await asyncio.sleep(0.05)  # its door is shut while it is dead
            else:
                if answer.status_code < 500:
                    return answer


async def finished(stand: Stand, *asking: Awaitable[httpx.Response]) -> list[httpx.Response]:
    """The answers to people who ask at the same time, whatever dies meanwhile."""
    tasks = [asyncio.ensure_future(one) for one in asking]

    async def all_done() -> bool:
        return all(task.done() for task in tasks)

    await stand.player.until(all_done, "people to be answered")
    return [task.result() for task in tasks]


async def release_with_two_people(stand: Stand, artifacts: ArtifactStore) -> None:
    story = a_heatwave(artifacts)
    await until_held(stand, story)

    answers = await finished(
        stand, ask_to_release(stand, Role.OPERATOR), ask_to_release(stand, Role.ADMIN)
    )
    await until_asked(stand)

    assert sorted(answer.status_code for answer in answers) == [200, 404]
    (winner,) = [one.json()["by"] for one in answers if one.status_code == 200]
    await story.undisturbed(stand.site)
    await looked(stand, SOON)
    await lift_undisturbed(stand, winner)
    await looked(stand, timedelta(0))
    assert await decided(stand) == ONCE
    await assert_as_undisturbed(stand)


async def assert_as_undisturbed(stand: Stand) -> None:
    """Looks have ids of their moments; all else is the same."""
    killed, undisturbed = await stand.outcomes(with_ids=False)
    # While the relay dies of the end of the brake, more may be asked for than are left to die of.
    assert stand.player.deaths >= len(stand.player.faults[:2])
    assert killed == undisturbed


async def lift_undisturbed(stand: Stand, name: str) -> None:
    grants = {EVERY_TEAM: frozenset({Role.OPERATOR})}
    person = Principal(name=name, key="-", grants=grants)
    async with stand.site.database.transaction(Cause.outside()):
        await stand.site.brakes.lift("fleet", person, "the sensors really are new")


async def lift_by_time(stand: Stand, artifacts: ArtifactStore) -> None:
    story = a_heatwave(artifacts, horizon="20s")

    await until_held(stand, story)
    await until_asked(stand)

    await story.undisturbed(stand.site)
    await looked(stand, SOON)
    await looked(stand, timedelta(seconds=20))
    assert await decided(stand) == ONCE
    await assert_as_undisturbed(stand)


async def test_two_people_release_a_brake_and_its_models_are_asked_for_once_whatever_dies(
    stand: Stand, artifacts: ArtifactStore
) -> None:
    stand.player.faults = faults([*POINTS[1:], POINTS[0]])[:2]

    await release_with_two_people(stand, artifacts)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(len(POINTS)))
async def test_two_people_release_a_brake_once_at_whatever_point_it_dies(
    stand: Stand, artifacts: ArtifactStore, first: int
) -> None:
    stand.player.faults = faults([*POINTS[first:], *POINTS[:first]])

    await release_with_two_people(stand, artifacts)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(len(POINTS)))
async def test_a_brake_ends_by_time_once_and_its_models_are_asked_for_once_whatever_dies(
    stand: Stand, artifacts: ArtifactStore, first: int
) -> None:
    stand.player.faults = faults([*POINTS[first:], *POINTS[:first]])

    await lift_by_time(stand, artifacts)
