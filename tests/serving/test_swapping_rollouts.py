"""Rollouts change under load on the quick way: no error, honest shares, and each answer logged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from math import sqrt
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from tests.serving.building import (
    A_ROW,
    FLOW,
    Replica,
    Version,
    a_desired,
    logged_rows,
    settings_for,
)
from tests.serving.test_compiled import a_compiled_version

WEIGHT = 0.3
CALLERS = 16
ASKED = (
    (f"/v1/models/{FLOW}/predict", {"rows": [A_ROW, {**A_ROW, "load": 2.0}]}),
    (f"/v1/models/{FLOW}/invocations", {"inputs": [list(A_ROW.values())] * 2}),
    (
        f"/v2/models/{FLOW}/infer",
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 3, 0.5]}]},
    ),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """However busy this machine is, a small model is asked on the loop."""
    return settings_for(tmp_path, inline_seconds=0.1)


@dataclass(slots=True)
class Watch:
    """What callers saw.

    Attributes:
        ids: of all rows that were answered.
    """

    ids: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    is_over: bool = False

    async def ask(self, client: httpx.AsyncClient, turn: int) -> None:
        while not self.is_over:
            turn += 1
            path, document = ASKED[turn % len(ASKED)]
            reply = await client.post(path, json=document)
            self.statuses[reply.status_code] += 1
            if reply.status_code == 200:
                self.ids += ids_in(reply.json())


def ids_in(document: Any) -> list[str]:
    if "parameters" in document:
        found: list[str] = document["parameters"]["prediction_ids"].split(",")
        return found
    if "prediction_ids" in document:
        return list(document["prediction_ids"])
    return [one["prediction_id"] for one in document["predictions"]]


async def rolled_under_load(
    replica: Replica, store: ArtifactStore, *, seconds: float, pause: float
) -> Watch:
    """Generations follow each other: another challenger each time, and a champion that changes."""
    versions = {number: a_compiled_version(store, number) for number in (1, 2, 3)}
    watch = Watch()
    await replica.want(a_state(1, versions))
    await replica.open()
    callers = [asyncio.create_task(watch.ask(replica.client, n)) for n in range(CALLERS)]
    began = time.monotonic()
    for generation in count(2):
        now = time.monotonic() - began
        if now >= seconds:
            break
        await asyncio.sleep(max(0.0, (generation - 1) * pause - now))  # the load is waited for
        await replica.want(a_state(generation, versions))
    watch.is_over = True
    await asyncio.gather(*callers)
    return watch


def a_state(generation: int, versions: dict[int, Version]) -> Any:
    champion, challenger = (versions[1 + (generation + n) % 3] for n in range(2))
    return a_desired(
        generation, champion, challenger=challenger, weight=WEIGHT, salt=f"salt {generation}"
    )


def check(replica: Replica, watch: Watch, generations: int) -> None:
    logged = [row for row in logged_rows(replica) if row["arm"] != "shadow"]
    challenged = sum(row["arm"] == "challenger" for row in logged)
    deviation = sqrt(WEIGHT * (1 - WEIGHT) / len(logged))
    assert set(watch.statuses) == {200}
    assert sorted(row["id"] for row in logged) == sorted(watch.ids)
    assert len({row["generation"] for row in logged}) >= generations
    assert abs(challenged / len(logged) - WEIGHT) < 5 * deviation
    assert {row["weight"] for row in logged if row["arm"] == "challenger"} == {WEIGHT}
    for row in logged:
        challenger = 1 + (row["generation"] + 1) % 3
        assert (row["version"] == challenger) is (row["arm"] == "challenger")


async def test_rollouts_follow_each_other_and_no_request_fails(
    replica: Replica, store: ArtifactStore
) -> None:
    watch = await rolled_under_load(replica, store, seconds=2.0, pause=0.2)

    check(replica, watch, 2)


@pytest.mark.nightly
@pytest.mark.timeout(180)
async def test_a_minute_of_rollouts_every_second_fails_nobody(
    replica: Replica, store: ArtifactStore
) -> None:
    watch = await rolled_under_load(replica, store, seconds=60, pause=1.0)

    check(replica, watch, 30)
