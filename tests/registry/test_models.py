"""Definitions come in, candidates get numbers, and versions tell what they are made of."""

import asyncio
from typing import Any

import pytest

from shared.events import DatasetName, Digest, ModelName, RunId
from shared.ids import uuid7
from shared.manifest import File, Manifest
from tests.registry.builders import a_spec, a_training, heard, some_rows
from tests.registry.conftest import House

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

YAML = b"""
apiVersion: tidewheel/v1
name: pump
owner: rotating
task: regression
data: {dataset: pumps, target: y}
train:
  candidates:
    - {use: sklearn.linear_model.Ridge, search: {alpha: {low: 1e-3, high: 10, log: true}}}
"""


async def test_a_yaml_specification_becomes_a_definition(house: House) -> None:
    answer = await house.client.post("/v1/models?commit=abc123", content=YAML)

    defined = answer.json()
    assert answer.status_code == 201, answer.text
    model = await house.get("/v1/models/pump")
    assert model["spec"]["train"]["candidates"][0]["search"]["alpha"]["low"] == 0.001
    assert (model["code_digest"], model["commit"]) == (defined["code_digest"], "abc123")
    (said,) = await house.said("model.defined")
    assert said["id"] == defined["event_id"]
    assert said["data"]["spec_digest"] == defined["spec_digest"]


async def test_the_same_specification_again_says_nothing(house: House) -> None:
    first = (await house.client.post("/v1/models", content=YAML)).json()

    again = await house.client.post("/v1/models", content=b"# a comment\n" + YAML)

    assert again.status_code == 200
    assert again.json() == first | {"changed": False}
    assert len(await house.said("model.defined")) == 1


async def test_a_new_version_of_the_library_is_a_new_definition(house: House) -> None:
    first = (await house.define()).json()
    house.registry.lock.pins["scikit-learn"] = "1.9.1"  # type: ignore[index] # a test's own lock

    again = (await house.define()).json()

    assert again["changed"] is True
    assert again["spec_digest"] == first["spec_digest"]
    assert again["code_digest"] != first["code_digest"]


async def test_every_fault_of_a_specification_is_told_at_once(house: House) -> None:
    broken = YAML.replace(b"target: y", b"tagret: y").replace(b"rotating", b"no")

    answer = await house.client.post("/v1/models", content=broken)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_spec")
    told = {error["pointer"]: error for error in problem["errors"]}
    assert told["/data/tagret"]["hint"] == "did you mean 'target'?"
    assert told["/owner"]["detail"].startswith("line 4, column 8")
    assert "/data/target" in told


async def test_a_specification_is_checked_against_its_dataset(house: House) -> None:
    await house.publish("pumps", some_rows(40))
    spec = a_spec(
        data={"dataset": "pumps", "target": "site", "features": ["a", "speed"]},
        train={"baseline": {"rule": "column", "column": "b"}},
        gates=[{"metric": "accuracy", "vs": "champion"}],
        triggers={"schedule": "daily"},
    )

    answer = await house.define(spec)

    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {
        "/data/target",
        "/data/features/1",
        "/train/baseline/column",
        "/gates/0/metric",
        "/triggers/schedule",
    }
    assert await house.said("model.defined") == []


async def test_a_key_makes_a_repeated_definition_harmless(house: House) -> None:
    key = {"Idempotency-Key": "one"}
    first = await house.client.post("/v1/models", content=YAML, headers=key)

    again = await house.client.post("/v1/models", content=YAML, headers=key)

    assert (again.status_code, again.json()) == (201, first.json())


async def test_models_are_listed_page_by_page(house: House) -> None:
    for name in ("c", "a", "b"):
        await house.define(a_spec(name))

    first = await house.client.get("/v1/models", params={"limit": 2})
    rest = await house.client.get(first.links["next"]["url"])

    assert [model["model"] for model in first.json()["items"]] == ["a", "b"]
    assert [model["model"] for model in rest.json()["items"]] == ["c"]
    assert rest.json()["next"] is None


async def _trained(house: House, **changes: Any) -> RunId:
    definition = await house.get("/v1/models/pump")
    run = RunId(uuid7())
    event = a_training(run=run, spec_digest=Digest(definition["spec_digest"]), **changes)
    await house.react(heard(event))
    return run


async def test_a_candidate_gets_the_next_number(fed: House) -> None:
    first = await _trained(fed)
    await _trained(fed, dataset_version=2)

    said = await fed.said("model.registered")

    assert [event["data"]["version"] for event in said] == [1, 2]
    assert said[0]["data"]["run"] == str(first)
    assert said[0]["data"]["spec"]["name"] == "pump"
    assert (await fed.get("/v1/models/pump"))["version"] == 2


