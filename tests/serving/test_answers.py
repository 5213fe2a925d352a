"""Answers: who gives them, what happens when a version cannot, and what is said about it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.events import GroundTruthObserved, PredictionsLogged, ServingFellBack, ServingMeasured
from shared.manifest import Column
from shared.telemetry import REGISTRY
from tests.serving.building import (
    A_ROW,
    NAMES,
    Interference,
    Replica,
    a_classifier,
    a_desired,
    a_replica,
    a_version,
    logged_rows,
    settings_for,
    until,
)


async def test_every_answer_tells_where_it_came_from(
    replica: Replica, store: ArtifactStore
) -> None:
    version = a_version(store, 3)
    await replica.want(a_desired(7, version))

    (answer,) = await replica.answers()

    assert answer.pop("prediction_id").startswith("p-")
    assert answer.pop("answer") == pytest.approx(13.0)
    assert answer == {
        "version": 3,
        "digest": version.digest,
        "rung": "champion",
        "arm": "champion",
        "generation": 7,
    }


async def test_the_order_of_fields_does_not_matter(replica: Replica, store: ArtifactStore) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))

    first, second = await replica.answers(A_ROW, dict(reversed(list(A_ROW.items()))))

    assert first["answer"] == second["answer"]


async def test_many_rows_have_one_answer_each_in_their_order(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))
    rows = [{**A_ROW, "load": float(load)} for load in range(200)]

    answers = await replica.answers(*rows)

    assert [round(a["answer"]) for a in answers] == [10 + load for load in range(200)]
    assert len({a["prediction_id"] for a in answers}) == 200


async def test_a_classifier_gives_its_label_and_probabilities(
    replica: Replica, store: ArtifactStore
) -> None:
    version = a_version(
        store,
        1,
        estimator=a_classifier(),
        task="classification",
        classes=("dry", "wet"),
        metric="log_loss",
    )
    await replica.want(a_desired(1, version))

    (answer,) = await replica.answers({**A_ROW, "load": 2.5})

    assert answer["answer"] == "wet"
    assert set(answer["probabilities"]) == {"dry", "wet"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert logged_rows(replica)[0]["score"] == answer["probabilities"]["wet"]


async def test_an_entity_stays_with_its_arm(replica: Replica, store: ArtifactStore) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    await replica.want(a_desired(1, champion, challenger=challenger))
    rows = [{**A_ROW, "pump": f"p{i % 10}"} for i in range(100)]

    answers = await replica.answers(*rows)

    arms = {row["pump"]: set[str]() for row in rows}
    for row, answer in zip(rows, answers, strict=True):
        arms[row["pump"]].add(answer["arm"])
    assert all(len(met) == 1 for met in arms.values())
    assert {a["arm"] for a in answers} == {"champion", "challenger"}


async def test_without_any_version_the_rule_answers(replica: Replica) -> None:
    rule = {"rule": "column", "column": "lag", "otherwise": 3.0}
    await replica.want(a_desired(1, rule=rule))

    answers = await replica.answers({"lag": 0.25}, {"other": "x"})

    assert [(a["answer"], a["rung"], a["version"]) for a in answers] == [
        (0.25, "baseline", None),
        (3.0, "baseline", None),
    ]


async def test_a_version_that_raises_is_answered_for_by_the_rung_below(
    replica: Replica, store: ArtifactStore
) -> None:
    champion = a_version(store, 2)
    await replica.want(a_desired(1, champion, previous=a_version(store, 1)))
    between = Interference(replica, champion)
    between.say = between.fail

    answers = [(await replica.answers())[0] for _ in range(5)]

    assert {(a["version"], a["rung"], a["arm"]) for a in answers} == {(1, "previous", "champion")}
    assert between.asked == 3
    (said,) = replica.said(ServingFellBack)
    assert (said.rung, "out of order" in said.cause) == ("previous", True)


async def test_after_its_rest_a_version_is_asked_again(
    tmp_path: Path, store: ArtifactStore
) -> None:
    async with a_replica(settings_for(tmp_path, rest_seconds=0.05)) as replica:
        champion = a_version(store, 2)
        await replica.want(a_desired(1, champion))
        between = Interference(replica, champion)
        between.say = between.fail
        for _ in range(3):
            await replica.answers()
        between.heal()

        async def is_back() -> bool:
            return bool((await replica.answers())[0]["rung"] == "champion")

        async with asyncio.timeout(10):
            while not await is_back():
                pass
        replica.serving.predictions.tell_standings()

        assert replica.said(ServingFellBack)[-1].rung == "champion"


async def test_a_version_that_is_out_of_time_is_answered_for(
    tmp_path: Path, store: ArtifactStore
) -> None:
    settings = settings_for(tmp_path, answer_seconds=0.05, inline_seconds=0)
    async with a_replica(settings) as replica:
        champion = a_version(store, 2)
        await replica.want(a_desired(1, champion))
        between = Interference(replica, champion)
        may_go_on = threading.Event()
        between.say = lambda _: may_go_on.wait(20)

        answers = [(await replica.answers())[0] for _ in range(4)]

        assert {a["rung"] for a in answers} == {"baseline"}
        assert between.asked == 2, "two hang: it is not asked for a third thread"
        may_go_on.set()
        await until(lambda: between.before.health.overdue == 0)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1000.0])
async def test_an_answer_that_is_of_no_use_is_not_given(
    replica: Replica, store: ArtifactStore, wrong: float
) -> None:
    champion = a_version(store, 2, bounds=(0.0, 100.0))
    await replica.want(a_desired(1, champion))
    between = Interference(replica, champion)
    between.say = lambda rows: [(wrong if row["load"] == 0 else 5.0, None) for row in rows]

    answers = await replica.answers({**A_ROW, "load": 0}, A_ROW)

    assert [(a["rung"], a["answer"]) for a in answers] == [("baseline", -1.0), ("champion", 5.0)]


async def test_finite_inputs_that_overflow_are_answered_by_the_rule(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 9)))

    (answer,) = await replica.answers({"load": 1.7e308, "hour": 1.7e308, "lag": -1.7e308})

    assert answer["rung"] == "baseline"


async def test_a_challenger_that_needs_more_than_the_champion_fails_alone(
    replica: Replica, store: ArtifactStore
) -> None:
    champion = a_version(store, 1)
    wider = [
        Column(name=n, kind="number", minimum=0.0, maximum=1.0) for n in ("rain", "hour", "lag")
    ]
    challenger = a_version(store, 2, columns=tuple(wider))
    await replica.want(a_desired(1, champion, challenger=challenger, weight=1.0))

    (without,) = await replica.answers(A_ROW)
    (with_it,) = await replica.answers({**A_ROW, "rain": 1.0})

    assert (without["arm"], without["rung"]) == ("challenger", "champion")
    assert (with_it["arm"], with_it["rung"]) == ("challenger", "challenger")


async def test_rows_with_missing_values_send_no_version_to_rest(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))
    gap = {**A_ROW, "lag": None}

    answers = [await replica.answers(gap, A_ROW) for _ in range(5)]

    assert {tuple(a["rung"] for a in both) for both in answers} == {("baseline", "champion")}
    assert replica.said(ServingFellBack) == []


async def test_missing_numbers_may_be_null(replica: Replica, store: ArtifactStore) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))

    response = await replica.ask({**A_ROW, "lag": None})

    assert response.status_code == 200
    assert response.json()["predictions"][0]["rung"] == "baseline"


async def test_a_model_that_is_not_served_is_not_found(replica: Replica) -> None:
    response = await replica.ask(model="unheard-of")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_nothing_that_could_answer_is_503_and_not_an_error(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1, data=b"no model"), rule=None))

    response = await replica.ask()

    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


# --- measures ---------------------------------------------------------------------------------


async def test_both_arms_are_measured_with_their_errors_and_times(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    await replica.want(a_desired(1, champion, challenger=challenger))
    between = Interference(replica, challenger)
    between.say = between.fail
    rows = [{**A_ROW, "pump": str(i)} for i in range(40)]

    answers = await replica.answers(*rows)
    replica.serving.upkeep.say_measures(all_of_them=True)

    (said,) = replica.said(ServingMeasured)
    first, second = said.arms
    routed = sum(a["arm"] == "challenger" for a in answers)
    assert (first.role, first.requests, first.errors) == ("champion", 40 - routed, 0)
    assert (second.role, second.requests, second.errors) == ("challenger", routed, routed)
    assert sum(first.latency_counts) == first.requests
    assert {a["version"] for a in answers} == {1}


async def test_generations_are_never_mixed_in_a_measure(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    for generation, weight in ((1, 0.25), (2, 0.5)):
        await replica.want(a_desired(generation, champion, challenger=challenger, weight=weight))
        await replica.answers()

    replica.serving.upkeep.say_measures()

    assert [m.generation for m in replica.said(ServingMeasured)] == [1]


async def test_a_measure_that_cannot_leave_grows_instead_of_queueing(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1), probation=True))
    for _ in range(3):
        await replica.answers()
        replica.serving.upkeep.say_measures(all_of_them=True)

    (said,) = replica.said(ServingMeasured)
    (measure,) = replica.serving.deployments.measures
    assert said.arms[0].requests == 1
    assert measure.endpoint.tallies[0].requests == 2


# --- log --------------------------------------------------------------------------------------


async def test_every_answer_is_in_the_log_before_it_is_given(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))

    answers = await replica.answers({**A_ROW, "pump": "north"}, A_ROW)

    rows = logged_rows(replica)
    assert [row["id"] for row in rows] == [a["prediction_id"] for a in answers]
    assert rows[0]["entity"] == "north"
    assert rows[0]["features"] == [float(A_ROW[name]) for name in NAMES]


async def test_the_log_becomes_batches_that_any_reader_understands(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))
    answers = await replica.answers(*[A_ROW] * 250)

    replica.serving.sender._seal_due(at_once=True)

    batches = replica.said(PredictionsLogged)
    assert [len(batch.rows) for batch in batches] == [100, 100, 50]
    assert [b.batch - batches[0].batch for b in batches] == [0, 1, 2]
    assert [row.id for b in batches for row in b.rows] == [a["prediction_id"] for a in answers]
    assert batches[0].columns == (NAMES,)


async def test_required_lineage_refuses_what_it_cannot_log(
    tmp_path: Path, store: ArtifactStore
) -> None:
    async with a_replica(settings_for(tmp_path, spool_bytes=10_000)) as replica:
        await replica.want(a_desired(1, a_version(store, 1, lineage="required")))

        statuses = [(await replica.ask()).status_code for _ in range(60)]

        assert statuses.count(200) == len(logged_rows(replica)) > 0
        assert set(statuses) == {200, 503}
        assert replica.serving.spool.size_bytes <= 10_500


async def test_outcomes_are_never_dropped_quietly(tmp_path: Path, store: ArtifactStore) -> None:
    async with a_replica(settings_for(tmp_path, spool_bytes=10_000)) as replica:
        await replica.want(a_desired(1, a_version(store, 1)))
        one = {"prediction_id": "p-" + "0" * 32, "value": 1.0}
        given = {"model": "flow", "observations": [one] * 20}

        statuses = [
            (await replica.client.post("/v1/feedback", json=given)).status_code for _ in range(5)
        ]

        kept = replica.said(GroundTruthObserved)
        assert set(statuses) == {202, 503}
        assert len(kept) == 20 * statuses.count(202)


async def test_best_effort_answers_and_counts_the_gap(tmp_path: Path, store: ArtifactStore) -> None:

    def gaps() -> float:
        name = "tidewheel_prediction_log_gaps_total"
        return REGISTRY.get_sample_value(name, {"reason": "full"}) or 0.0

    before = gaps()
    async with a_replica(settings_for(tmp_path, spool_bytes=10_000)) as replica:
        await replica.want(a_desired(1, a_version(store, 1)))

        statuses = [(await replica.ask()).status_code for _ in range(60)]

        assert set(statuses) == {200}
        lost = 60 - len(logged_rows(replica))
        replica.serving.sender._seal_due(at_once=True)
        assert gaps() - before == lost > 0
        assert sum(batch.gaps for batch in replica.said(PredictionsLogged)) == lost


async def test_an_endpoint_without_anything_that_answers_is_503(replica: Replica) -> None:
    await replica.want(a_desired(1, rule=None))
    replica.serving.predictions.tell_standings()

    assert (await replica.ask()).status_code == 503


async def test_the_service_is_not_ready_before_it_can_answer(settings: Settings) -> None:
    async with a_replica(settings, lambda _: []) as replica:
        before = await replica.client.get("/ready")
        replica.serving.caught_up.set()
        await replica.serving.become_ready()
        after = await replica.client.get("/ready")

    assert (before.status_code, after.status_code) == (503, 200)
    assert after.json()["broker"] == "unknown"
