"""Killed at any moment around a decision to retrain, the monitor decides it once, and as it would.

Each story is told to a monitor that never dies and to a process that does; what both say, down to
the ids, and what both keep is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.stack import Infrastructure
from services.drift_monitor.brake import USUAL
from shared.artifacts import ArtifactStore
from shared.events import (
    ModelName,
    RunId,
    TrainingSkipped,
    TrainingStarted,
)
from shared.ids import derived
from tests.drift_monitor.building import PUMP, Serving, a_spec, published, registered
from tests.drift_monitor.stories import POINTS, SHIFT, Stand, Story, open_stand, told
from tests.drift_monitor.test_service import PROFILE, promoted

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
OTHER = ModelName("pump-2")
SPEC = a_spec(confirm=2, cooldown="24h")
ONE_AN_HOUR = replace(USUAL, budget=1)


@pytest.fixture
async def stand(
    child_settings: dict[str, str],
    infrastructure: Infrastructure,
    artifacts: ArtifactStore,
    tmp_path: Path,
) -> AsyncIterator[Stand]:
    async with open_stand(
        child_settings, infrastructure, artifacts, tmp_path, ONE_AN_HOUR
    ) as opened:
        yield opened


def a_decision(artifacts: ArtifactStore) -> Story:
    """An alarm, a refusal, calm; an alarm, a request, nothing comes of it; two more refusals."""
    story, serving = Story(), Serving()
    story.tell(registered(artifacts, PROFILE, spec=SPEC), promoted(), published(1, 100))
    story.windows(serving, 1)
    story.windows(serving, 1, SHIFT)
    story.dies_at("drift.detected", "the first alarm")
    story.windows(serving, 1, SHIFT)
    story.dies_at("retraining.withheld", "no labels")
    story.windows(serving, 3)
    story.dies_at("drift.cleared", "calm again")
    story.tell(published(2, 900))
    story.windows(serving, 2, SHIFT)
    story.dies_at("retraining.requested", "the request")
    story.tell(begun(), in_vain())
    story.windows(serving, 1, SHIFT)
    story.dies_at("retraining.withheld", "cool-down")
    another(story, artifacts)
    story.dies_at("retraining.withheld", "budget")
    return story


def another(story: Story, artifacts: ArtifactStore) -> None:
    """A second model whose change is confirmed when the only token is spent."""
    told_of = replace(registered(artifacts, PROFILE, spec=SPEC), model=OTHER)
    serving = Serving("serving-1")
    story.tell(told_of, replace(promoted(), model=OTHER))
    story.windows(serving, 1, models=[OTHER])
    story.windows(serving, 2, SHIFT, models=[OTHER])


def begun() -> TrainingStarted:
    return TrainingStarted(
        model=PUMP,
        run=RunId(derived(None, "run", 2)),
        attempt=1,
        dataset=published(1, 1).dataset,
        dataset_version=2,
        trigger="drift",
    )


def in_vain() -> TrainingSkipped:
    return TrainingSkipped(
        model=PUMP,
        dataset=published(1, 1).dataset,
        dataset_version=2,
        trigger="drift",
        reason="nothing_new",
        detail="nothing new",
    )


def decided(events: Sequence[dict[str, Any]]) -> Counter[str]:
    """Requests and refusals by their reason, and other turns of a course."""
    return Counter(
        event["data"].get("reason", "") if "retraining" in event["type"] else event["type"]
        for event in events
        if any(kind in event["type"] for kind in ("retraining", "drift."))
    )


DECIDED = {
    "not_confirmed": 3,
    "no_labels": 1,
    "cool_down": 1,
    "budget": 1,
    "drift": 1,
    "tidewheel.drift.detected.v1": 3,
    "tidewheel.drift.cleared.v1": 1,
}
"""Of the whole story: one request, and one refusal of each reason for each change."""


async def play(stand: Stand, story: Story, points: Sequence[str]) -> None:
    said = await story.undisturbed(stand.site)
    stand.player.faults = story.faults(points, said)

    await stand.player.play(story)

    killed, undisturbed = await stand.outcomes()
    assert stand.player.deaths == len(points)
    assert killed == undisturbed
    assert decided(await told(stand.database)) == DECIDED


async def test_killed_around_an_alarm_and_a_request_each_is_decided_once(
    stand: Stand, artifacts: ArtifactStore
) -> None:
    story = a_decision(artifacts).dying_only_at("the first alarm", "the request")

    await play(stand, story, POINTS[:2])


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(len(POINTS)))
async def test_killed_at_every_point_around_every_decision_each_is_decided_once(
    stand: Stand, artifacts: ArtifactStore, first: int
) -> None:
    story = a_decision(artifacts)
    points = [POINTS[(first + n) % len(POINTS)] for n in range(len(story.deaths))]

    await play(stand, story, points)
