"""The story: one published version is trained, registered, judged, rolled out and answers."""

import pytest

from tests.support.house import House, a_spec, assert_told_once, some_rows

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]
ROW = {"a": 0.5, "b": -0.5}


def test_a_published_version_ends_up_answering(house: House, name: str) -> None:
    house.define(a_spec(name, name))

    receipt = house.publish(name, some_rows(200))

    promoted = house.heard(name, "model.promoted")[0]
    answer = house.answered_by(name, 1, ROW)
    assert promoted["data"]["version"] == 1
    assert promoted["correlation"] == receipt["cascade"]
    assert answer["answer"] == pytest.approx(2.5, abs=0.3)
    assert answer["rung"] == "champion"
    assert answer["digest"] == promoted["data"]["manifest"]
    assert_told_once([*house.events(name)])


def test_every_step_is_told_in_one_cascade_and_names_its_cause(house: House, name: str) -> None:
    house.define(a_spec(name, name))
    receipt = house.publish(name, some_rows(200))
    house.heard(name, "model.promoted")

    cascade = house.get("registry", f"/v1/cascades/{receipt['cascade']}")

    told = cascade["events"]
    types = [event["type"].removeprefix("tidewheel.").removesuffix(".v1") for event in told]
    for step in (
        "dataset.published",
        "training.started",
        "training.completed",
        "model.registered",
        "evaluation.completed",
        "rollout.proposed",
        "model.promoted",
        "deployment.desired",
    ):
        assert types.count(step) == 1, (step, types)
    known = {event["id"] for event in told}
    for event in told:
        if event["causation"] is not None:
            assert event["causation"] in known, event["type"]


def test_the_same_bytes_again_are_the_same_version_and_no_event(house: House, name: str) -> None:
    house.define(a_spec(name, name))
    first = house.publish(name, some_rows(200), key=f"{name}-1")
    house.heard(name, "model.promoted")
    before = len(house.events(name))

    again = house.publish(name, some_rows(200), key=f"{name}-2")

    assert (again["version"], again["event_id"]) == (1, first["event_id"])
    assert again["created"] is False
    house.publish(name, some_rows(260))
    house.heard(name, "dataset.published", 2)
    assert len(house.events(name, "dataset.published")) == 2
    assert before < len(house.events(name))


def test_a_worse_version_is_rejected_and_the_champion_goes_on(house: House, name: str) -> None:
    house.define(a_spec(name, name))
    house.publish(name, some_rows(200))
    house.answered_by(name, 1, ROW)
    noise = "a,b,y\n" + "".join(f"{i % 7},{i % 5},{(i * 7919) % 97}\n" for i in range(300))

    house.publish(name, noise)

    verdict = house.heard(name, "evaluation.completed", 2)[1]["data"]
    assert verdict["accepted"] is False
    assert verdict["reason"] == "below_baseline"
    assert verdict["evidence"]
    assert [gate["passed"] for gate in verdict["gates"]].count(False) >= 1
    answer = house.predict(name, ROW)
    assert answer is not None
    assert answer["version"] == 1


def test_rollback_brings_the_previous_version_back(house: House, name: str) -> None:
    house.define(a_spec(name, name))
    house.publish(name, some_rows(200))
    house.answered_by(name, 1, ROW)
    house.publish(name, some_rows(300))
    house.answered_by(name, 2, ROW)

    answer = house.ask("deployer", "POST", f"/v1/models/{name}/rollback", json={"reason": "a test"})

    assert answer.status_code in (200, 202), answer.text
    house.answered_by(name, 1, ROW)
    rolled = house.heard(name, "deployment.rolled_back")[0]["data"]
    assert (rolled["from_version"], rolled["to_version"]) == (2, 1)


def test_labels_join_their_predictions_and_windows_are_judged(house: House, name: str) -> None:
    house.define(a_spec(name, name))
    house.publish(name, some_rows(200))
    house.answered_by(name, 1, ROW)
    rows = [{"a": (i % 20) / 10 - 1, "b": (i * 7 % 20) / 10 - 1} for i in range(60)]

    answered = house.ask("serving", "POST", f"/v1/models/{name}/predict", json={"rows": rows})
    predictions = answered.json()["predictions"]
    observations = [
        {"prediction_id": p["prediction_id"], "value": 3 * row["a"] - 2 * row["b"]}
        for p, row in zip(predictions, rows, strict=True)
    ]
    fed = house.ask(
        "serving", "POST", "/v1/feedback", json={"model": name, "observations": observations}
    )

    assert fed.status_code == 202, fed.text
    assert house.heard(name, "window.evaluated", 2)
    measured = house.heard(name, "quality.measured")[0]["data"]
    assert measured["metric"] == "mae"
    assert measured["labels"] > 0
