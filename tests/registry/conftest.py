"""The registry without its bus: real database, real children, its door over ASGI."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
from pydantic import SecretStr

from services.registry.api import annotations as periods
from services.registry.api import (
    audit,
    datasets,
    events,
    freshness,
    models,
    production,
    provenance,
    requests,
    uploads,
)
from services.registry.handlers import Intake, Registry
from services.registry.handlers.annotations import Annotations
from services.registry.handlers.registry import ANY_AGE, OFFERS
from services.registry.handlers.requests import Requests
from services.registry.lineage.code import Lock
from services.registry.profiling.examiner import Examiner
from services.registry.profiling.limits import Limits
from services.registry.settings import Settings
from services.registry.store import MIGRATIONS, Store
from services.registry.store.roots import Roots
from services.registry.store.uploads import Uploads
from services.registry.worker import OfferWorker
from shared import clock, http
from shared.access import Role, hash_of
from shared.artifacts import ArtifactStore
from shared.events import Event, Heard
from shared.jobs import Jobs
from shared.postgres import Cause, Database
from shared.signing import Seal, Signers
from tests.registry.builders import a_spec, some_rows

KEYS = {
    "admin": ["admin"],
    "producer": ["producer"],
    "viewer": ["viewer"],
    "auditor": ["auditor"],
}


@dataclass
class House:
    """The parts of a registry, and hands to use them with."""

    client: httpx.AsyncClient
    database: Database
    registry: Registry
    store: Store
    intake: Intake
    worker: OfferWorker
    artifacts: ArtifactStore
    lake: Path

    async def publish(self, dataset: str, body: bytes | str, **headers: str) -> httpx.Response:
        content = body.encode() if isinstance(body, str) else body
        return await self.client.post(
            f"/v1/datasets/{dataset}/versions",
            content=content,
            headers={"Content-Type": "text/csv", **headers},
        )

    async def define(self, spec: dict[str, Any] | None = None) -> httpx.Response:
        return await self.client.post("/v1/models", json=spec or a_spec())

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def react(self, heard: Heard[Any]) -> None:
        """What the bus does about one event: its reaction in a transaction of its own."""
        reaction = next(r for r in self.registry.reactions() if r.kind is type(heard.event))
        cause = Cause.of(heard)
        async with self.database.transaction(cause) as transaction:
            said: list[Event] = list(await reaction.react(heard))
            await transaction.say(said, cause=cause)

    async def said(self, event_type: str = "") -> list[dict[str, Any]]:
        """What this registry has said, in order."""
        rows = await self.database.fetch("select payload from said order by said_at, sequence")
        bodies = [json.loads(bytes(row["payload"])) for row in rows]
        return [b for b in bodies if not event_type or b["type"] == f"tidewheel.{event_type}.v1"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def examiner() -> AsyncIterator[Examiner]:
    """One warm template for a module: starting it takes longer than any file here."""
    found = Examiner.of(Limits(megabytes=400, seconds=60), 2)
    yield found
    await found.confined.close()


@pytest_asyncio.fixture(loop_scope="module")
async def house(database_url: str, tmp_path: Path, examiner: Examiner) -> AsyncIterator[House]:
    database = await Database.open(database_url, "registry", migrations=[MIGRATIONS])
    store = Store.over(database)
    jobs = Jobs(database, OFFERS)
    signers = Signers(tmp_path / "keys.json", max_age=ANY_AGE)
    registry = Registry(store, jobs, Lock({"scikit-learn": "1.9.0"}, "0" * 64), signers)
    artifacts = ArtifactStore((tmp_path / "artifacts").as_uri())
    lake = tmp_path / "lake"
    lake.mkdir()
    files = Uploads(tmp_path / "uploads", 20_000_000)
    intake = Intake(registry, files, Roots({"lake": lake.as_uri()}), artifacts, examiner)
    app = http.build(
        "registry",
        _settings(tmp_path, database.url),
        [
            uploads.router(intake, database, seconds=30),
            periods.router(
                Annotations(store=store, artifacts=artifacts, examiner=examiner, now=clock.now)
            ),
            datasets.router(store, artifacts),
            models.router(registry, store, artifacts),
            events.router(store.log, clock.now),
            audit.router(store, clock.now),
            production.router(store, clock.now),
            freshness.router(store, clock.now),
            provenance.router(store, artifacts, clock.now),
            requests.router(Requests(store, Seal(tmp_path / "signing.json"))),
        ],
        ready=lambda: {"ready": True},
        unlimited=uploads.UNLIMITED,
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": "Bearer tw_admin"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://registry", headers=headers, timeout=60
    ) as client:
        worker = OfferWorker(intake, jobs, 1)
        yield House(client, database, registry, store, intake, worker, artifacts, lake)
    app.state.stopping = True
    await database.close()


@pytest_asyncio.fixture(loop_scope="module")
async def fed(house: House) -> House:
    """A house with one model and one version of its dataset."""
    assert (await house.define()).status_code == 201
    assert (await house.publish("pumps", some_rows(40))).status_code == 201
    return house


def _settings(folder: Path, url: str) -> Settings:
    keys = folder / "keys.json"
    entries: list[dict[str, Any]] = [
        {"id": name, "hash": hash_of(f"tw_{name}"), "roles": roles, "principal": name}
        for name, roles in KEYS.items()
    ]
    entries += [
        {
            "id": team,
            "hash": hash_of(f"tw_{team}"),
            "principal": team,
            "grants": [{"team": team, "roles": ["auditor"]}],
        }
        for team in ("rotating", "elsewhere")
    ]
    # `tw_operator@rotating`: a key per role and team.
    entries += [
        {
            "id": f"{role}@{team}",
            "hash": hash_of(f"tw_{role}@{team}"),
            "principal": f"{role}@{team}",
            "grants": [{"team": team, "roles": [role]}],
        }
        for role in Role
        for team in ("rotating", "elsewhere")
    ]
    keys.write_text(json.dumps({"keys": entries}))
    return Settings(
        kafka="127.0.0.1:1",
        artifacts=f"file://{folder}",
        port=0,
        admin_port=0,
        keys_file=str(keys),
        database=SecretStr(url),
        environment="test",
    )
