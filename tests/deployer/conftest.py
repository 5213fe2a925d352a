from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from services.deployer.api import approvals, deciding, freezes, reading
from services.deployer.app import MIGRATIONS
from services.deployer.handlers import Acting, Calendars, People, Rollouts
from services.deployer.store import Governance, PostgresStore
from services.deployer.worker import Timers
from shared import clock, codec, http
from shared.errors import NotFound
from shared.events import Digest, Event, Heard, Json
from shared.ids import uuid7
from shared.postgres import Cause, Database
from tests.conftest import OpenDatabase
from tests.deployer.building import LIMITS, NOON
from tests.support.door import door_settings


class Site:
    """A deployer on a real database, with a clock that moves."""

    def __init__(self, database: Database) -> None:
        self.now: datetime = NOON
        self.database = database
        self.store = PostgresStore(database)
        self.governance = Governance(database)
        self.acting = Acting(
            store=self.store, governance=self.governance, now=lambda: self.now, limits=LIMITS
        )
        self.people = People(acting=self.acting)
        self.calendars = Calendars(governance=self.governance, now=lambda: self.now)
        rollouts = Rollouts(acting=self.acting, rule_of=_rule_of)
        self.timers = Timers(database, self.store, rollouts, lambda: self.now)
        reactions = [*rollouts.reactions(), *self.calendars.reactions()]
        self._reactions = {reaction.kind: reaction for reaction in reactions}

    async def hear(
        self,
        event: Event,
        *,
        event_id: UUID | None = None,
        cascade: UUID | None = None,
        said_at: datetime | None = None,
    ) -> Heard[Any]:
        """React in one transaction, as the bus does."""
        chosen = event_id or uuid7()
        heard: Heard[Any] = Heard(
            event=event,
            id=chosen,
            source="//tidewheel/test",
            time=said_at or clock.now(),
            correlation=cascade or chosen,
        )
        async with self.database.transaction(Cause.of(heard)) as transaction:
            said = await self._reactions[type(event)].react(heard)
            await transaction.say(said)
        return heard

    async def said(self, *kinds: type[Event]) -> list[Heard[Any]]:
        rows = await self.database.fetch("select payload from said order by sequence")
        heard = [codec.decode(row["payload"]) for row in rows]
        return [one for one in heard if not kinds or isinstance(one.event, kinds)]


NO_FILES = Digest("f" * 64)
"""The manifest of a version whose files are gone."""


async def _rule_of(manifest: Digest) -> Json:
    if manifest == NO_FILES:
        raise NotFound(f"no artifact has the digest {manifest}")
    return {"rule": "constant", "value": int(manifest, 16)}


@pytest.fixture
async def site(open_database: OpenDatabase) -> Site:
    return Site(await open_database("deployer", MIGRATIONS))


@pytest.fixture
async def client(site: Site, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Sends the key named by the header `as`, by default the operator's."""
    settings = door_settings(tmp_path)
    app = http.build(
        "deployer",
        settings,
        [
            reading.router(site.store, lambda: site.now),
            deciding.router(site.database, site.people),
            approvals.router(site.governance, lambda: site.now),
            freezes.router(site.calendars, lambda: site.now),
        ],
        ready=lambda: {"ready": True},
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://deployer") as opened:
        yield opened
