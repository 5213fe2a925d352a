"""The monitor as a process on the real broker: killed midway, it counts nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.drift_monitor.app import MIGRATIONS
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.codec import decode
from shared.events import Event, Heard, LossesObserved, WindowEvaluated
from shared.postgres import Database
from shared.topics import FEEDBACK, MODELS, PREDICTIONS, topic_of
from tests.conftest import OpenDatabase
from tests.drift_monitor.building import (
    Serving,
    a_label,
    a_profile,
    a_spec,
    autoregressive,
    registered,
    shadowed,
)
from tests.drift_monitor.child import Child
from tests.drift_monitor.conftest import heard_of

pytestmark = pytest.mark.real

QUIET = autoregressive(0.3, 1000, 3, seed=2)
PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=50)


@dataclass
class Stand:
    """A broker with topics, an empty database, and the monitor's process beside them."""

    kafka: str
    prefix: str
    database: Database
    artifacts: ArtifactStore
    child: Child

    async def tell(self, *events: Event) -> list[Heard[Event]]:
        heards = [heard_of(event) for event in events]
        for heard in heards:
            topic = topic_of(type(heard.event))
            numbered = _numbered(heard) if topic.sequenced else heard
            await publish(self.kafka, self.prefix, topic, [numbered])
        return heards

    async def counted(self) -> int:
        return int(await self.database.fetchval("select coalesce(sum(rows), 0) from window_sketch"))

    async def labelled(self) -> int:
        return int(
            await self.database.fetchval(
                "select count(*) from outcome where counts and loss is not null"
            )
        )

    async def losses_said(self) -> list[str]:
        """Predictions whose pairs were told, as often as they were."""
        rows = await self.database.fetch("select payload from said order by sequence")
        events = [decode(row["payload"]).event for row in rows]
        told = [event for event in events if isinstance(event, LossesObserved)]
        return [pair.prediction for event in told for pair in event.pairs]

    async def windows_said(self) -> list[int]:
        rows = await self.database.fetch("select payload from said order by sequence")
        events = [decode(row["payload"]).event for row in rows]
        return [event.window for event in events if isinstance(event, WindowEvaluated)]


def _numbered(heard: Heard[Event]) -> Heard[Event]:
    return replace(heard, sequence=1)


@pytest.fixture
async def stand(
    kafka: str,
    topic_prefix: str,
    child_settings: dict[str, str],
    open_database: OpenDatabase,
    artifacts: ArtifactStore,
    tmp_path: Path,
) -> AsyncIterator[Stand]:
    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)
    with Child(tmp_path, child_settings) as child:
        database = await open_database("drift_monitor", MIGRATIONS)
        yield Stand(kafka, topic_prefix, database, artifacts, child)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["before_commit", "after_commit_before_publish"])
async def test_killed_midway_no_prediction_counts_twice_and_none_is_lost(
    stand: Stand, fault: str
) -> None:
    serving = Serving()
    await stand.tell(registered(stand.artifacts, PROFILE, spec=a_spec(window=50)))
    batches = serving.batches_of(QUIET[:500], size=10)
    labels = [a_label(p, y + 0.1) for p, y in serving.asked]
    # Labels race the spool: some are there before their predictions.
    heards = [heard_of(event) for event in labels]
    await publish(stand.kafka, stand.prefix, FEEDBACK, heards[::2])

    stand.child.start(f"{fault}@tidewheel.predictions.logged.v1:2")
    sent = [heard_of(event) for event in batches]
    await publish(stand.kafka, stand.prefix, PREDICTIONS, sent[:25])
    await publish(stand.kafka, stand.prefix, PREDICTIONS, sent[20:])

    async def is_gone() -> bool:
        return stand.child.is_gone()

    await stand.child.wait(is_gone, what="the process to die at its fault point")
    await publish(stand.kafka, stand.prefix, FEEDBACK, heards)
    stand.child.start()

    async def is_done() -> bool:
        return await stand.counted() >= 500 and await stand.labelled() >= 500

    await stand.child.wait(is_done, what="all rows and labels")
    assert (await stand.counted(), await stand.labelled()) == (500, 500)
    assert await stand.windows_said() == list(range(1, 11))
    assert await stand.database.fetchval("select count(*) from dead_letter") == 0
    joined = await stand.database.fetchval("select sum(labels) from window_quality")
    assert joined == 500


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["before_commit", "after_commit_before_publish"])
@pytest.mark.parametrize("label", ["ground_truth.observed", "predictions.logged"])
async def test_killed_around_the_join_each_pair_is_told_once(
    stand: Stand, fault: str, label: str
) -> None:
    serving = Serving()
    one, other = (registered(stand.artifacts, PROFILE, number) for number in (1, 2))
    await stand.tell(one)
    await publish(stand.kafka, stand.prefix, MODELS, [replace(heard_of(other), sequence=2)])
    batches = [shadowed(batch) for batch in serving.batches_of(QUIET[:200], size=10)]
    labels = [heard_of(a_label(p, y + 0.1)) for p, y in serving.asked]
    await publish(stand.kafka, stand.prefix, FEEDBACK, labels[::3])
    await publish(stand.kafka, stand.prefix, PREDICTIONS, [heard_of(b) for b in batches])

    stand.child.start(f"{fault}@tidewheel.{label}.v1:2")
    await publish(stand.kafka, stand.prefix, FEEDBACK, labels)

    async def is_gone() -> bool:
        return stand.child.is_gone()

    await stand.child.wait(is_gone, what="the process to die at its fault point")
    await publish(stand.kafka, stand.prefix, FEEDBACK, labels)
    await publish(stand.kafka, stand.prefix, PREDICTIONS, [heard_of(b) for b in batches[:5]])
    stand.child.start()

    async def is_done() -> bool:
        return len(await stand.losses_said()) >= 200 and await stand.counted() >= 200

    await stand.child.wait(is_done, what="all pairs")
    assert sorted(await stand.losses_said()) == sorted(p for p, _ in serving.asked)
    assert await stand.counted() == 200
    assert await stand.database.fetchval("select count(*) from dead_letter") == 0


async def test_it_starts_small_and_ends_in_order(stand: Stand) -> None:
    stand.child.start()

    async def is_ready() -> bool:
        return stand.child.is_ready()

    await stand.child.wait(is_ready, what="readiness")

    assert stand.child.proportional_megabytes() < 160
    assert stand.child.terminate() == 0
