from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.trainer.app import KIND, MIGRATIONS
from services.trainer.handlers import Trainer
from services.trainer.store import PostgresStore
from services.trainer.worker import PRELOAD, WITHOUT, Workshop
from shared import clock, codec
from shared.artifacts import ArtifactStore
from shared.confined import Confined
from shared.events import Event, Heard
from shared.jobs import Jobs
from shared.postgres import Cause, Database
from tests.conftest import OpenDatabase
from tests.support.house import some_rows
from tests.trainer.builders import heard, published


@dataclass(slots=True, kw_only=True)
class Moving:
    """A clock that the test moves."""

    at: datetime = field(default_factory=clock.now)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **by: float) -> None:
        self.at += timedelta(**by)


@dataclass(slots=True, kw_only=True)
class Room:
    """The trainer over a real database, without its broker."""

    database: Database
    trainer: Trainer
    store: PostgresStore
    jobs: Jobs
    artifacts: ArtifactStore
    moving: Moving

    async def hear(self, event: Event) -> Heard[Any]:
        """Let the trainer react as the bus does: one transaction."""
        arrived = heard(event)
        async with self.database.transaction(Cause.of(arrived)) as transaction:
            for reaction in self.trainer.reactions():
                if reaction.kind is type(event):
                    await transaction.say(await reaction.react(arrived))
        return arrived

    async def publish(self, version: int, rows: int, *, csv: str = "") -> Heard[Any]:
        data = (csv or some_rows(rows)).encode()
        self.artifacts.put(data)
        return await self.hear(published(version, data, rows=rows))

    async def said(self, kind: type[Event] | None = None) -> list[Heard[Any]]:
        """Everything that waits for the broker, in order."""
        rows = await self.database.fetch(
            "select s.payload from outbox o join said s using (event_id) order by o.id"
        )
        found = [codec.decode(row["payload"]) for row in rows]
        return [one for one in found if kind is None or type(one.event) is kind]

    async def states(self) -> list[tuple[int, str]]:
        """Dataset version and state of every job, oldest first."""
        rows = await self.database.fetch(
            "select payload ->> 'dataset_version' as version, state from job order by created_at"
        )
        return [(int(row["version"]), row["state"]) for row in rows]


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path / 'artifacts'}")


@pytest.fixture
async def room(open_database: OpenDatabase, artifacts: ArtifactStore) -> Room:
    database = await open_database("trainer", MIGRATIONS)
    store, moving = PostgresStore(database), Moving()
    jobs = Jobs(database, KIND, lease=timedelta(seconds=2))
    return Room(
        database=database,
        trainer=Trainer(store=store, jobs=jobs, now=moving),
        store=store,
        jobs=jobs,
        artifacts=artifacts,
        moving=moving,
    )


@pytest.fixture
async def confined() -> AsyncIterator[Confined]:
    found = Confined(PRELOAD, without=WITHOUT)
    yield found
    await found.close()


@pytest.fixture
def workshop(room: Room, confined: Confined) -> Workshop:
    return Workshop(
        store=room.store,
        jobs=room.jobs,
        artifacts=room.artifacts,
        confined=confined,
        now=clock.now,
        allowed=("sklearn", "tests.support.odd_estimators"),
    )
