from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest_asyncio

from services.evaluator import api
from services.evaluator.app import MIGRATIONS
from services.evaluator.handlers import Evaluator
from services.evaluator.ranking import Ranking
from services.evaluator.replaying import Again
from services.evaluator.store import PostgresStore
from services.evaluator.worker import Judge
from shared import clock, codec, http
from shared.access import Keys
from shared.artifacts import ArtifactStore
from shared.confined import Confined
from shared.events import (
    DeploymentRolledBack,
    EvaluationCompleted,
    Event,
    Heard,
    ModelName,
    ModelPromoted,
    ModelRegistered,
    RolloutId,
)
from shared.ids import derived, uuid7
from shared.jobs import Jobs
from shared.postgres import Cause, Database
from shared.requests import Askers
from shared.signing import Signers, SigningKey, sign
from tests.evaluator.building import Version, a_registration
from tests.support.door import door_settings

PUMP = ModelName("pump")
KEY = SigningKey(id="registry-1", secret=bytes(range(32)))


class Site:
    """An evaluator on a real database, whose workers take one job when they are told to."""

    def __init__(
        self, database: Database, folder: Path, confined: Confined, **settings: Any
    ) -> None:
        self.database = database
        self.folder = folder
        self.artifacts = ArtifactStore(f"file://{folder}")
        self.jobs, self.best_jobs = Jobs(database, "verdict"), Jobs(database, "best")
        self.store = PostgresStore(database, self.jobs, self.best_jobs)
        self.judge = Judge(
            store=self.store,
            jobs=self.jobs,
            artifacts=self.artifacts,
            confined=confined,
            now=clock.now,
            score_seconds=60,
            score_megabytes=1024,
            metric_packages=("tests",),
            **settings,
        )
        self.ranking = Ranking(judge=self.judge, jobs=self.best_jobs)
        self.again = Again(
            store=self.store,
            artifacts=self.artifacts,
            confined=confined,
            seconds=60,
            megabytes=1024,
        )
        door = door_settings(folder)
        keys = Path(door.keys_file)
        entry = {
            "id": KEY.id,
            "principal": "the-registry",
            "public_key": base64.b64encode(KEY.public).decode(),
            "speaks_for": "all",
        }
        keys.write_text(json.dumps(json.loads(keys.read_text()) | {"signers": [entry]}))
        askers = Askers(database=self.database, signers=Signers(keys), keys=Keys(keys))
        evaluator = Evaluator(self.store, askers)
        self._reactions = {r.kind: r for r in evaluator.reactions()}
        routes = api.router(self.store, self.artifacts, self.again, clock.now)
        app = http.build("evaluator", door, [routes], ready=lambda: {"ready": True})
        self.door = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://evaluator"
        )

    async def ask(
        self, method: str, path: str, role: str = "viewer", **content: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer tw_{role}"}
        return await self.door.request(method, f"/v1{path}", headers=headers, **content)

    async def hear(
        self, event: Event, *, event_id: UUID | None = None, signed: bool = False
    ) -> Heard[Any]:
        """React in one transaction, as the bus does."""
        heard: Heard[Any] = Heard(
            event=event,
            id=event_id or uuid7(),
            source="//tidewheel/test",
            time=clock.now(),
            correlation=derived(None, "cascade", event.subject),
        )
        if signed:
            heard = sign(heard, KEY.secret, KEY.id)
        async with self.database.transaction(Cause.of(heard)) as transaction:
            await transaction.say(await self._reactions[type(event)].react(heard))
        return heard

    async def register(self, version: int, files: Version, **fields: Any) -> ModelRegistered:
        registered = a_registration(version, files.keep(self.artifacts), **fields)
        await self.hear(registered)
        return registered

    async def work(self) -> None:
        """Everything that is queued."""
        while (job := await self.jobs.claim("a test")) is not None:
            await self.judge.work(job)
        while (job := await self.best_jobs.claim("a test")) is not None:
            await self.ranking.work(job)

    async def judged(self, version: int, files: Version, **fields: Any) -> EvaluationCompleted:
        """Register a version and see what becomes of it."""
        await self.register(version, files, **fields)
        await self.work()
        return (await self.verdicts())[-1].event

    async def said(self, *kinds: type[Event]) -> list[Heard[Any]]:
        rows = await self.database.fetch(
            "select s.payload from said s join outbox o using (event_id) order by o.id"
        )
        heard = [codec.decode(row["payload"]) for row in rows]
        return [one for one in heard if isinstance(one.event, kinds or Event)]

    async def verdicts(self) -> list[Heard[EvaluationCompleted]]:
        return await self.said(EvaluationCompleted)

    async def promote(
        self, version: int, files: Version, *, evaluation: UUID | None = None, model: str = "pump"
    ) -> None:
        """As the deployer says it, by the version's newest verdict."""
        newest = [one.id for one in await self.verdicts() if one.event.version == version]
        await self.hear(
            ModelPromoted(
                model=ModelName(model),
                rollout=RolloutId(uuid7()),
                version=version,
                manifest=files.digest,
                previous=None,
                dataset_version=version,
                generation=version,
                evaluation=evaluation or (newest[-1] if newest else uuid7()),
                evidence={},
            )
        )

    async def crown(self, version: int, files: Version, **fields: Any) -> None:
        """Judge a version and promote it."""
        await self.judged(version, files, **fields)
        await self.promote(version, files)

    async def somebody_waits(self) -> bool:
        """For a lock. Not pg_stat_activity: in a transaction that is read once and stays so."""
        return bool(await self.database.fetchval("select count(*) from pg_locks where not granted"))

    async def roll_back(self, version: int, to: int | None, files: Version | None) -> None:
        await self.hear(
            DeploymentRolledBack(
                model=PUMP,
                from_version=version,
                to_version=to,
                to_manifest=files.digest if files else None,
                generation=9,
                by="ada",
                reason="a test",
            )
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def confined() -> AsyncIterator[Confined]:
    opened = Confined(["services.evaluator.scoring", "services.evaluator.rejudging"])
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def site(database_url: str, tmp_path: Path, confined: Confined) -> AsyncIterator[Site]:
    database = await Database.open(database_url, "evaluator", migrations=[MIGRATIONS])
    opened = Site(database, tmp_path, confined)
    yield opened
    await opened.door.aclose()
    await database.close()
