"""Builders for the tests of serving: versions in a store, desired states, a replica in process."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
import numpy as np
import orjson
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from services.serving.app import Serving
from services.serving.domain.versions import Loaded
from services.serving.handlers.engines import key_of, runtime_of
from services.serving.settings import Settings
from services.serving.store.journal import Reader
from shared import models
from shared.access import hash_of
from shared.artifacts import ArtifactStore
from shared.codec import decode
from shared.events import (
    Arm,
    DeploymentDesired,
    Digest,
    Event,
    Heard,
    Json,
    ModelName,
    Rung,
)
from shared.ids import uuid7
from shared.manifest import Column, File, Manifest
from shared.running import Part

KEY = "tw_test-predictor"
OTHER_KEY = "tw_test-viewer"
NOBODY_LISTENS = "127.0.0.1:9"
FLOW = ModelName("flow")
NAMES = ("load", "hour", "lag")
A_ROW: Mapping[str, Any] = {"load": 1.0, "hour": 3, "lag": 0.5}
ZERO = Digest("0" * 64)


def write_keys(place: Path) -> Path:
    roles = {KEY: ["predictor"], OTHER_KEY: ["viewer"]}
    entries = [
        {"id": key, "hash": hash_of(key), "roles": held, "teams": ["*"], "principal": key[3:]}
        for key, held in roles.items()
    ]
    place.write_text(json.dumps({"keys": entries}))
    return place


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    number: int
    digest: Digest
    file: Digest
    manifest: Manifest


def a_regressor(slope: float = 2.0) -> Any:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(200, len(NAMES)))
    return make_pipeline(StandardScaler(), Ridge(alpha=1e-6)).fit(X, slope * X[:, 0] + 10)


def a_classifier(classes: tuple[str | float | bool, ...] = ("dry", "wet")) -> Any:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(200, len(NAMES)))
    return LogisticRegression().fit(X, np.where(X[:, 0] > 0, classes[1], classes[0]))


def a_version(
    store: ArtifactStore,
    number: int,
    *,
    estimator: Any = None,
    data: bytes | None = None,
    **changes: Any,
) -> Version:
    """A version whose files are in the store."""
    fitted = a_regressor(float(number)) if estimator is None else estimator
    data = models.dump(fitted) if data is None else data
    file = store.put(data)
    manifest = replace(a_manifest(file, len(data)), **changes)
    digest = store.put(manifest.to_bytes())
    return Version(number=number, digest=digest, file=file, manifest=manifest)


def a_manifest(file: Digest, size: int) -> Manifest:
    return Manifest(
        model=FLOW,
        task="regression",
        metric="mae",
        columns=tuple(Column(name=n, kind="number", minimum=-3.0, maximum=3.0) for n in NAMES),
        target="flow",
        files={"model.skops": File(digest=file, size_bytes=size)},
        baseline={"rule": "constant", "value": 10.0},
        entity="pump",
        bounds=None,
        lineage="best_effort",
        objective_seconds=0.1,
        dataset="water",
        dataset_version=1,
        dataset_digest=ZERO,
        spec_digest=ZERO,
        code_digest=ZERO,
        exclusions_digest=ZERO,
        holdout=ZERO,
        reference=ZERO,
        use="sklearn.linear_model.Ridge",
        hyperparameters={},
        seed=7,
        rows_trained=200,
        rows_held_out=40,
        metrics={"mae": 0.1},
        environment=models.environment(),
    )


def an_arm(
    version: Version,
    weight: float = 1.0,
    role: Literal["champion", "challenger", "shadow"] = "champion",
) -> Arm:
    return Arm(role=role, version=version.number, manifest=version.digest, weight=weight)


A_RULE: Json = {"rule": "constant", "value": -1.0}


def a_desired(
    generation: int,
    champion: Version | None = None,
    *,
    previous: Version | None = None,
    challenger: Version | None = None,
    shadow: Version | None = None,
    share: float = 1.0,
    weight: float = 0.5,
    rule: Json | None = A_RULE,
    model: str = FLOW,
    probation: bool = False,
    salt: str = "salt",
) -> Heard[DeploymentDesired]:
    arms: list[Arm] = []
    ladder: list[Rung] = []
    if champion is not None:
        arms.append(an_arm(champion, 1.0 if challenger is None else 1 - weight))
        ladder.append(Rung(kind="champion", version=champion.number, manifest=champion.digest))
    if challenger is not None:
        arms.append(an_arm(challenger, weight, "challenger"))
    if shadow is not None:
        arms.append(an_arm(shadow, share, "shadow"))
    if previous is not None:
        ladder.append(Rung(kind="previous", version=previous.number, manifest=previous.digest))
    if rule is not None:
        ladder.append(Rung(kind="baseline", rule=rule))
    event = DeploymentDesired(
        model=ModelName(model),
        generation=generation,
        arms=tuple(arms),
        ladder=tuple(ladder),
        salt=salt,
        rollout=None,
        probation=probation,
    )
    return heard_of(event)


def heard_of(event: DeploymentDesired, sequence: int = 1) -> Heard[DeploymentDesired]:
    event_id = uuid7()
    return Heard(
        event=event,
        id=event_id,
        source="//tidewheel/deployer",
        time=datetime.now(UTC),  # noqa: TID251 - tests make their own envelopes
        correlation=uuid4(),
        sequence=sequence,
    )


def settings_for(folder: Path, **knobs: Any) -> Settings:
    given: dict[str, Any] = {
        "kafka": NOBODY_LISTENS,
        "artifacts": f"file://{folder / 'store'}",
        "port": 0,
        "admin_port": 0,
        "keys_file": str(write_keys(folder / "keys.json")),
        "environment": "test",
        "data": folder / "data",
        "retry_seconds": 0.2,
        "probe": "inside",  # a child of its own for each test would take longer than the test
    }
    return Settings(**(given | knobs))


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as a child process is told them."""
    plain = settings.model_dump(exclude_defaults=True)
    return {f"TIDEWHEEL_SERVING_{name.upper()}": str(value) for name, value in plain.items()}


