"""Several arms beside each other: shares, whom they met, and who is asked no longer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.serving.domain.agreement import disagree, tolerance_of
from services.serving.domain.tallies import Met
from shared.artifacts import ArtifactStore
from shared.events import ArmMeasure, DeploymentDesired, Heard, ServingMeasured, ServingRefused
from tests.serving.building import (
    A_ROW,
    FLOW,
    Interference,
    Replica,
    a_desired,
    a_manifest,
    a_version,
    an_arm,
    heard_of,
    logged_rows,
)

PUMPS = [{**A_ROW, "pump": str(i)} for i in range(200)]


def with_arms(heard: Heard[DeploymentDesired], *arms: Any) -> Heard[DeploymentDesired]:
    return heard_of(replace(heard.event, arms=arms))


def measured(replica: Replica) -> tuple[ArmMeasure, ...]:
    replica.serving.upkeep.say_measures(all_of_them=True)
    return tuple(replica.said(ServingMeasured)[-1].arms)


async def test_several_challengers_answer_beside_each_other(
    replica: Replica, store: ArtifactStore
) -> None:
    one, two, three = (a_version(store, number) for number in (1, 2, 3))
    arms = (an_arm(two, 0.3, "challenger"), an_arm(one, 0.4), an_arm(three, 0.3, "challenger"))
    await replica.want(with_arms(a_desired(1, one), *arms))

    answers = await replica.answers(*PUMPS)

    rows = {row["id"]: row for row in logged_rows(replica)}
    weights = {(rows[a["prediction_id"]]["weight"], a["version"], a["arm"]) for a in answers}
    assert weights == {(0.4, 1, "champion"), (0.3, 2, "challenger"), (0.3, 3, "challenger")}
    assert {tuple(row["arms"]) for row in rows.values()} == {(1, 2, 3)}
    assert [(m.version, m.requests) for m in measured(replica)] == [
        (number, sum(a["version"] == number for a in answers)) for number in (2, 1, 3)
    ]


async def test_a_champion_that_is_alone_has_the_whole_weight(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))

    await replica.answers(A_ROW)

    (row,) = logged_rows(replica)
    assert (row["weight"], "arms" in row) == (1.0, False)


async def test_new_entities_are_counted_once_per_arm_and_generation(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    await replica.want(a_desired(1, champion, challenger=challenger))

    answers = await replica.answers(*PUMPS, *PUMPS, A_ROW)
    first = [arm.new_entities for arm in replica.serving.deployments.measures[-1].take()]
    await replica.answers(*PUMPS)
    again = [arm.new_entities for arm in replica.serving.deployments.measures[-1].take()]
    await replica.want(a_desired(2, champion, challenger=challenger, weight=0.6))
    await replica.answers(*PUMPS)

    met = sum(a["arm"] == "champion" for a in answers[:200])
    assert (first, again) == ([met, 200 - met], [0, 0])
    assert sum(arm.new_entities for arm in replica.serving.deployments.measures[-1].take()) == 200


def test_beyond_its_bound_new_entities_are_not_counted() -> None:
    met = Met(most=100)

    counted = [met.count_new(str(i) for i in range(start, start + 60)) for start in (0, 60, 120)]

    assert counted == [60, 60, 0]
    assert met.is_full
    assert len(met.hashes) == 120


@pytest.mark.parametrize("wrong", [float("nan"), 1000.0])
async def test_one_answer_that_may_not_be_given_stops_a_challenger(
    replica: Replica, store: ArtifactStore, wrong: float
) -> None:
    bounds = (0.0, 100.0)
    challenger = a_version(store, 2, bounds=bounds)
    champion = a_version(store, 1, bounds=bounds)
    await replica.want(a_desired(1, champion, challenger=challenger, weight=1.0))
    between = Interference(replica, challenger)
    between.say = lambda rows: [(wrong, None) for _ in rows]

    answers = [(await replica.answers(A_ROW))[0] for _ in range(4)]

    assert {(a["arm"], a["rung"], a["version"]) for a in answers} == {("challenger", "champion", 1)}
    assert between.asked == 1
    (said,) = replica.said(ServingRefused)
    assert (said.version, said.generation, said.reason) == (2, 1, "faulty")
    assert [(m.requests, m.errors) for m in measured(replica)] == [(0, 0), (4, 4)]


async def test_a_challenger_that_raises_three_times_is_stopped_until_the_next_generation(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    await replica.want(a_desired(1, champion, challenger=challenger, weight=1.0))
    between = Interference(replica, challenger)
    between.say = between.fail
    for _ in range(5):
        await replica.answers(A_ROW)
    stopped = (await replica.client.get(f"/v1/models/{FLOW}")).json()["arms"][1]["stopped"]
    asked = between.asked

    between.heal()
    between.before.health.rests_until = 0.0
    still = (await replica.answers(A_ROW))[0]["version"]
    await replica.want(a_desired(2, champion, challenger=challenger, weight=1.0))
    again = (await replica.answers(A_ROW))[0]["version"]

    assert (asked, still, again) == (3, 1, 2)
    assert "out of order" in stopped
    assert [r.reason for r in replica.said(ServingRefused)] == ["faulty"]


async def test_a_row_that_nobody_can_answer_stops_no_challenger(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    await replica.want(a_desired(1, champion, challenger=challenger, weight=1.0))

    (overflow,) = await replica.answers({"load": 1.7e308, "hour": 1.7e308, "lag": -1.7e308})
    (sound,) = await replica.answers(A_ROW)

    assert (overflow["rung"], sound["version"]) == ("baseline", 2)
    assert replica.said(ServingRefused) == []


async def test_a_champion_is_never_stopped_for_one_answer(
    replica: Replica, store: ArtifactStore
) -> None:
    champion = a_version(store, 2, bounds=(0.0, 100.0))
    await replica.want(a_desired(1, champion, previous=a_version(store, 1)))
    between = Interference(replica, champion)
    between.say = lambda rows: [(1000.0 if row["load"] == 0 else 5.0, None) for row in rows]

    answers = await replica.answers({**A_ROW, "load": 0}, A_ROW)

    assert [a["rung"] for a in answers] == ["previous", "champion"]
    assert replica.said(ServingRefused) == []


def test_the_tolerance_is_a_tenth_of_the_held_out_error_and_exact_for_classes() -> None:
    manifest = a_manifest("0" * 64, 1)  # type: ignore[arg-type]

    def tolerance(**metrics: float) -> float | None:
        return tolerance_of(replace(manifest, metrics=metrics))

    assert tolerance(mae=2.0, rmse=3.0) == pytest.approx(0.2)
    assert tolerance(rmse=3.0) == pytest.approx(0.3)
    assert tolerance(mse=4.0) == pytest.approx(0.2)
    assert tolerance() is None
    assert tolerance_of(replace(manifest, task="classification")) == 0.0


def test_without_a_known_error_numbers_may_differ_by_a_hundredth() -> None:
    assert not disagree(100.0, 100.9, None)
    assert disagree(100.0, 101.1, None)
    assert disagree("wet", "dry", 0.0)
    assert disagree(True, False, 0.0)
    assert not disagree(1.0, 1.0, 0.0)
