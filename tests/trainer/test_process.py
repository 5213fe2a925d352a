"""The trainer as a process: heard on the broker, said on the broker, killed in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from local.services import Services
from local.stack import Infrastructure
from shared import clock, codec
from shared.artifacts import ArtifactStore
from shared.bus import publish
from shared.events import DatasetPublished, Event, Heard
from shared.ids import uuid7
from shared.topics import DATASETS, MODELS
from tests.support.house import a_spec, some_rows
from tests.support.waiting import wait_until
from tests.trainer.builders import defined, published

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


@dataclass
class Trade:
    """A trainer of its own, and the sequences of what the registry would say."""

    services: Services
    kafka: str
    sequences: dict[str, int] = field(default_factory=dict)

    def say(self, event: Event) -> Heard[Any]:
        number = self.sequences[event.subject] = self.sequences.get(event.subject, 0) + 1
        heard: Heard[Any] = Heard(
            event=event,
            id=uuid7(),
            source="//tidewheel/registry",
            time=clock.now(),
            correlation=uuid7(),
            sequence=number,
        )
        topic = DATASETS if isinstance(event, DatasetPublished) else MODELS
        asyncio.run(publish(self.kafka, self.services.topic_prefix, topic, [heard]))
        return heard

    def publish(self, dataset: str, version: int, rows: int) -> Heard[Any]:
        data = some_rows(rows).encode()
        ArtifactStore(self.services.artifacts).put(data)
        return self.say(published(version, data, rows=rows, dataset=dataset))

    def define(self, model: str, **changes: Any) -> Heard[Any]:
        return self.say(defined(a_spec(model, f"{model}-data", **changes)))

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return httpx.request(
                method,
                self.services.url("trainer") + path,
                headers={"Authorization": f"Bearer {self.services.key}"},
                timeout=20,
                **content,
            )
        except httpx.TransportError as error:
            return httpx.Response(599, text=str(error))

    def runs(self, model: str) -> list[dict[str, Any]]:
        answer = self.ask("GET", "/v1/runs", params={"model": model})
        return list(answer.json()["items"]) if answer.status_code == 200 else []

    def has_completed(self, model: str, count: int = 1) -> bool:
        return [run["outcome"] for run in self.runs(model)].count("completed") >= count

    def said(self, model: str) -> list[Heard[Any]]:
        """What was said about a model, once all of it has left for the broker."""

        async def look() -> tuple[list[bytes], int]:
            connection: Any = await asyncpg.connect(self.services.database_url("trainer"))
            try:
                rows = await connection.fetch(
                    "select payload from said where subject = $1 order by sequence", model
                )
                waiting = await connection.fetchval("select count(*) from outbox")
                return [row["payload"] for row in rows], waiting
            finally:
                await connection.close()

        wait_until(lambda: asyncio.run(look())[1] == 0, what="the outbox to be empty")
        return [codec.decode(payload) for payload in asyncio.run(look())[0]]


@pytest.fixture(scope="module")
def trade(
    infrastructure: Infrastructure, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trade]:
    services = Services(
        infrastructure,
        tmp_path_factory.mktemp("trade"),
        names=["trainer"],
        topic_prefix=f"trade{uuid7().hex[-6:]}.",
        partitions=2,
        knobs={"trainer": {"LEASE_SECONDS": "2"}},
    )
    try:
        yield Trade(services.start(), infrastructure.kafka)
    finally:
        services.discard()


def types_of(heard: list[Heard[Any]]) -> list[str]:
    return [type(one.event).__name__ for one in heard]


def test_what_the_registry_says_ends_in_a_candidate(trade: Trade) -> None:
    causes = [trade.define("plain"), trade.publish("plain-data", 1, 200)]

    wait_until(lambda: trade.has_completed("plain"), what="a run", timeout_seconds=60)

    said = trade.said("plain")
    assert types_of(said) == ["TrainingStarted", "TrainingCompleted"]
    # Topics are in no order among each other: the run belongs to what was heard second.
    assert {one.correlation for one in said} in [{one.correlation} for one in causes]
    (run,) = trade.runs("plain")
    assert run["run"] == str(said[1].event.run)
    assert run["result"]["metrics"] == dict(said[1].event.metrics)
    one = trade.ask("GET", f"/v1/runs/{run['run']}")
    assert one.json() == run


def test_a_training_asked_for_by_hand_is_told_why_there_is_none(trade: Trade) -> None:
    trade.define("asked")
    trade.publish("asked-data", 1, 200)
    wait_until(lambda: trade.has_completed("asked"), what="a run", timeout_seconds=60)

    answer = trade.ask("POST", "/v1/models/asked/train")
    unknown = trade.ask("POST", "/v1/models/nobody/train")

    assert answer.status_code == 202
    assert answer.json()["skipped"] == "nothing_new"
    assert unknown.status_code == 404
    assert types_of(trade.said("asked"))[-1] == "TrainingSkipped"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs?cursor=nonsense",
        "/v1/runs?limit=0",
        "/v1/runs?limit=1001",
        "/v1/runs?model=%00",
        "/v1/runs/not-a-run",
        "/v1/runs?cursor=0001-01-01T00:00:00%2B14:00_00000000-0000-0000-0000-000000000000",
    ],
)
def test_a_wrong_question_is_answered_with_a_problem(trade: Trade, path: str) -> None:
    answer = trade.ask("GET", path)

    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_run_that_is_not_there_is_not_found(trade: Trade) -> None:
    assert trade.ask("GET", f"/v1/runs/{UUID(int=0)}").status_code == 404


def test_runs_are_listed_page_by_page_newest_first(trade: Trade) -> None:
    trade.define("paged")
    for version in (1, 2, 3):
        trade.publish("paged-data", version, 100 * version)
        wait_until(
            partial(trade.has_completed, "paged", version),
            what=f"run {version}",
            timeout_seconds=60,
        )

    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = trade.ask(
            "GET", "/v1/runs", params={"model": "paged", "limit": 2, "cursor": cursor}
        ).json()
        seen += [run["dataset_version"] for run in page["items"]]
        cursor = page["next"]

    assert seen == [3, 2, 1]


@pytest.mark.parametrize("point", ["before_complete", "after_complete"])
def test_the_service_killed_around_a_completion_completes_once(trade: Trade, point: str) -> None:
    model = f"killed-{point.partition('_')[0]}"
    trade.define(model)
    starts = trade.services.supervisor.starts("trainer")
    trade.services.configure("trainer", once=True, FAULT=point)
    trade.services.restart("trainer")

    trade.publish(f"{model}-data", 1, 200)

    wait_until(
        lambda: trade.services.supervisor.starts("trainer") >= starts + 2,
        what="the fault point",
        timeout_seconds=60,
    )
    wait_until(lambda: trade.has_completed(model), what="the run", timeout_seconds=90)
    said = types_of(trade.said(model))
    assert said.count("TrainingCompleted") == 1
    assert [one.sequence for one in trade.said(model)] == list(range(1, len(said) + 1))


def test_the_service_itself_is_small_whatever_it_has_fitted(trade: Trade) -> None:
    trade.define("small")
    trade.publish("small-data", 1, 200)
    wait_until(lambda: trade.has_completed("small"), what="a run", timeout_seconds=60)

    pid = trade.services.supervisor.pid("trainer")

    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    kilobytes = next(int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:")
    assert kilobytes < 120_000
