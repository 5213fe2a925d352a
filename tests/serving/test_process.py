"""The whole replica over a real broker: what it hears and says, and what survives its death."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.stack import Infrastructure
from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.events import (
    Event,
    GroundTruthObserved,
    Heard,
    PredictionsLogged,
    ReplicaAnnounced,
    ServingApplied,
    ServingMeasured,
)
from shared.topics import DEPLOYMENT, FEEDBACK, PREDICTIONS, SERVING
from tests.serving.alone import a_rollout
from tests.serving.building import Version, a_desired, a_version, settings_for
from tests.serving.child import A_ROW, Child, heard_on, logged_ids, of_kind

pytestmark = pytest.mark.real


@pytest.fixture
def settings(tmp_path: Path, kafka: str, topic_prefix: str) -> Settings:
    return settings_for(tmp_path, kafka=kafka, topic_prefix=topic_prefix)


@pytest.fixture
def version(settings: Settings) -> Version:
    return a_version(ArtifactStore(settings.artifacts), 1)


@pytest.fixture
def child(settings: Settings) -> Iterator[Child]:
    with Child(settings) as found:
        yield found


async def deploy(child: Child, heard: Heard[Any]) -> None:
    settings = child.settings
    await ensure_topics(settings.kafka, prefix=settings.topic_prefix, partitions=2)
    await publish(settings.kafka, settings.topic_prefix, DEPLOYMENT, [heard])


async def started(child: Child, version: Version | None = None, **how: str) -> None:
    """The child runs and answers by the first generation; without a version by the rule alone.

    What happens to the log does not depend on who answers, and a rule needs no library.
    """
    await deploy(child, a_desired(1, version))
    await asyncio.to_thread(lambda: child.start(until=lambda: child.serves(1), **how))


async def batches_with(child: Child, ids: set[str]) -> list[Heard[Event]]:
    settings = child.settings
    return await heard_on(
        settings.kafka, settings.topic_prefix, PREDICTIONS, lambda h: ids <= logged_ids(h).keys()
    )


async def test_what_is_desired_is_applied_answered_logged_and_measured(
    child: Child, version: Version
) -> None:
    await started(child, version)
    answers = await asyncio.to_thread(child.ask, [A_ROW, {**A_ROW, "pump": "north"}])
    outcome = {"prediction_id": answers[0]["prediction_id"], "value": 11.5}
    taken = await asyncio.to_thread(
        lambda: child.http.post("/v1/feedback", json={"model": "flow", "observations": [outcome]})
    )
    await asyncio.to_thread(child.terminate)

    kafka, prefix = child.settings.kafka, child.settings.topic_prefix
    kinds: tuple[type[Event], ...] = (ServingApplied, ReplicaAnnounced, ServingMeasured)
    serving = await heard_on(
        kafka, prefix, SERVING, lambda h: all(of_kind(h, kind) for kind in kinds)
    )
    logged = await heard_on(kafka, prefix, PREDICTIONS, bool)
    feedback = await heard_on(kafka, prefix, FEEDBACK, bool)
    rows = [row for event in of_kind(logged, PredictionsLogged) for row in event.rows]
    assert taken.status_code == 202
    assert of_kind(serving, ServingApplied)[0].generation == 1
    assert of_kind(serving, ServingMeasured)[0].arms[0].requests == 2
    assert [row.id for row in rows] == [a["prediction_id"] for a in answers]
    assert of_kind(feedback, GroundTruthObserved)[0].prediction == answers[0]["prediction_id"]
    sequences = [one.event.replica_sequence for one in serving]  # type: ignore[attr-defined] # its own
    assert len(set(sequences)) == len(sequences)


FAULTS = [
    "before_commit@tidewheel.predictions.logged.v1:30",
    "after_commit_before_publish@tidewheel.predictions.logged.v1:30",
    "after_publish_before_offset@tidewheel.predictions.logged.v1:3",
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_answer_is_logged_exactly_once_wherever_the_process_dies(
    child: Child, fault: str
) -> None:
    await started(child, fault=fault)
    answered = set(await asyncio.to_thread(child.ask_until_gone))

    await asyncio.to_thread(child.start)
    last = {a["prediction_id"] for a in await asyncio.to_thread(child.ask)}
    heard = await batches_with(child, answered | last)

    found = logged_ids(heard)
    assert answered
    assert all(len(numbers) == 1 for numbers in found.values())


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_process_that_dies_leaves_no_unseen_answer_without_the_seen_one(
    child: Child, version: Version, fault: str
) -> None:
    shadow = a_version(ArtifactStore(child.settings.artifacts), 2)
    await deploy(child, a_desired(1, version, shadow=shadow))
    await asyncio.to_thread(lambda: child.start(until=lambda: child.serves(1), fault=fault))
    answered = set(await asyncio.to_thread(child.ask_until_gone))

    await asyncio.to_thread(child.start)
    last = {a["prediction_id"] for a in await asyncio.to_thread(child.ask, [A_ROW] * 20)}
    await asyncio.to_thread(child.terminate)

    heard = await batches_with(child, answered | last)
    rows = {r.id: r for event in of_kind(heard, PredictionsLogged) for r in event.rows}
    unseen = [row for row in rows.values() if row.shadow_of is not None]
    assert answered
    assert all(len(numbers) == 1 for numbers in logged_ids(heard).values())
    assert {row.shadow_of for row in unseen} <= rows.keys() - {row.id for row in unseen}
    assert last <= {row.shadow_of for row in unseen}, "a stop in order asks what waits"


@pytest.mark.parametrize("rolls_out", [False, True], ids=["a rule", "a rollout"])
async def test_kill_9_under_load_loses_and_doubles_nothing(
    child: Child, *, rolls_out: bool
) -> None:
    answered: set[str] = set()
    if rolls_out:
        await deploy(child, a_rollout(ArtifactStore(child.settings.artifacts)))
        await asyncio.to_thread(lambda: child.start(until=lambda: child.serves(1)))
    else:
        await started(child)
    for _ in range(2):
        askers = [asyncio.create_task(asyncio.to_thread(keep_asking, child)) for _ in range(4)]
        await asyncio.to_thread(lambda: [child.ask() for _ in range(100)])
        child.kill()
        for ids in await asyncio.gather(*askers):
            answered |= set(ids)
        await asyncio.to_thread(child.start)

    heard = await batches_with(child, answered)

    assert len(answered) > 100
    assert all(len(numbers) == 1 for numbers in logged_ids(heard).values())


def keep_asking(child: Child) -> list[str]:
    ids: list[str] = []
    with httpx.Client(base_url=child.http.base_url, headers=child.http.headers) as client:
        while True:
            try:
                response = client.post("/v1/models/flow/predict", json={"rows": [A_ROW]})
            except httpx.TransportError:
                return ids
            assert response.status_code == 200
            ids += [one["prediction_id"] for one in response.json()["predictions"]]


async def test_it_answers_while_the_broker_is_dead_and_tells_all_of_it_afterwards(
    infrastructure: Infrastructure, child: Child
) -> None:
    await started(child)
    await asyncio.to_thread(infrastructure.stop_broker)
    try:
        ids = [a["prediction_id"] for _ in range(150) for a in await asyncio.to_thread(child.ask)]
        child.kill()
        await asyncio.to_thread(child.start)
        ids += [a["prediction_id"] for _ in range(50) for a in await asyncio.to_thread(child.ask)]
    finally:
        await asyncio.to_thread(infrastructure.start_broker)

    heard = await batches_with(child, set(ids))

    assert len(ids) == 200
    assert all(len(numbers) == 1 for numbers in logged_ids(heard).values())


async def test_sigterm_finishes_what_is_in_flight_and_sends_the_spool(child: Child) -> None:
    await started(child)
    rows = [A_ROW] * 3_000
    asking = asyncio.create_task(asyncio.to_thread(child.ask, rows))
    await asyncio.to_thread(child.ask)

    code, seconds = await asyncio.to_thread(child.terminate)

    answers = await asking
    heard = await batches_with(child, {a["prediction_id"] for a in answers})
    assert (code, len(answers)) == (0, 3_000)
    assert seconds < 10
    assert all(len(numbers) == 1 for numbers in logged_ids(heard).values())


async def test_it_starts_and_answers_with_everything_else_dead(
    child: Child, version: Version, settings: Settings
) -> None:
    await started(child, version)
    child.kill()
    shutil.rmtree(settings.artifacts.removeprefix("file://"))
    alone = settings.model_copy(update={"kafka": "127.0.0.1:9", "artifacts": "s3://nowhere/x"})

    with Child(alone) as again:
        await asyncio.to_thread(again.start)
        answer = (await asyncio.to_thread(again.ask))[0]
        state = again.http.get("/ready").json()

    assert (answer["version"], answer["rung"]) == (1, "champion")
    assert (state["ready"], state["broker"]) == (True, "silent")


async def test_a_new_replica_is_ready_after_its_first_sight_and_goes_on_from_its_position(
    child: Child,
) -> None:
    await deploy(child, a_desired(1))
    await asyncio.to_thread(child.start)
    first = child.http.get("/ready").json()
    await asyncio.to_thread(child.terminate)
    await deploy(child, a_desired(2))

    await asyncio.to_thread(lambda: child.start(until=lambda: child.serves(2)))

    assert (first["caught_up"], first["models"]) == (True, 1)
    assert (await asyncio.to_thread(child.ask))[0]["generation"] == 2
