"""Versions change under load, to and fro: nobody notices but by the version that answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.bus import ensure_topics, publish
from shared.events import Heard, ServingApplied
from shared.topics import DEPLOYMENT
from tests.serving.building import (
    A_ROW,
    FLOW,
    KEY,
    Replica,
    Version,
    a_desired,
    a_version,
    settings_for,
    until,
)
from tests.serving.child import Child
from tests.serving.test_compiled import a_compiled_version

CONNECTIONS = 32
PATH = f"/v1/models/{FLOW}/predict"
ROWS = {"rows": [A_ROW, {**A_ROW, "load": 2.0}]}


@dataclass(slots=True)
class Watch:
    """What callers saw while versions changed.

    Attributes:
        acknowledged: the newest generation that was said to answer.
        faults: what must not have happened.
    """

    acknowledged: int = 0
    answers: int = 0
    is_over: bool = False
    met: set[tuple[int, int]] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    async def ask(self, client: httpx.AsyncClient) -> None:
        """Ask on one connection until it is over."""
        while not self.is_over:
            known = self.acknowledged
            try:
                reply = await client.post(PATH, json=ROWS)
            except httpx.HTTPError as error:
                self.faults.append(repr(error))
                continue
            self._look(reply, known)

    def _look(self, reply: httpx.Response, known: int) -> None:
        self.answers += 1
        if reply.status_code != 200:
            self.faults.append(f"{reply.status_code}: {reply.text[:300]}")
            return
        told = {(a["generation"], a["version"]) for a in reply.json()["predictions"]}
        values = [a["answer"] for a in reply.json()["predictions"]]
        self.met |= told
        if len(told) != 1:
            self.faults.append(f"one request, answered by {told}")
        for generation, version in told:
            if version != named_in(generation):
                self.faults.append(f"version {version} in generation {generation}")
            if generation < known:
                self.faults.append(f"generation {generation} after {known} was acknowledged")
            if values != pytest.approx([10 + version, 10 + 2 * version], rel=1e-6):
                self.faults.append(f"version {version} does not answer {values}")


def named_in(generation: int) -> int:
    """Forward with odd generations, back with even ones."""
    return 1 + generation % 2


def a_state(generation: int, versions: dict[int, Version]) -> Heard[Any]:
    champion = versions[named_in(generation)]
    return a_desired(generation, champion, previous=versions[named_in(generation + 1)])


async def swapped_under_load(
    client: httpx.AsyncClient,
    swap: Callable[[int], Awaitable[None]],
    *,
    seconds: float,
    pause: float,
) -> Watch:
    """Ask on all connections while one generation follows the other."""
    watch = Watch()
    await swap(1)
    watch.acknowledged = 1
    callers = [asyncio.create_task(watch.ask(client)) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    generation = 1
    while (now := time.monotonic() - began) < seconds:
        await asyncio.sleep(max(0.0, generation * pause - now))  # the load is what is waited for
        generation += 1
        await swap(generation)
        watch.acknowledged = generation
    watch.is_over = True
    await asyncio.gather(*callers)
    return watch


@pytest.mark.parametrize("is_compiled", [True, False], ids=["quick", "careful"])
async def test_versions_change_to_and_fro_and_no_request_fails(
    replica: Replica, store: ArtifactStore, *, is_compiled: bool
) -> None:
    make: Callable[..., Version] = a_compiled_version if is_compiled else a_version
    versions = {number: make(store, number) for number in (1, 2)}

    async def swap(generation: int) -> None:
        await replica.want(a_state(generation, versions))

    watch = await swapped_under_load(replica.client, swap, seconds=2.5, pause=0.1)

    assert watch.faults == []
    assert watch.answers > CONNECTIONS
    assert len({generation for generation, _ in watch.met}) > 3
    assert {version for _, version in watch.met} == {1, 2}


async def over_http(settings: Settings, seconds: float, pause: float) -> tuple[Watch, set[int]]:
    """The same over a broker and sockets; what is said on the broker is the acknowledgement."""
    store = ArtifactStore(settings.artifacts)
    versions = {number: a_compiled_version(store, number) for number in (1, 2)}
    await ensure_topics(settings.kafka, prefix=settings.topic_prefix, partitions=2)
    with Child(settings) as child:
        await asyncio.to_thread(child.start)

        async def swap(generation: int) -> None:
            heard = a_state(generation, versions)
            await publish(settings.kafka, settings.topic_prefix, DEPLOYMENT, [heard])
            async with asyncio.timeout(30):
                while not await asyncio.to_thread(child.serves, generation):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.02)

        limits = httpx.Limits(max_connections=CONNECTIONS)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{child.settings.port}",
            headers={"Authorization": f"Bearer {KEY}"},
            limits=limits,
            timeout=20,
        ) as client:
            watch = await swapped_under_load(client, swap, seconds=seconds, pause=pause)
    return watch, {generation for generation, _ in watch.met}


@pytest.mark.real
async def test_versions_change_under_a_real_load_over_the_broker(
    tmp_path: Path, kafka: str, topic_prefix: str
) -> None:
    settings = settings_for(tmp_path, kafka=kafka, topic_prefix=topic_prefix)

    watch, generations = await over_http(settings, seconds=5, pause=0.5)

    assert watch.faults == []
    assert len(generations) > 3


@pytest.mark.real
@pytest.mark.nightly
@pytest.mark.timeout(180)
async def test_a_minute_of_swaps_and_rollbacks_every_second_fails_nobody(
    tmp_path: Path, kafka: str, topic_prefix: str
) -> None:
    settings = settings_for(tmp_path, kafka=kafka, topic_prefix=topic_prefix)

    watch, generations = await over_http(settings, seconds=60, pause=1.0)

    assert watch.faults == []
    assert len(generations) >= 30


async def test_an_acknowledged_version_is_said_once_it_answers(
    replica: Replica, store: ArtifactStore
) -> None:
    versions = {number: a_compiled_version(store, number) for number in (1, 2)}
    for generation in (1, 2, 3):
        await replica.serving.deployments.want(a_state(generation, versions))
        await until(lambda g=generation: g in {s.generation for s in replica.said(ServingApplied)})  # type: ignore[misc] # bound per round

        (answer,) = await replica.answers()

        assert answer["generation"] == generation
