"""A heatwave over two fifths of a fleet, from the rows of its models to the pager: one page.

A real monitor on the real broker and database, a real Prometheus and a real Alertmanager with the
rules and routes as they are checked in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.ports import free_ports
from ops import config
from ops.config import HOST, Pace, Places
from ops.hook import Hook
from ops.paths import RUNBOOKS
from ops.running import running
from services.drift_monitor.app import MIGRATIONS
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.events import Event, ModelName
from shared.postgres import Database
from shared.topics import topic_of
from tests.conftest import OpenDatabase
from tests.drift_monitor.building import Serving, a_label, a_spec, published, registered
from tests.drift_monitor.child import Child
from tests.drift_monitor.stories import SHIFT, Story
from tests.drift_monitor.test_service import PROFILE, promoted
from tests.ops.tools import needs_tools
from tests.support.door import door_settings
from tests.support.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), needs_tools]
FLEET = [ModelName(f"m-{n:02}") for n in range(20)]
HOT = FLEET[:8]
QUICK = Pace(scrape="1s", evaluation="1s", patience="5s", wait="1s")
"""What waits does so for longer than a brake needs, as minutes are longer than a look."""
SETTINGS = {"SETTLE_SECONDS": "1", "LOOK_SECONDS": "0.2"}
Told = list[tuple[str, Mapping[str, Any]]]


@dataclass
class Watched:
    """A fleet with its monitor, and what people were told of it."""

    kafka: str
    prefix: str
    database: Database
    child: Child
    prometheus: str
    told: Told = field(default_factory=list)

    @property
    def pages(self) -> list[Mapping[str, Any]]:
        """Notifications to the pager but for those about services that this test does not run."""
        return [
            posted
            for receiver, posted in self.told
            if receiver == "pager"
            and {alert["labels"]["alertname"] for alert in posted["alerts"]} != {"TargetMissing"}
        ]

    async def tell(self, story: Story) -> None:
        """Everything in its order, facts before rows before labels."""
        for topic, some in groupby(story.steps, key=lambda heard: topic_of(type(heard.event))):
            await publish(self.kafka, self.prefix, topic, list(some))

    async def firing(self, name: str) -> int:
        """How many alerts of this name Prometheus sees."""
        return int(await self.sees(f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'))

    async def sees(self, query: str) -> float:
        """A single figure; 0 where there is none."""
        async with httpx.AsyncClient(base_url=self.prometheus) as client:
            answer = await client.get("/api/v1/query", params={"query": query})
        found = answer.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0

    async def said(self, kind: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "select payload from said order by topic, subject, sequence"
        )
        events = [json.loads(row["payload"]) for row in rows]
        return [event["data"] for event in events if event["type"] == f"tidewheel.{kind}.v1"]

    async def until_said(self, kind: str, count: int) -> list[dict[str, Any]]:
        async def enough() -> bool:
            return len(await self.said(kind)) >= count

        await self.child.wait(enough, what=f"{count} of {kind}", seconds=60)
        return await self.said(kind)


@contextmanager
def prometheus_over(folder: Path, child: Child, told: Told) -> Iterator[str]:
    with Hook(lambda receiver, posted: told.append((receiver, posted))) as hook:
        places = Places(
            targets={"tidewheel-drift-monitor": f"{HOST}:{child.admin_port}"},
            addresses={"docs": RUNBOOKS.parent.as_uri()},
            hook=hook.address,
            **free_ports(("prometheus", "alertmanager")),
        )
        config.write(folder, places, QUICK)
        with running(folder, places, resend="1s"):
            yield f"http://{HOST}:{places.prometheus}"


def a_fleet(artifacts: ArtifactStore) -> tuple[Story, Serving]:
    """Twenty champions, each with a quiet window and enough new rows to learn from."""
    story, serving = Story(), Serving()
    known = registered(artifacts, PROFILE, spec=a_spec())
    story.tell(published(1, 100), published(2, 900))
    story.tell(*(replace(known, model=model) for model in FLEET))
    story.tell(*(replace(promoted(), model=model) for model in FLEET))
    for some in (FLEET[n : n + 5] for n in range(0, len(FLEET), 5)):
        story.windows(serving, 1, models=some)
    return story, serving


def outcomes(asked: Sequence[tuple[str, float]]) -> list[Event]:
    """Of answers in the heat, all of them far off; fifty of each model."""
    return [
        replace(a_label(prediction, answer + 5.0), model=HOT[place // 50])
        for place, (prediction, answer) in enumerate(asked)
    ]


async def test_a_heatwave_of_two_fifths_of_the_fleet_pages_once_and_retrains_nobody(
    kafka: str,
    topic_prefix: str,
    database_url: str,
    open_database: OpenDatabase,
    tmp_path: Path,
) -> None:
    artifacts = ArtifactStore(f"file://{tmp_path}/artifacts")
    door_settings(tmp_path)
    await ensure_topics(kafka, prefix=topic_prefix, partitions=1)
    database = await open_database("drift_monitor", MIGRATIONS)
    told: Told = []
    settings = {
        "KAFKA": kafka,
        "TOPIC_PREFIX": topic_prefix,
        "DATABASE": database_url,
        "ARTIFACTS": artifacts.url,
    }
    fleet, serving = a_fleet(artifacts)
    with Child(tmp_path, settings | SETTINGS) as child:
        child.start()
        with prometheus_over(tmp_path / "monitoring", child, told) as prometheus:
            house = Watched(kafka, topic_prefix, database, child, prometheus, told)
            await house.tell(fleet)
            await house.until_said("window.evaluated", len(FLEET))
            before = len(serving.asked)

            heat = Story()
            heat.windows(serving, 1, SHIFT, models=HOT)
            await house.tell(heat)
            await house.until_said("retraining.withheld", len(HOT))
            await eventually(paged(house), what="a page", timeout_seconds=30)
            late = Story()
            late.tell(*outcomes(serving.asked[before:]))
            await house.tell(late)
            await eventually(all_seen(house), what="all of it to be seen", timeout_seconds=60)
            widespread = await house.firing("DriftWidespread")

        # The brake has told already; so it goes on as one alert, and one page.
        assert widespread == 0
        (page,) = house.pages
        labels, words = page["alerts"][0]["labels"], page["alerts"][0]["annotations"]
        assert page["status"] == "firing"
        assert labels["alertname"] == "BrakeSet"
        assert labels["scope"] == "fleet"
        assert words["summary"].startswith("Look upstream: 8 models of fleet changed together")
        (brake,) = await house.said("brake.set")
        assert (brake["scope"], brake["confirmed"], brake["watched"]) == ("fleet", 8, 20)
        assert brake["models"] == HOT
        withheld = await house.said("retraining.withheld")
        assert sorted(one["model"] for one in withheld) == HOT
        assert {one["reason"] for one in withheld} == {"brake"}
        assert await house.said("retraining.requested") == []


def paged(house: Watched) -> Any:
    async def some() -> bool:
        return bool(house.pages)

    return some


def all_seen(house: Watched) -> Any:
    """That many drift, and of each model that its answers are worse; nobody is told of either."""

    async def every() -> bool:
        drifted = await house.sees("count(tidewheel_drift_severity >= 1)")
        return drifted == len(HOT) and await house.firing("QualityDegraded") == len(HOT)

    return every