async def test_a_version_names_who_wrote_its_specification_its_data_and_its_training(
    fed: House,
) -> None:
    await _trained(fed, requested_by="carla")
    await _trained(fed)

    by_hand, by_data = await fed.said("model.registered")

    assert by_hand["data"]["authors"] == {"spec": "admin", "data": "admin", "training": "carla"}
    assert by_data["data"]["authors"] == {"spec": "admin", "data": "admin"}


async def test_the_same_completion_again_gets_no_second_number(fed: House) -> None:
    definition = await fed.get("/v1/models/pump")
    event = heard(a_training(spec_digest=Digest(definition["spec_digest"])))
    await fed.react(event)

    await fed.react(event)

    assert len(await fed.said("model.registered")) == 1


async def test_candidates_at_once_get_different_numbers(fed: House) -> None:
    await asyncio.gather(*(_trained(fed) for _ in range(5)))

    numbers = [event["data"]["version"] for event in await fed.said("model.registered")]
    assert sorted(numbers) == [1, 2, 3, 4, 5]


async def test_late_old_data_gets_no_number_and_somebody_says_so(fed: House) -> None:
    await _trained(fed, dataset_version=3)

    run = await _trained(fed, dataset_version=2)

    (superseded,) = await fed.said("candidate.superseded")
    assert superseded["data"]["run"] == str(run)
    assert superseded["data"]["by_version"] == 1
    assert len(await fed.said("model.registered")) == 1
    outcomes = (await fed.get("/v1/outcomes", model="pump"))["items"]
    assert [(o["dataset_version"], o["outcome"]) for o in outcomes][:2] == [
        (3, "in_progress"),
        (2, "superseded"),
    ]


async def test_a_version_tells_its_figures_and_where_it_came_from(fed: House) -> None:
    definition = await fed.get("/v1/models/pump")
    manifest = await fed.artifacts.aput(_manifest().to_bytes())
    training = a_training(spec_digest=Digest(definition["spec_digest"]), manifest=manifest)
    await fed.react(heard(training))

    version = await fed.get("/v1/models/pump/versions/1")

    assert version["metrics"] == {"mae": 0.125}
    assert version["hyperparameters"] == {"alpha": 0.5}
    assert version["seconds"] == {"fit": 0.25}
    assert version["manifest_content"]["files"]["model.skops"]["digest"] == "7" * 64
    assert version["lineage"]["dataset"]["rows"] == 40
    assert version["lineage"]["definition"]["event_id"] == definition["event_id"]
    assert (await fed.get("/v1/models/pump/versions"))["items"][0]["version"] == 1


async def test_a_known_version_is_not_sent_again(fed: House) -> None:
    definition = await fed.get("/v1/models/pump")
    manifest = await fed.artifacts.aput(_manifest().to_bytes())
    await fed.react(
        heard(a_training(spec_digest=Digest(definition["spec_digest"]), manifest=manifest))
    )
    first = await fed.client.get("/v1/models/pump/versions/1")

    again = await fed.client.get(
        "/v1/models/pump/versions/1", headers={"If-None-Match": first.headers["ETag"]}
    )

    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["none", "none/versions", "pump/versions/7", "a/why"])
async def test_what_is_not_there_is_404(fed: House, path: str) -> None:
    answer = await fed.client.get(f"/v1/models/{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_what_is_no_name_is_said_to_be_none(fed: House) -> None:
    answer = await fed.client.get("/v1/models/no%20name")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["errors"][0]["pointer"] == "/path/name"


async def test_why_tells_the_decisions_newest_first_with_their_events(fed: House) -> None:
    await _trained(fed)
    await fed.publish("pumps", "a,b,site\n1,2,x\n")

    told = (await fed.get("/v1/models/pump/why"))["items"]

    assert [item["type"].split(".")[1:3] for item in told] == [
        ["dataset", "refused"],
        ["model", "registered"],
        ["training", "completed"],
        ["model", "defined"],
    ]
    assert "column 'y' is missing" in told[0]["text"]
    assert told[1]["text"] == "The candidate of version 1 of the data became version 1."
    assert all(item["event_id"] for item in told)


def _manifest() -> Manifest:
    digest = Digest("8" * 64)
    return Manifest(
        model=ModelName("pump"),
        task="regression",
        metric="mae",
        columns=(),
        target="y",
        files={"model.skops": File(digest=Digest("7" * 64), size_bytes=10)},
        baseline={"rule": "constant", "value": 1.0},
        entity=None,
        bounds=None,
        lineage="best_effort",
        objective_seconds=0.1,
        dataset=DatasetName("pumps"),
        dataset_version=1,
        dataset_digest=digest,
        spec_digest=digest,
        code_digest=digest,
        exclusions_digest=digest,
        holdout=digest,
        reference=digest,
        use="sklearn.linear_model.Ridge",
        hyperparameters={},
        seed=7,
        rows_trained=32,
        rows_held_out=8,
        metrics={},
        environment={},
    )
