"""The evaluator as a process on the real broker: killed midway, it decides nothing twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.evaluator.app import MIGRATIONS
from shared import clock, codec
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.events import (
    AnchorMoved,
    EvaluationCompleted,
    Event,
    Heard,
    ModelName,
    ModelPromoted,
    RolloutId,
)
from shared.ids import uuid7
from shared.postgres import Database
from shared.topics import topic_of
from tests.conftest import OpenDatabase
from tests.drift_monitor.child import Child
from tests.evaluator.building import World, a_registration, a_spec, a_version
from tests.support.nights import by_day

pytestmark = pytest.mark.real


class Evaluator(Child):
    service = "evaluator"


@dataclass
class Stand:
    """A broker with topics, an empty database, and the evaluator's process beside them."""

    kafka: str
    prefix: str
    database: Database
    artifacts: ArtifactStore
    child: Evaluator

    async def tell(self, *events: Event) -> None:
        for event in events:
            chosen = uuid7()
            heard = Heard(
                event=event,
                id=chosen,
                source="//tidewheel/test",
                time=clock.now(),
                correlation=chosen,
                sequence=1,
            )
            # Heard twice, as after a crash of whoever said it.
            await publish(self.kafka, self.prefix, topic_of(type(event)), [heard, replace(heard)])

    async def said(self, kind: type[Event]) -> list[Heard[Event]]:
        rows = await self.database.fetch("select payload from said order by subject, sequence")
        heard = [codec.decode(row["payload"]) for row in rows]
        return [one for one in heard if isinstance(one.event, kind)]

    async def wait_for(self, kind: type[Event], count: int) -> None:
        async def enough() -> bool:
            waiting = await self.database.fetchval("select count(*) from outbox")
            return len(await self.said(kind)) >= count and waiting == 0

        await self.child.wait(enough, what=f"{count} of {kind.TYPE}, sent")


@pytest.fixture
async def stand(
    kafka: str, topic_prefix: str, database_url: str, open_database: OpenDatabase, tmp_path: Path
) -> AsyncIterator[Stand]:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": []}))
    artifacts = ArtifactStore(f"file://{tmp_path}/artifacts")
    settings = {
        "KAFKA": kafka,
        "TOPIC_PREFIX": topic_prefix,
        "DATABASE": database_url,
        "ARTIFACTS": artifacts.url,
        "FLEET_MINIMUM": "2",
    }
    with Evaluator(tmp_path, settings) as child:
        database = await open_database("evaluator", MIGRATIONS)
        yield Stand(kafka, topic_prefix, database, artifacts, child)


@pytest.mark.timeout(240)
@by_day(
    "fault",
    [
        "before_complete@verdict:2",
        "before_commit@tidewheel.evaluation.completed.v1:2",
        "after_commit_before_publish@tidewheel.evaluation.completed.v1:2",
        "after_complete@verdict:2",
        "before_commit@tidewheel.anchor.moved.v1",
        "after_commit_before_publish@tidewheel.anchor.moved.v1",
    ],
    "after_complete@verdict:2",
    "before_commit@tidewheel.anchor.moved.v1",
)
async def test_killed_between_any_two_steps_it_takes_and_says_everything_once(
    stand: Stand, fault: str
) -> None:
    files = a_version(World.drawn()).keep(stand.artifacts)
    valve = a_registration(1, files, spec=a_spec() | {"name": "valve"}, model="valve")
    await stand.tell(valve, a_registration(1, files))

    stand.child.start(fault)
    if "anchor" not in fault:
        await stand.child.wait(lambda: _gone(stand), what="its death at the fault point")
        stand.child.start()
    await stand.wait_for(EvaluationCompleted, 2)
    verdicts = await stand.said(EvaluationCompleted)
    await stand.tell(promoted(verdicts[0], files.digest))
    if "anchor" in fault:
        await stand.child.wait(lambda: _gone(stand), what="its death at the fault point")
        stand.child.start()
    await stand.wait_for(AnchorMoved, 1)

    events = [heard.event for heard in await stand.said(EvaluationCompleted)]
    claims = [event.fleet.claim for event in events if _is_claim(event)]  # type: ignore[attr-defined] # claims only
    uses = await stand.database.fetch("select uses from holdout_use")
    assert len(events) == 2
    assert [row["uses"] for row in uses] == [1, 1]
    assert await stand.database.fetchval("select max(claims) from fleet_stream") == len(claims)
    assert await stand.database.fetchval("select count(*) from anchor") == 1
    assert len(await stand.said(AnchorMoved)) == 1
    assert await stand.database.fetchval("select count(*) from dead_letter") == 0


async def _gone(stand: Stand) -> bool:
    return stand.child.is_gone()


def _is_claim(event: Event) -> bool:
    return isinstance(event, EvaluationCompleted) and event.fleet is not None


def promoted(verdict: Heard[Event], manifest: str) -> ModelPromoted:
    assert isinstance(verdict.event, EvaluationCompleted)
    return ModelPromoted(
        model=ModelName(verdict.event.model),
        rollout=RolloutId(uuid7()),
        version=1,
        manifest=verdict.event.manifest,
        previous=None,
        dataset_version=1,
        generation=1,
        evaluation=verdict.id,
        evidence={"manifest": manifest},
    )
