"""Rollouts on the quick way: drawn, counted, logged and stopped as on the careful way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from services.serving.app import Serving
from services.serving.routing import point_of
from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.manifest import Column
from shared.running import Part
from tests.serving.building import (
    A_ROW,
    FLOW,
    Replica,
    Version,
    a_desired,
    a_replica,
    a_version,
    logged_rows,
    settings_for,
    until,
)
from tests.serving.test_arms import PUMPS, measured
from tests.serving.test_compiled import NUMBERS, a_compiled_version
from tests.serving.test_lanes import CAREFUL, PATH, Counted, both, rows_of, without_chance

WEIGHT = 0.3


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """However busy this machine is, a small model is asked on the loop."""
    return settings_for(tmp_path, inline_seconds=0.1)


async def rolled_out(
    replica: Replica, store: ArtifactStore, challenger: Version | None = None, **how: Any
) -> tuple[Counted, Counted]:
    """A champion and its challenger, both open; how often each is asked the quick way."""
    champion = a_compiled_version(store, 2)
    other = challenger or a_compiled_version(store, 3)
    await replica.want(a_desired(1, champion, challenger=other, weight=WEIGHT, **how))
    await replica.open()
    return Counted(replica, champion.digest), Counted(replica, other.digest)


async def test_each_row_meets_the_same_arm_and_leaves_the_same_trace_on_both_ways(
    replica: Replica, store: ArtifactStore
) -> None:
    asked = await rolled_out(replica, store)

    quick, careful = await both(replica, rows_of(*PUMPS))

    assert quick.status_code == careful.status_code == 200
    found, expected = quick.json()["predictions"], careful.json()["predictions"]
    assert without_chance(found) == without_chance(expected)
    assert {one["version"] for one in found} == {2, 3}
    assert [len(one.rows) for one in asked] == [1, 1]
    logged = logged_rows(replica)
    assert without_chance(logged[:200]) == without_chance(logged[200:])
    assert [row["id"] for row in logged[:200]] == [one["prediction_id"] for one in found]
    assert {tuple(row["arms"]) for row in logged} == {(2, 3)}
    assert dict(quick.headers) == dict(careful.headers)


async def test_rows_without_an_entity_are_drawn_by_their_ids(
    replica: Replica, store: ArtifactStore
) -> None:
    await rolled_out(replica, store)

    found = [one for _ in range(4) for one in await replica.answers(*[A_ROW] * 200)]

    split = replica.serving.deployments.endpoints[FLOW].split
    drawn = [split.arm_at(point_of("salt", one["prediction_id"])) for one in found]
    assert [one["arm"] for one in found] == [("champion", "challenger")[arm] for arm in drawn]
    share = sum(drawn) / len(drawn)
    assert abs(share - WEIGHT) < 5 * sqrt(WEIGHT * (1 - WEIGHT) / len(drawn))


@pytest.mark.parametrize("is_quick", [True, False], ids=["quick", "careful"])
async def test_each_arm_is_measured_by_what_it_answered_on_either_way(
    replica: Replica, store: ArtifactStore, *, is_quick: bool
) -> None:
    asked = await rolled_out(replica, store)

    found = []
    for rows in (PUMPS[:1], PUMPS[:40], PUMPS, PUMPS[-1:]):
        path = PATH if is_quick else CAREFUL
        reply = await replica.client.post(path, json={"rows": rows})
        found += reply.json()["predictions"]

    by_arm = [[one for one in found if one["version"] == version] for version in (2, 3)]
    met = [sum(one["version"] == version for one in found[41:241]) for version in (2, 3)]
    arms = measured(replica)
    assert [(a.requests, a.errors) for a in arms] == [(len(own), 0) for own in by_arm]
    assert [(a.visits, a.new_entities) for a in arms] == [(n, n) for n in met]
    assert [sum(a.latency_counts) for a in arms] == [len(own) for own in by_arm]
    assert any(one.rows for one in asked) is is_quick


async def test_a_challenger_that_cannot_answer_is_drawn_no_rarer_for_it(
    replica: Replica, store: ArtifactStore
) -> None:
    bounded = a_compiled_version(store, 3, bounds=(0.0, 1.0))
    await rolled_out(replica, store, bounded)

    found = [one for _ in range(3) for one in await replica.answers(*[A_ROW] * 100)]

    split = replica.serving.deployments.endpoints[FLOW].split
    drawn = [split.arm_at(point_of("salt", one["prediction_id"])) for one in found]
    assert {(one["version"], one["rung"]) for one in found} == {(2, "champion")}
    assert [one["arm"] for one in found] == [("champion", "challenger")[arm] for arm in drawn]
    assert [(m.requests, m.errors) for m in measured(replica)] == [
        (drawn.count(0), 0),
        (drawn.count(1), drawn.count(1)),
    ]
    assert len({row["id"] for row in logged_rows(replica)}) == len(found)


async def test_requests_of_a_stopped_challenger_alone_take_the_careful_way(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, challenger = await rolled_out(replica, store)
    deployments = replica.serving.deployments
    deployments.stop(deployments.endpoints[FLOW], 1, "for a test")

    found = await asyncio.gather(*(replica.answers(row) for row in PUMPS[:60]))

    arms = [one["arm"] for (one,) in found]
    assert {one["version"] for (one,) in found} == {2}
    assert sum(champion.rows) == arms.count("champion")
    assert challenger.rows == []
    assert [(m.requests, m.errors) for m in measured(replica)] == [
        (arms.count("champion"), 0),
        (arms.count("challenger"), arms.count("challenger")),
    ]


async def test_a_challenger_without_a_compiled_model_leaves_the_champion_quick(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, plain = a_compiled_version(store, 2), a_version(store, 3)
    await replica.want(a_desired(1, champion, challenger=plain, weight=0.5))
    await replica.open()
    counted = Counted(replica, champion.digest)

    found = await asyncio.gather(*(replica.answers(row) for row in PUMPS[:40]))

    assert {one["version"] for (one,) in found} == {2, 3}
    assert sum(counted.rows) == sum(one["version"] == 2 for (one,) in found)


def with_another_column(store: ArtifactStore) -> Version:
    """The challenger has its columns in another order, and one that the champion does not know."""
    load, hour, lag = NUMBERS
    columns = (Column(name="valve", kind="number", minimum=-3.0, maximum=3.0), lag, hour, load)
    table = np.random.default_rng(3).normal(size=(60, 4))
    fitted = LinearRegression().fit(table, 10 * table[:, 0] + table[:, 3])
    return a_compiled_version(store, 3, estimator=fitted, columns=columns, rows=table)


async def test_a_challenger_may_know_a_column_more_and_in_another_order(
    replica: Replica, store: ArtifactStore
) -> None:
    _, challenger = await rolled_out(replica, store, with_another_column(store))
    whole = [{**row, "valve": 1.5} for row in PUMPS]

    quick, careful = await both(replica, rows_of(*whole))
    some, some_careful = await both(replica, rows_of(*PUMPS[:50]))

    assert without_chance(quick.json()["predictions"]) == without_chance(
        careful.json()["predictions"]
    )
    assert challenger.rows == [sum(one["version"] == 3 for one in quick.json()["predictions"])]
    assert without_chance(some.json()["predictions"]) == without_chance(
        some_careful.json()["predictions"]
    )
    logged = logged_rows(replica)
    assert without_chance(logged[:200]) == without_chance(logged[200:400])


def with_shadows(serving: Serving) -> list[Part]:
    return [serving.deployments.run, serving.shadows.run]


async def test_a_shadow_is_asked_beside_a_rollout_about_rows_of_every_arm(
    store: ArtifactStore, settings: Settings
) -> None:
    async with a_replica(settings, with_shadows) as replica:
        champion, challenger = await rolled_out(replica, store, shadow=a_compiled_version(store, 4))

        found = await asyncio.gather(*(replica.answers(row) for row in PUMPS[:30]))
        seen = {one["prediction_id"]: one for (one,) in found}
        await until(lambda: len(shadowed(replica)) == len(seen))

        assert shadowed(replica).keys() == seen.keys()
        assert sum(champion.rows) + sum(challenger.rows) == 30
        arms = {arm.version: arm for arm in measured(replica)}
        assert (arms[4].requests, arms[4].errors) == (30, 0)
        assert arms[4].compared == sum(one["version"] == 2 for one in seen.values())


def shadowed(replica: Replica) -> dict[str, Mapping[str, Any]]:
    return {r["shadow_of"]: r for r in logged_rows(replica) if r["arm"] == "shadow"}
