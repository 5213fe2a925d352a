"""Shadows: asked after the answer, in the background; nobody notices but their measures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.serving.app import Serving
from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.events import ArmMeasure, PredictionsLogged, ServingMeasured, ServingRefused
from shared.running import Part
from shared.telemetry import REGISTRY
from tests.serving.building import (
    A_ROW,
    FLOW,
    Interference,
    Replica,
    Version,
    a_classifier,
    a_desired,
    a_replica,
    a_version,
    logged_rows,
    settings_for,
    until,
)


def with_shadows(serving: Serving) -> list[Part]:
    return [serving.deployments.run, serving.shadows.run]


@pytest.fixture
async def replica(settings: Settings) -> AsyncIterator[Replica]:
    async with a_replica(settings, with_shadows) as found:
        yield found


async def are_done(replica: Replica) -> None:
    """Every shadow that is to be asked has been."""
    await asyncio.sleep(0)
    await until(lambda: replica.serving.shadows.is_idle)


def measured(replica: Replica) -> dict[str, ArmMeasure]:
    """By role, from the one measure that waits."""
    replica.serving.upkeep.say_measures(all_of_them=True)
    return {arm.role: arm for arm in replica.said(ServingMeasured)[-1].arms}


def unseen(replica: Replica) -> list[dict[str, Any]]:
    return [row for row in logged_rows(replica) if row["arm"] == "shadow"]


def predictions_counted() -> float:
    labels = {"model": FLOW, "role": "shadow", "outcome": "ok"}
    return REGISTRY.get_sample_value("tidewheel_predictions_total", labels) or 0.0


async def test_a_shadow_answers_what_was_seen_and_is_logged_beside_it(
    replica: Replica, store: ArtifactStore
) -> None:
    shadow = a_version(store, 2)
    await replica.want(a_desired(4, a_version(store, 1), shadow=shadow))

    (seen,) = await replica.answers({**A_ROW, "pump": "north"})
    await are_done(replica)

    assert (seen["version"], seen["arm"], seen["answer"]) == (1, "champion", pytest.approx(11.0))
    (row,) = unseen(replica)
    assert row["answer"] == pytest.approx(12.0)
    expected = {"version": 2, "manifest": shadow.digest, "rung": "shadow", "weight": 1.0}
    expected |= {"shadow_of": seen["prediction_id"], "entity": "north", "generation": 4}
    assert row | expected == row


async def test_the_id_of_an_unseen_answer_follows_from_the_seen_one_and_takes_no_outcome(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1), shadow=a_version(store, 2)))
    await replica.answers(A_ROW, A_ROW)
    await are_done(replica)

    ids = [row["id"] for row in unseen(replica)]
    observation = {"prediction_id": ids[0], "value": 1.0}
    refused = await replica.client.post(
        "/v1/feedback", json={"model": "flow", "observations": [observation]}
    )

    assert len(set(ids)) == 2
    assert refused.status_code == 422


async def test_the_log_of_a_shadow_reaches_readers_with_what_it_belongs_to(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1), shadow=a_version(store, 2)))
    (seen,) = await replica.answers()
    await are_done(replica)

    replica.serving.sender._seal_due(at_once=True)

    (batch,) = replica.said(PredictionsLogged)
    first, second = batch.rows
    assert (first.id, first.shadow_of) == (seen["prediction_id"], None)
    assert (second.shadow_of, second.features) == (first.id, ())


async def test_only_its_share_is_asked_and_by_the_id_alone(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1), shadow=a_version(store, 2), share=0.25))

    for _ in range(10):
        await replica.answers(*[{**A_ROW, "pump": "one"}] * 100)
        await are_done(replica)

    asked = len(unseen(replica))
    assert abs(asked / 1000 - 0.25) < 0.06
    assert measured(replica)["shadow"].requests == asked
    assert {row["weight"] for row in unseen(replica)} == {0.25}


async def test_unseen_answers_are_no_predictions(replica: Replica, store: ArtifactStore) -> None:
    before = predictions_counted()
    await replica.want(a_desired(1, a_version(store, 1), shadow=a_version(store, 2)))

    await replica.answers(A_ROW, A_ROW)
    await are_done(replica)

    arms = measured(replica)
    assert predictions_counted() == before
    assert (arms["champion"].requests, arms["champion"].errors) == (2, 0)
    assert sum(arms["champion"].latency_counts) == 2


async def test_agreement_is_measured_against_a_tenth_of_the_champions_error(
    replica: Replica, store: ArtifactStore
) -> None:
    champion = a_version(store, 1, metrics={"mae": 10.0})
    await replica.want(a_desired(1, champion, shadow=a_version(store, 2)))

    # The answers of versions 1 and 2 are as far apart as the load is.
    await replica.answers(*[{**A_ROW, "load": load} for load in (0.2, 0.9, 1.1, -3.0)])
    await are_done(replica)

    shadow = measured(replica)["shadow"]
    assert (shadow.requests, shadow.errors, shadow.compared, shadow.disagreed) == (4, 0, 4, 2)
    assert sum(shadow.latency_counts) == 4


async def test_another_class_is_a_disagreement(replica: Replica, store: ArtifactStore) -> None:
    given: dict[str, Any] = {"task": "classification", "classes": ("dry", "wet")}
    one = a_version(store, 1, estimator=a_classifier(), **given)
    other = a_version(store, 2, estimator=a_classifier(), use="other", **given)
    await replica.want(a_desired(1, one, shadow=other))
    between = Interference(replica, other)
    between.say = lambda rows: [("wet", [0.4, 0.6]) for _ in rows]

    await replica.answers({**A_ROW, "load": 2.5}, {**A_ROW, "load": -2.5})
    await are_done(replica)

    shadow = measured(replica)["shadow"]
    assert (shadow.compared, shadow.disagreed) == (2, 1)
    assert [row["score"] for row in unseen(replica)] == [0.6, 0.6]


async def test_a_slow_shadow_delays_nobody_and_what_it_has_no_time_for_is_dropped(
    tmp_path: Path, store: ArtifactStore
) -> None:
    settings = settings_for(tmp_path, shadow_rows=50, shadow_seconds=60)
    async with a_replica(settings, with_shadows) as replica:
        shadow = a_version(store, 2)
        await replica.want(a_desired(1, a_version(store, 1), shadow=shadow))
        between, gate = Interference(replica, shadow), threading.Event()
        between.say = lambda rows: gate.wait(50) and between._real(rows)

        answers = [await replica.answers(A_ROW) for _ in range(200)]
        still_waiting = between.asked
        gate.set()
        await are_done(replica)

        arms = measured(replica)
        assert {a["version"] for one in answers for a in one} == {1}
        assert still_waiting == 1, "two hundred answers left while the shadow was at its first"
        assert arms["champion"].requests == 200
        assert arms["shadow"].requests + arms["shadow"].dropped == 200
        assert 100 <= arms["shadow"].dropped <= 150
        assert len(unseen(replica)) == arms["shadow"].requests


async def test_a_shadow_that_hangs_is_an_error_then_dropped_and_others_go_on(
    tmp_path: Path, store: ArtifactStore
) -> None:
    settings = settings_for(tmp_path, shadow_seconds=0.05)
    async with a_replica(settings, with_shadows) as replica:
        hanging, sound = a_version(store, 2), a_version(store, 4)
        await replica.want(a_desired(1, a_version(store, 1), shadow=hanging))
        other = a_desired(1, a_version(store, 3), shadow=sound, model="other")
        await replica.want(other)
        between, gate = Interference(replica, hanging), threading.Event()
        between.say = lambda _: gate.wait(20)

        await replica.answers(A_ROW)
        await are_done(replica)
        await replica.answers(*[A_ROW] * 3)
        await replica.answers(A_ROW, model="other")
        await are_done(replica)

        tallies = [replica.serving.deployments.endpoints[m].tallies[1] for m in (FLOW, "other")]  # type: ignore[index]
        assert [(t.requests, t.errors, t.dropped) for t in tallies] == [(1, 1, 3), (1, 0, 0)]
        assert between.asked == 1
        assert replica.said(ServingRefused) == [], "slow may be the machine"
        gate.set()
        await until(lambda: not replica.serving.shadows._hangs(hanging.digest))
        between.heal()
        await replica.answers(A_ROW)
        await are_done(replica)
        assert [row["version"] for row in unseen(replica)] == [4, 2]


async def test_a_shadow_that_raises_harms_nobody_and_is_refused_after_three_in_a_row(
    replica: Replica, store: ArtifactStore
) -> None:
    shadow = a_version(store, 2)
    await replica.want(a_desired(1, a_version(store, 1), shadow=shadow))
    between = Interference(replica, shadow)
    between.say = between.fail

    for _ in range(5):
        assert (await replica.answers(A_ROW))[0]["version"] == 1
        await are_done(replica)

    tally = measured(replica)["shadow"]
    assert (tally.requests, tally.errors, between.asked) == (5, 5, 3)
    (said,) = replica.said(ServingRefused)
    assert (said.version, said.reason, "out of order" in said.detail) == (2, "faulty", True)


async def test_a_row_that_a_shadow_raises_at_costs_no_other_row_its_answer(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1), shadow=a_version(store, 2)))
    gap = {**A_ROW, "lag": None}

    await replica.answers(A_ROW, gap, A_ROW)
    await are_done(replica)

    tally = measured(replica)["shadow"]
    assert (tally.requests, tally.errors, tally.compared) == (3, 1, 2)
    assert replica.said(ServingRefused) == []


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1000.0])
async def test_one_unseen_answer_that_may_not_be_given_is_a_fault(
    replica: Replica, store: ArtifactStore, wrong: float
) -> None:
    bounds = (0.0, 100.0)
    shadow = a_version(store, 2, bounds=bounds)
    await replica.want(a_desired(1, a_version(store, 1, bounds=bounds), shadow=shadow))
    between = Interference(replica, shadow)
    between.say = lambda rows: [(wrong, None) for _ in rows]

    await replica.answers(A_ROW)
    await are_done(replica)
    await replica.answers(A_ROW)
    await are_done(replica)

    shown = (await replica.client.get(f"/v1/models/{FLOW}")).json()["arms"][1]
    tally = measured(replica)["shadow"]
    assert (tally.requests, tally.errors, tally.compared, between.asked) == (2, 2, 0, 1)
    assert [one.reason for one in replica.said(ServingRefused)] == ["faulty"]
    assert "may not be given" in shown["stopped"]
    assert unseen(replica) == []


async def test_a_row_that_the_champion_cannot_answer_either_is_no_fault(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1), shadow=a_version(store, 2)))

    (seen,) = await replica.answers({"load": 1.7e308, "hour": 1.7e308, "lag": -1.7e308})
    await are_done(replica)

    assert seen["rung"] == "baseline"
    assert measured(replica)["shadow"].errors == 1
    assert replica.said(ServingRefused) == []


async def test_a_shadow_that_cannot_be_loaded_is_refused_and_its_champion_answers(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))
    broken: Version = a_version(store, 3, data=b"no model")
    await replica.want(a_desired(2, a_version(store, 2), shadow=broken))

    (seen,) = await replica.answers()
    await are_done(replica)

    assert (seen["version"], seen["generation"]) == (2, 2)
    assert [(r.version, r.reason) for r in replica.said(ServingRefused)] == [(3, "unsafe")]
    shadow = measured(replica)["shadow"]
    assert (shadow.requests, shadow.errors) == (1, 1)


async def test_a_first_version_can_be_a_shadow_of_the_rule(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, shadow=a_version(store, 1)))

    (seen,) = await replica.answers()
    await are_done(replica)

    shadow = measured(replica)["shadow"]
    assert (seen["rung"], seen["arm"]) == ("baseline", "none")
    assert (shadow.requests, shadow.errors, shadow.compared) == (1, 0, 0)
    assert unseen(replica)[0]["shadow_of"] == seen["prediction_id"]


async def test_a_full_spool_costs_shadows_before_it_costs_what_was_seen(
    tmp_path: Path, store: ArtifactStore
) -> None:
    async with a_replica(settings_for(tmp_path, spool_bytes=20_000), with_shadows) as replica:
        required = a_version(store, 1, lineage="required")
        await replica.want(a_desired(1, required, shadow=a_version(store, 2)))

        statuses = []
        for _ in range(60):
            statuses.append((await replica.ask()).status_code)
            await are_done(replica)

        rows = logged_rows(replica)
        tally = replica.serving.deployments.endpoints[FLOW].tallies[1]
        assert statuses.count(200) == len(rows) - len(unseen(replica))
        assert 0 < len(unseen(replica)) < statuses.count(200)
        assert len(unseen(replica)) + tally.dropped == statuses.count(200)


async def test_a_stop_in_order_answers_what_waits(tmp_path: Path, store: ArtifactStore) -> None:
    shadow = a_version(store, 2)
    async with a_replica(settings_for(tmp_path), lambda s: [s.deployments.run]) as replica:
        await replica.want(a_desired(1, a_version(store, 1), shadow=shadow))
        await replica.answers(*[A_ROW] * 100)
        await asyncio.sleep(0)

        await replica.serving.shadows.finish()

        tally = replica.serving.deployments.endpoints[FLOW].tallies[1]
        assert (tally.requests, tally.dropped, len(unseen(replica))) == (100, 0, 100)
        await replica.answers(A_ROW)
        await asyncio.sleep(0)
        assert tally.dropped == 1


async def test_a_stop_waits_for_no_hanging_shadow(tmp_path: Path, store: ArtifactStore) -> None:
    settings = settings_for(tmp_path, shadow_seconds=0.1)
    shadow = a_version(store, 2)
    async with a_replica(settings, lambda s: [s.deployments.run]) as replica:
        await replica.want(a_desired(1, a_version(store, 1), shadow=shadow))
        between, gate = Interference(replica, shadow), threading.Event()
        between.say = lambda _: gate.wait(20)
        await replica.answers(*[A_ROW] * 100)
        await asyncio.sleep(0)

        await replica.serving.shadows.finish()

        tally = replica.serving.deployments.endpoints[FLOW].tallies[1]
        gate.set()
        assert tally.requests + tally.dropped == 100
        assert tally.errors == tally.requests == 32
