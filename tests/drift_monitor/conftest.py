from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.drift_monitor import api, reports
from services.drift_monitor.api import brakes as brake_routes
from services.drift_monitor.app import MIGRATIONS
from services.drift_monitor.brake import USUAL, Limits
from services.drift_monitor.handlers import (
    Brakes,
    Courses,
    Judging,
    Labels,
    Predictions,
    Profiles,
    Telling,
    Versions,
)
from services.drift_monitor.store import PostgresStore, Reading, Reporting
from services.drift_monitor.worker import Forgetter, Reporter
from shared import clock, codec, http
from shared.artifacts import ArtifactStore
from shared.confined import Confined
from shared.events import Event, GroundTruthObserved, Heard, PredictionsLogged
from shared.ids import uuid7
from shared.jobs import Jobs
from shared.postgres import Cause, Database
from tests.conftest import OpenDatabase
from tests.drift_monitor.building import NOON, Serving
from tests.support.door import door_settings


def heard_of(event: Event) -> Heard[Any]:
    chosen = uuid7()
    return Heard(
        event=event,
        id=chosen,
        source="//tidewheel/test",
        time=clock.now(),
        correlation=chosen,
    )


class Site:
    """A monitor on a real database, without a bus: events are handed to it one by one."""

    def __init__(
        self, database: Database, artifacts: ArtifactStore, limits: Limits = USUAL
    ) -> None:
        self.now: datetime = NOON
        self.database = database
        self.artifacts = artifacts
        self.serving = Serving()
        self.store = PostgresStore(database)
        self.reading, self.reporting = Reading(database), Reporting(database)
        self.jobs = Jobs(database, "report")
        self.judging = Judging(
            store=self.store,
            profiles=Profiles(artifacts.aget),
            now=lambda: self.now,
            alpha=5e-4,
            limits=limits,
        )
        self.telling = Telling(store=self.store)
        self.predictions = Predictions(store=self.store, judging=self.judging, telling=self.telling)
        self.labels = Labels(store=self.store, judging=self.judging, telling=self.telling)
        self.versions = Versions(
            store=self.store, predictions=self.predictions, fetch=artifacts.aget
        )
        self.forgetter = Forgetter(
            store=self.store,
            now=self.moment,
            horizon=timedelta(days=30),
            windows=timedelta(days=400),
        )
        self.courses = Courses(deciding=self.judging.deciding)
        self.brakes = Brakes(
            store=self.store, deciding=self.judging.deciding, now=lambda: self.now, limits=limits
        )
        facts = [*self.versions.reactions(), *self.courses.reactions()]
        self._facts = {reaction.kind: reaction for reaction in facts}

    async def moment(self) -> datetime:
        """As the clock of a database would have it that goes with the test."""
        return self.now

    def reporter(self, confined: Confined, *, seconds: float) -> Reporter:
        return Reporter(
            jobs=self.jobs,
            store=self.store,
            reading=self.reading,
            reporting=self.reporting,
            profiles=self.judging.profiles,
            artifacts=self.artifacts,
            confined=confined,
            seconds=seconds,
            megabytes=1500,
        )

    async def hear(self, *events: Event) -> list[Event]:
        """React to each in a transaction of its own; what was said."""
        said: list[Event] = []
        for event in events:
            said += await self.hear_as(heard_of(event))
        return said

    async def hear_as(self, heard: Heard[Any]) -> list[Event]:
        """React to what came under its own id."""
        async with self.database.transaction(Cause.of(heard)) as transaction:
            await transaction.say(await self._react(heard))
        return [one.event for one in transaction.said]

    async def hear_together(
        self, events: Sequence[PredictionsLogged] | Sequence[GroundTruthObserved]
    ) -> list[Event]:
        """React to a run of one stream in one transaction."""
        heards = [heard_of(event) for event in events]
        async with self.database.transaction(Cause.of(heards[-1])) as transaction:
            take: Any = (
                self.predictions.take
                if isinstance(events[0], PredictionsLogged)
                else self.labels.take
            )
            await transaction.say(await take(heards, {}))
        return [one.event for one in transaction.said]

    async def _react(self, heard: Heard[Any]) -> Any:
        match heard.event:
            case PredictionsLogged():
                return await self.predictions.take([heard], {})
            case GroundTruthObserved():
                return await self.labels.take([heard], {})
            case event:
                return await self._facts[type(event)].react(heard)

    async def said(self, *kinds: type[Event]) -> list[Event]:
        rows = await self.database.fetch("select payload from said order by sequence")
        events = [codec.decode(row["payload"]).event for row in rows]
        return [event for event in events if not kinds or isinstance(event, kinds)]

    async def counted(self) -> int:
        """Rows in all windows."""
        found = await self.database.fetchval("select coalesce(sum(rows), 0) from window_sketch")
        return int(found)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/artifacts")


@pytest.fixture
def child_settings(
    kafka: str, topic_prefix: str, database_url: str, artifacts: ArtifactStore, tmp_path: Path
) -> dict[str, str]:
    """What a monitor in a process of its own is told; its folder has a file of no keys."""
    (tmp_path / "keys.json").write_text(json.dumps({"keys": []}))
    return {
        "KAFKA": kafka,
        "TOPIC_PREFIX": topic_prefix,
        "DATABASE": database_url,
        "ARTIFACTS": artifacts.url,
    }


@pytest.fixture
async def site(open_database: OpenDatabase, artifacts: ArtifactStore) -> Site:
    return Site(await open_database("drift_monitor", MIGRATIONS), artifacts)


@pytest.fixture
async def client(site: Site, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks as an operator."""
    settings = door_settings(tmp_path)
    confined = Confined(reports.LIBRARIES)
    routes = api.router(
        site.store,
        site.reading,
        site.reporting,
        site.jobs,
        site.judging.measuring,
        site.reporter(confined, seconds=100).page,
    )
    doors = [routes, brake_routes.router(site.brakes)]
    app = http.build("drift_monitor", settings, doors, ready=lambda: {"ready": True})
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://monitor",
        headers={"Authorization": "Bearer tw_operator"},
    ) as opened:
        yield opened
    await confined.close()
