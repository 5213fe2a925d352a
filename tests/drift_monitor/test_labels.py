"""Labels in any order, with kills in between, come to what the whole log comes to at any moment."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from services.drift_monitor.app import MIGRATIONS
from services.drift_monitor.handlers.accepting import DOOR, LONGEST_WAY
from shared import clock
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.events import Event, GroundTruthObserved, Heard, ModelName
from shared.topics import FEEDBACK, MODELS, PREDICTIONS
from tests.conftest import OpenDatabase
from tests.drift_monitor.building import (
    NOON,
    PUMP,
    Serving,
    a_label,
    a_profile,
    a_spec,
    autoregressive,
    registered,
)
from tests.drift_monitor.child import Child
from tests.drift_monitor.conftest import Site, heard_of

pytestmark = pytest.mark.real

ROWS, WINDOW = 300, 50
HOUR = timedelta(minutes=20)
"""Of this story: two hundred of them come to less than what a spool holds."""
QUIET = autoregressive(0.3, ROWS, 3, seed=2)
PROFILE = a_profile(autoregressive(0.3, 1000, 3, seed=1), window=WINDOW)
Label = Heard[GroundTruthObserved]


@dataclass(frozen=True)
class Log:
    """Everything that was ever said about outcomes, and what was answered."""

    answers: dict[str, float]
    labels: list[Label]

    def counting(self, prediction: str, at: datetime) -> GroundTruthObserved | None:
        """By the whole log: of the labels known then, the highest revision, first observed."""
        known = [
            heard
            for heard in self.labels
            if heard.event.prediction == prediction
            and heard.time <= at
            and heard.event.model == PUMP
            and isinstance(heard.event.value, float)
        ]
        ranked = sorted(known, key=lambda h: (-h.event.revision, h.event.observed_at, h.id))
        return ranked[0].event if ranked else None

    def losses(self, window: int, at: datetime) -> list[float]:
        names = list(self.answers)[(window - 1) * WINDOW : window * WINDOW]
        counting = [(name, self.counting(name, at)) for name in names]
        return sorted(
            abs(self.answers[name] - float(label.value)) for name, label in counting if label
        )


def a_log(serving: Serving, chance: random.Random, since: datetime) -> Log:
    """Late, revised, conflicting, unusable, misdirected and missing labels; none in order.

    They have waited in serving's spool since moments that only their own time tells.
    """
    labels: list[Label] = []

    def say(prediction: str, value: object, hours: float, **changes: object) -> None:
        told = replace(a_label(prediction, 0.0), value=value, **changes)  # type: ignore[arg-type]
        event = UUID(int=chance.getrandbits(128), version=4)
        labels.append(replace(heard_of(told), id=event, time=since + hours * HOUR, source=DOOR))

    for place, (prediction, answer) in enumerate(serving.asked):
        if place >= 200 and chance.random() < 0.3:
            continue
        first = chance.uniform(1, 100)
        say(prediction, answer + chance.uniform(0.1, 0.9), first)
        for revision in range(2, 2 + chance.choice([0, 0, 0, 1, 2])):
            # Some corrections are accepted before what they correct.
            say(prediction, answer + revision, chance.uniform(1, 200), revision=revision)
        if chance.random() < 0.1:
            later = NOON + timedelta(minutes=chance.choice([-5, 5]))
            say(prediction, answer + 7, chance.uniform(1, 100), observed_at=later)
        if chance.random() < 0.05:
            say(prediction, "nobody knows", first, revision=9)
            say(prediction, answer, first, revision=9, model=ModelName("other"))
    say("never-asked", 1.0, 5)
    chance.shuffle(labels)
    return Log(answers=dict(serving.asked), labels=labels)


@pytest.fixture
def child(child_settings: dict[str, str], tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path, child_settings) as made:
        yield made


@pytest.mark.timeout(240)
async def test_labels_in_any_order_with_kills_in_between_come_to_what_the_log_says(
    child: Child,
    kafka: str,
    topic_prefix: str,
    open_database: OpenDatabase,
    artifacts: ArtifactStore,
    seed: int,
) -> None:
    chance = random.Random(seed)
    await ensure_topics(kafka, prefix=topic_prefix, partitions=2)
    site = Site(await open_database("drift_monitor", MIGRATIONS), artifacts)
    batches = site.serving.batches_of(QUIET, size=25)
    since = clock.now() - LONGEST_WAY + timedelta(hours=2)
    log = a_log(site.serving, chance, since)
    # The last of all, by which it is seen that all were heard.
    last = heard_of(a_label("the-end", 1.0))
    strangers = replace(
        heard_of(a_label("nobody's", 1.0)), time=datetime.fromisoformat("2050-01-01T00:00:00Z")
    )
    third = len(log.labels) // 3

    async def tell(*heards: Heard[Event]) -> None:
        topic = FEEDBACK if isinstance(heards[0].event, GroundTruthObserved) else PREDICTIONS
        await publish(kafka, topic_prefix, topic, list(heards))

    version = replace(
        heard_of(registered(artifacts, PROFILE, spec=a_spec(window=WINDOW))), sequence=1
    )
    await publish(kafka, topic_prefix, MODELS, [version])
    sent = [heard_of(batch) for batch in batches]
    await tell(*log.labels[:third])
    await tell(*sent[:6])
    child.start("before_commit@tidewheel.ground_truth.observed.v1:1")
    await child.wait(_gone(child), what="the process to die at its fault point")
    await tell(*log.labels[third : 2 * third])
    child.start()
    await child.wait(_counts(site, "outcome", 20), what="the first labels to join")
    child.kill()
    await child.wait(_gone(child), what="the process to be killed")
    await tell(*sent[4:])
    child.start("after_commit_before_publish@tidewheel.ground_truth.observed.v1:1")
    await tell(*log.labels[2 * third :], *chance.sample(log.labels, third))
    await child.wait(_gone(child), what="the process to die at its other fault point")
    await tell(strangers, last)
    child.start()

    async def is_done() -> bool:
        found = "select count(*) from waiting_label where prediction = 'the-end'"
        return bool(await site.database.fetchval(found)) and await site.counted() == ROWS

    await child.wait(is_done, what="every label")

    assert await site.database.fetchval("select count(*) from dead_letter") == 0
    stranger = "select known_at from waiting_label where prediction = $1"
    came_at = await site.database.fetchval(stranger, "nobody's")
    assert since + LONGEST_WAY - timedelta(hours=3) < came_at <= clock.now()
    (watched,) = (await site.store.versions([(PUMP, 1)])).values()
    for at in (NOON, *(since + hours * HOUR for hours in (0, 20, 60, 101, 500))):
        for window in range(1, ROWS // WINDOW + 1):
            await _agrees(site, watched, log, window, at)
    await _says_so(site, log)


async def _agrees(site: Site, watched: object, log: Log, window: int, at: datetime) -> None:
    expected = log.losses(window, at)
    look = (await site.store.looks([(PUMP, 1, window)]))[PUMP, 1, window]
    found = await site.store.labelled((PUMP, 1, window), look.begun_at, look.ended_at, at)
    known = await site.judging.measuring.as_known(watched, window, at)  # type: ignore[arg-type] # it is one

    assert sorted(found.losses.tolist()) == pytest.approx(expected)
    assert (known.labels if known else 0) == len(expected)
    if known is not None and known.completeness == 1.0:
        assert known.value == pytest.approx(np.mean(expected))


async def _says_so(site: Site, log: Log) -> None:
    """What was counted and measured on the way is what the log says in the end."""
    ever = NOON + timedelta(days=1000)
    rows = await site.database.fetch("select * from window_quality order by number")
    for row in rows:
        expected = log.losses(row["number"], ever)
        assert row["labels"] == len(expected)
        if len(expected) == WINDOW:
            assert row["quality"]["value"] == pytest.approx(np.mean(expected))
            assert row["state"] == "final"
    came = sum((await site.database.fetchval("select came from label_delay")) or [])
    assert came == sum(row["labels"] for row in rows)
    orphan = "select count(*) from waiting_label where prediction = 'never-asked'"
    assert await site.database.fetchval(orphan) == 1


def _gone(child: Child) -> Callable[[], Awaitable[bool]]:
    async def is_gone() -> bool:
        return child.is_gone()

    return is_gone


def _counts(site: Site, table: str, least: int) -> Callable[[], Awaitable[bool]]:
    async def is_reached() -> bool:
        found = await site.database.fetchval(f"select count(*) from {table}")
        return bool(found >= least)

    return is_reached
