"""From published to served: percentiles, staleness against the objective, what stands still."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.registry.freshness import (
    Passage,
    Pending,
    Standing,
    allowance,
    longest_waits,
    read_objective,
    stage_of,
)
from services.registry.handlers.vitals import Vitals
from shared.events import (
    DeploymentRolledBack,
    Digest,
    Event,
    ModelName,
    ModelPromoted,
    RolloutId,
    ServingApplied,
    TrainingFailed,
    TrainingStarted,
)
from shared.ids import uuid7
from shared.telemetry import REGISTRY
from tests.registry.builders import a_spec, a_training, heard, some_rows
from tests.registry.conftest import House

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SPEC: dict[str, Any] = {
    "train": {"budget": "5m"},
    "triggers": {"cooldown": "10m"},
    "rollout": {"strategy": "canary", "give_up_after": "1d", "low_traffic": "give_up"},
}


def a_standing(**changes: Any) -> Standing:
    facts: dict[str, Any] = {
        "model": "pump",
        "owner": "rotating",
        "dataset": "pumps",
        "newest": 3,
        "served": 2,
        "waiting_since": NOW - timedelta(hours=7),
        "objective": timedelta(hours=6),
    }
    return Standing(**(facts | changes))


def a_story(weight: int, *, minutes: float, state: str = "in_progress") -> Pending:
    at = NOW - timedelta(minutes=minutes)
    return Pending(model="pump", state=state, weight=weight, at=at, spec=SPEC)


def test_a_model_is_stale_when_the_oldest_unserved_data_is_older_than_allowed() -> None:
    assert a_standing().is_stale(NOW)
    assert not a_standing(objective=timedelta(hours=8)).is_stale(NOW)


def test_without_an_objective_nothing_is_too_old() -> None:
    assert not a_standing(objective=None).is_stale(NOW)


def test_what_has_the_newest_data_has_no_age() -> None:
    assert a_standing(served=3, waiting_since=None).staleness(NOW) == 0


def test_the_objective_is_read_from_the_specification() -> None:
    assert read_objective("6h") == timedelta(hours=6)
    assert read_objective(None) is None


def test_a_version_on_its_way_has_no_duration() -> None:
    assert Passage(version=1, published_at=NOW, served_at=None).seconds is None


@pytest.mark.parametrize(
    ("weight", "stage"),
    [(0, "train"), (10, "train"), (20, "train"), (30, "evaluate"), (40, "deploy"), (60, "canary")],
)
def test_every_claim_on_the_way_has_its_stage(weight: int, stage: str) -> None:
    assert stage_of(a_story(weight, minutes=1)) == stage


def test_who_waits_for_people_or_has_ended_is_in_no_stage() -> None:
    assert stage_of(a_story(60, minutes=1, state="waiting")) is None
    assert stage_of(a_story(1_600, minutes=1, state="promoted")) is None


def test_a_stage_counts_from_where_its_specification_ends() -> None:
    waits = longest_waits([a_story(10, minutes=30), a_story(30, minutes=7)], NOW)

    # Ten minutes of cool-down and three tries of five.
    assert waits == {"train": 300.0, "evaluate": 420.0, "deploy": 0.0, "canary": 0.0}


def test_a_canary_may_take_as_long_as_its_rollout_says() -> None:
    widened = {**SPEC, "rollout": {**SPEC["rollout"], "low_traffic": "widen"}}

    assert allowance("canary", SPEC) == timedelta(days=1)
    assert allowance("canary", widened) == timedelta(days=2)


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
class TestInService:
    async def test_a_served_version_tells_how_long_it_took(self, house: House) -> None:
        published = await publish_and_train(house, versions=1)
        await promote(house, version=1, generation=2, at=published[0] + timedelta(seconds=40))
        await apply(house, generation=2, at=published[0] + timedelta(seconds=42))

        found = await house.get("/v1/models/pump/freshness")

        assert (found["served_version"], found["newest_version"]) == (1, 1)
        assert found["p50_seconds"] == found["p99_seconds"] == pytest.approx(42, abs=0.01)
        assert (found["staleness_seconds"], found["is_stale"]) == (0, False)
        assert found["versions"][0]["outcome"] == "promoted"

    async def test_newer_data_serves_what_it_took_the_place_of(self, house: House) -> None:
        published = await publish_and_train(house, versions=2)
        await promote(house, version=2, generation=2, at=published[1] + timedelta(seconds=5))

        found = await house.get("/v1/models/pump/freshness")

        newest, older = found["versions"]
        assert newest["seconds"] == pytest.approx(5, abs=0.01)
        assert older["served_at"] == newest["served_at"]
        assert (found["served"], found["waiting"]) == (2, 0)

    async def test_figures_are_of_all_versions_however_few_are_listed(self, house: House) -> None:
        published = await publish_and_train(house, versions=4)
        await promote(house, version=2, generation=2, at=published[1] + timedelta(seconds=500))

        found = await house.get("/v1/models/pump/freshness", limit=1)
        fleet = (await house.get("/v1/freshness"))["fleet"]

        (newest,) = found["versions"]
        assert newest["served_at"] is None
        assert (found["served"], found["waiting"]) == (fleet["served"], fleet["waiting"]) == (2, 2)
        # What waits has no duration yet, and does not pass for quick.
        assert found["p50_seconds"] == fleet["p50_seconds"] == pytest.approx(500, abs=60)

    async def test_data_that_was_published_and_is_not_served_makes_a_model_stale(
        self, house: House
    ) -> None:
        await publish_and_train(house, versions=1, freshness="1ms")

        found = await house.get("/v1/models/pump/freshness")

        assert found["is_stale"]
        assert found["staleness_seconds"] > found["objective_seconds"]
        assert found["p50_seconds"] is None

    async def test_after_a_rollback_the_age_counts_from_the_earlier_data(
        self, house: House
    ) -> None:
        published = await publish_and_train(house, versions=2)
        await promote(house, version=1, generation=2, at=published[1])
        await promote(house, version=2, generation=3, at=published[1] + timedelta(seconds=1))
        back = DeploymentRolledBack(
            model=ModelName("pump"),
            from_version=2,
            to_version=1,
            to_manifest=Digest("5" * 64),
            generation=4,
            by="olga",
            reason="odd",
        )
        await house.react(heard(back, at=published[1] + timedelta(seconds=2), sequence=9))

        found = await house.get("/v1/models/pump/freshness")

        assert found["served_version"] == 1
        assert found["staleness_seconds"] > 0

    async def test_the_fleet_is_told_with_every_model_and_page_by_page(self, house: House) -> None:
        published = await publish_and_train(house, versions=1)
        await promote(house, version=1, generation=2, at=published[0] + timedelta(seconds=8))
        assert (await house.define(a_spec("valve"))).status_code == 201

        found = await house.get("/v1/freshness", limit=1)
        rest = await house.get("/v1/freshness", limit=1, cursor=found["next"])

        assert (found["fleet"]["served"], found["fleet"]["p95_seconds"]) == (1, 8.0)
        assert [one["model"] for one in (*found["items"], *rest["items"])] == ["pump", "valve"]
        assert found["items"][0]["served_version"] == 1

    async def test_another_team_sees_nothing_of_it(self, house: House) -> None:
        await publish_and_train(house, versions=1)
        headers = {"Authorization": "Bearer tw_elsewhere"}

        one = await house.client.get("/v1/models/pump/freshness", headers=headers)
        fleet = await house.client.get("/v1/freshness", headers=headers)

        assert one.status_code == 404
        assert (fleet.json()["items"], fleet.json()["fleet"]["served"]) == ([], 0)

    async def test_metrics_tell_owner_age_objective_and_how_stories_ended(
        self, house: House
    ) -> None:
        before = ends_counted("failed")
        (published,) = await publish_and_train(house, versions=1, freshness="2h")
        failed = TrainingFailed(
            model=ModelName("pump"),
            run=a_training().run,
            dataset=a_training().dataset,
            dataset_version=1,
            attempts=3,
            reason="error",
            detail="it cannot be fitted",
        )
        await house.react(heard(failed, at=published + timedelta(seconds=30)))
        later = published + timedelta(minutes=90)

        await Vitals(house.store, lambda: later).tell()

        labels = {"model": "pump", "owner": "rotating", "dataset": "pumps"}
        assert sample("tidewheel_model_info", **labels) == 1
        assert sample("tidewheel_model_staleness_seconds", model="pump") == 5400
        assert sample("tidewheel_model_freshness_objective_seconds", model="pump") == 7200
        assert sample("tidewheel_cascade_oldest_pending_seconds", stage="train") == 0
        assert ends_counted("failed") == before + 1

    async def test_a_training_that_never_ends_is_seen_as_a_stage_that_stands_still(
        self, house: House
    ) -> None:
        (published,) = await publish_and_train(house, versions=1, register=False)
        later = published + timedelta(hours=2)

        await Vitals(house.store, lambda: later).tell()

        # Ten minutes of cool-down and three tries of five are the specification's own.
        found = sample("tidewheel_cascade_oldest_pending_seconds", stage="train")
        assert found == pytest.approx(7200 - 25 * 60, abs=1)


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def ends_counted(outcome: str) -> float:
    return sample("tidewheel_cascade_duration_seconds_count", outcome=outcome) or 0.0


async def publish_and_train(
    house: House, *, versions: int, freshness: str | None = None, register: bool = True
) -> list[datetime]:
    """Define the model, publish versions and number a candidate of each; when they came."""
    monitor: dict[str, Any] = {"monitor": {"freshness": freshness}} if freshness else {}
    defined = (await house.define(a_spec(**monitor))).json()
    published = []
    for version in range(1, versions + 1):
        assert (await house.publish("pumps", some_rows(40 + version))).status_code == 201
        row = await house.database.fetchrow(
            "select published_at from dataset_version where version = $1", version
        )
        assert row is not None
        published.append(row["published_at"])
        training = a_training(
            spec_digest=defined["spec_digest"],
            code_digest=defined["code_digest"],
            dataset_version=version,
        )
        if register:
            await house.react(heard(training, at=published[-1]))
        else:
            started = TrainingStarted(
                model=training.model,
                run=training.run,
                attempt=1,
                dataset=training.dataset,
                dataset_version=version,
                trigger="dataset",
            )
            await house.react(heard(started, at=published[-1]))
    return published


async def promote(house: House, *, version: int, generation: int, at: datetime) -> None:
    event: Event = ModelPromoted(
        model=ModelName("pump"),
        rollout=RolloutId(uuid7()),
        version=version,
        manifest=Digest("5" * 64),
        previous=None,
        dataset_version=version,
        generation=generation,
        evaluation=uuid7(),
        evidence={},
    )
    await house.react(heard(event, at=at, sequence=generation))


async def apply(house: House, *, generation: int, at: datetime) -> None:
    event: Event = ServingApplied(
        model=ModelName("pump"),
        replica="one",
        replica_sequence=1,
        generation=generation,
        versions=(1,),
    )
    await house.react(heard(event, at=at, sequence=None))
