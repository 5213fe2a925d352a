"""Evaluator and deployer as processes: registered on the broker, promoted on the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from local.services import Services
from local.stack import Infrastructure
from shared import clock
from shared.artifacts import ArtifactStore
from shared.bus import publish
from shared.events import Event, Heard, ModelRegistered
from shared.ids import uuid7
from shared.topics import MODELS
from tests.evaluator.building import World, a_registration, a_spec, a_version
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def services(
    infrastructure: Infrastructure, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    made = Services(
        infrastructure,
        tmp_path_factory.mktemp("two"),
        names=["evaluator", "deployer"],
        topic_prefix=f"two{uuid7().hex[-6:]}.",
        partitions=2,
    )
    try:
        yield made.start()
    finally:
        made.discard()


class Pair:
    """The two services, and the sequence of what the registry would say."""

    def __init__(self, services: Services, folder: Path, kafka: str, model: str) -> None:
        self.services = services
        self.kafka = kafka
        self.model = model
        self.sequence = 0
        self.artifacts = ArtifactStore(services.artifacts)
        self.folder = folder

    def register(self, version: int, *, slope: float, direct: bool = True) -> None:
        files = a_version(World.drawn(), slope=slope).keep(self.artifacts)
        strategy = {"strategy": "direct"} if direct else {"steps": [0.2]}
        spec = a_spec() | {"name": self.model, "rollout": strategy}
        said = a_registration(version, files, spec=spec)
        fields = {name: getattr(said, name) for name in said.__slots__}
        self._publish(ModelRegistered(**fields | {"model": self.model}))

    def _publish(self, event: Event) -> None:
        self.sequence += 1
        heard: Heard[Any] = Heard(
            event=event,
            id=uuid7(),
            source="//tidewheel/registry",
            time=clock.now(),
            correlation=uuid7(),
            sequence=self.sequence,
        )
        asyncio.run(publish(self.kafka, self.services.topic_prefix, MODELS, [heard]))

    def ask(self, service: str, method: str, path: str, **content: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.services.key}"}
        try:
            answer = httpx.request(
                method, self.services.url(service) + path, headers=headers, timeout=20, **content
            )
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def unsaid(self) -> int:
        """Events that the deployer has committed and not yet published."""
        url = self.services.database_url("deployer")

        async def count() -> int:
            connection = await asyncpg.connect(url)
            try:
                return int(await connection.fetchval("select count(*) from outbox"))
            finally:
                await connection.close()

        return asyncio.run(count())

    def champion_is(self, version: int) -> bool:
        found = self.ask("deployer", "GET", f"/v1/models/{self.model}/deployment")
        return bool(found and found["champion"] == version)

    def verdicts(self) -> list[dict[str, Any]]:
        found = self.ask("evaluator", "GET", f"/v1/models/{self.model}/verdicts")
        return list(found["items"]) if found else []


@pytest.fixture
def pair(services: Services, tmp_path: Path, kafka: str) -> Pair:
    return Pair(services, tmp_path, kafka, f"m-{uuid7().hex[-8:]}")


def test_a_registered_version_is_judged_and_promoted(pair: Pair) -> None:
    pair.register(1, slope=2.0)
    wait_until(lambda: pair.champion_is(1), what="version 1 is champion")

    pair.register(2, slope=3.0)
    wait_until(lambda: pair.champion_is(2), what="version 2 is champion")

    verdicts = pair.verdicts()
    assert [(v["version"], v["champion"], v["accepted"]) for v in verdicts] == [
        (2, 1, True),
        (1, None, True),
    ]


def test_a_rollback_works_while_nobody_else_runs(pair: Pair) -> None:
    for version, slope in ((1, 2.0), (2, 3.0)):
        pair.register(version, slope=slope)
        wait_until(lambda: pair.champion_is(version), what="it is champion")  # noqa: B023

    pair.services.stop("evaluator")
    answer = pair.ask(
        "deployer", "POST", f"/v1/models/{pair.model}/rollback", json={"reason": "odd"}
    )
    pair.services.start_again("evaluator")

    assert (answer["from"], answer["to"]) == (2, 1)
    assert pair.champion_is(1)


def test_a_rollback_is_decided_without_the_broker_and_heard_once_it_is_back(
    pair: Pair, infrastructure: Infrastructure
) -> None:
    for version, slope in ((1, 2.0), (2, 3.0)):
        pair.register(version, slope=slope)
        wait_until(lambda: pair.champion_is(version), what="it is champion")  # noqa: B023
    wait_until(lambda: pair.unsaid() == 0, what="all that was said is on the broker")

    infrastructure.stop_broker()
    try:
        answer = pair.ask(
            "deployer", "POST", f"/v1/models/{pair.model}/rollback", json={"reason": "odd"}
        )
        kept = pair.unsaid()
    finally:
        infrastructure.start_broker()

    assert (answer["from"], answer["to"]) == (2, 1)
    assert pair.champion_is(1)
    assert kept >= 2
    wait_until(lambda: pair.unsaid() == 0, what="the rollback is on the broker")