class Replica:
    """A whole replica in this process, without a broker unless its settings name one."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        transport = httpx.ASGITransport(serving.app(), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(
            transport=transport,
            base_url="http://serving",
            headers={"Authorization": f"Bearer {KEY}"},
        )

    async def want(self, heard: Heard[DeploymentDesired]) -> None:
        """Hear a desired state and wait until it is dealt with."""
        deployments = self.serving.deployments
        await deployments.want(heard)
        await until(lambda: deployments.is_settled)

    async def open(self, model: str = FLOW) -> None:
        """Open every version of a model, as its first requests would."""
        for path in self.serving.deployments.endpoints[ModelName(model)].paths:
            for step in path:
                if step.loaded is not None:
                    assert await self.serving.deployments.opened(step.loaded) is not None

    async def ask(self, *rows: Mapping[str, Any], model: str = FLOW) -> httpx.Response:
        given = list(rows) or [A_ROW]
        return await self.client.post(f"/v1/models/{model}/predict", json={"rows": given})

    async def answers(self, *rows: Mapping[str, Any], model: str = FLOW) -> list[dict[str, Any]]:
        response = await self.ask(*rows, model=model)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["predictions"]
        return found

    def said(self, kind: type[Event]) -> list[Any]:
        """The events of this kind that wait in the spool."""

        spool, sender = self.serving.spool, self.serving.sender
        waiting = [one.message for one in spool.outgoing(10_000)]
        waiting += [sender.message_of(batch) for batch in spool.batches(10_000)]
        heard = [decode(message.value) for message in waiting]
        return [one.event for one in heard if isinstance(one.event, kind)]


@contextlib.asynccontextmanager
async def a_replica(
    settings: Settings, parts: Callable[[Serving], Sequence[Part]] | None = None
) -> AsyncIterator[Replica]:
    """A replica that is restored from its disk; the given parts run beside it."""
    serving = Serving(settings)
    await serving.deployments.restore()
    chosen: Iterable[Part] = parts(serving) if parts else [serving.deployments.run]
    tasks = [asyncio.ensure_future(part()) for part in chosen]
    replica = Replica(serving)
    try:
        yield replica
    finally:
        await replica.client.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await serving.finish()


class Interference:
    """Stands between a version and its callers; it is opened for that."""

    def __init__(self, replica: Replica, version: Version) -> None:
        deployments = replica.serving.deployments
        self.before: Loaded = deployments._loaded[version.digest]
        runtime = runtime_of(replica.serving.disk.read, self.before.manifest)
        key = key_of(self.before.manifest, self.before.engine)
        opened = self.before.opened or deployments.sessions.keep(self.before, key, runtime)
        self.say: Callable[[Sequence[Any]], Any] = opened.say
        self.asked = 0
        self.before.opened = replace(opened, say=self._ask, compute=None)
        self._real = self.say

    def _ask(self, rows: Sequence[Any]) -> Any:
        self.asked += 1
        return self.say(rows)

    def fail(self, _: Sequence[Any]) -> Any:
        raise RuntimeError("out of order")

    def heal(self) -> None:
        self.say = self._real


def logged_rows(replica: Replica) -> list[dict[str, Any]]:
    """Rows that wait in no batch yet."""
    spool = replica.serving.spool
    taken = Reader(spool._journal, spool._reader.position).peek(10**6, 10**9)
    return [orjson.loads(row.partition(b"\n")[2]) for row in taken.rows]


async def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait for a condition; the poll is short and bounded."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of threads and processes have no event
            await asyncio.sleep(0.01)
