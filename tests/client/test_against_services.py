"""The command against the services themselves: what a person types, from a file to an audit."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.services import Services
from local.stack import Infrastructure
from tests.client.conftest import SERVICES, Ran, Run
from tests.support.house import House, a_spec, some_rows, until
from tests.support.stack import fresh_topic_prefix, temporary_folder

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
ROW = {"a": 0.5, "b": -0.5}


@pytest.fixture(scope="module")
def house(infrastructure: Infrastructure) -> Iterator[House]:
    """All six services; the registry tells the head of its log every second."""
    with temporary_folder() as folder:
        services = Services(
            infrastructure,
            folder / "house",
            topic_prefix=fresh_topic_prefix(),
            partitions=2,
            knobs={"registry": {"ANCHOR_SECONDS": "1"}},
        )
        try:
            with closing(House(services.start())) as started:
                yield started
        finally:
            services.discard()


@dataclass(frozen=True, slots=True)
class Desk:
    """The command in a folder, used by whoever holds the key of a role."""

    house: House
    command: Run
    folder: Path
    model: str

    def run(self, role: str, *arguments: str) -> Ran:
        return self.command(*arguments, TIDEWHEEL_KEY=self.house.services.keys[role])

    def json(self, role: str, *arguments: str) -> list[Any]:
        ran = self.run(role, *arguments, "--json")
        assert ran.code == 0, ran.err
        return [json.loads(line) for line in ran.out.splitlines()]

    def apply(self, **changes: Any) -> None:
        spec = a_spec(self.model, self.model, **changes)
        (self.folder / "spec.yaml").write_text(yaml.safe_dump(spec))
        ran = self.run("data_scientist", "apply", "-f", "spec.yaml")
        assert ran.code == 0, ran.err

    def publish(self, rows: int) -> Ran:
        (self.folder / "rows.csv").write_text(some_rows(rows))
        return self.run("producer", "publish", self.model, "rows.csv", "--watch")

    def eventually(self, seen: Callable[[], Any], what: str) -> Any:
        return until(seen, what=what)


@pytest.fixture
def desk(house: House, tidewheel: Run, tmp_path: Path) -> Desk:
    file = tmp_path / ".tidewheel" / "context.json"
    file.parent.mkdir()
    urls = {name: house.services.url(name) for name in SERVICES}
    file.write_text(json.dumps({"services": urls, "key": "none"}))
    return Desk(house, tidewheel, tmp_path, f"m-{uuid.uuid4().hex[:8]}")


def test_from_a_file_to_an_approval_to_an_audit(desk: Desk) -> None:
    """Two versions: one by itself, one by a person who is not its author; then the questions."""
    desk.apply()
    assert desk.publish(200).code == 0
    before = desk.json("viewer", "production", desk.model)[0]

    desk.apply(rollout={"strategy": "direct", "approval": "four_eyes", "probation": "0"})
    assert desk.publish(400).code == 5
    (waiting,) = desk.json("approver", "approvals", desk.model)
    card = desk.run("approver", "approvals", desk.model)
    by_author = desk.run("data_scientist", "approve", waiting["rollout"], "--comment", "mine")
    bound = ("--manifest", waiting["manifest"], "--comment", "looks right")
    approved = desk.run("approver", "approve", waiting["rollout"], *bound)

    assert "tidewheel approve" in card.out
    assert "●" in card.out
    assert "local-data_scientist (wrote the specification" in card.out
    assert by_author.code == 77
    assert (approved.code, approved.err.splitlines()[0]) == (0, "approved")

    def promoted() -> Any:
        now = desk.json("viewer", "production", desk.model)[0]
        return now if now["version"] == 2 else None

    now = desk.eventually(promoted, "version 2 to be in production")
    then = desk.json("viewer", "production", desk.model, "--at", before["at"])[0]
    assert (then["version"], then["until"]) == (1, now["since"])
    assert [one["by"] for one in now["approved"]] == ["local-approver"]
    assert now["approved"][0]["comment"] == "looks right"
    assert now["proposed"]["authors"] == {
        "spec": "local-data_scientist",
        "data": "local-producer",
    }
    assert now["verdict"]["evidence"]

    told = desk.json("auditor", "audit", "ls", "--model", desk.model, "--person", "local-approver")
    assert [one["type"] for one in told] == [
        "tidewheel.model.promoted.v1",
        "tidewheel.approval.granted.v1",
    ]
    assert desk.run("viewer", "audit", "ls").code == 77


def test_a_verdict_is_replayed_tried_by_other_rules_and_has_a_card(desk: Desk) -> None:
    desk.apply()
    assert desk.publish(200).code == 0
    (verdict,) = desk.json("viewer", "verdicts", desk.model)

    replayed = desk.run("viewer", "evaluate", "replay", verdict["event_id"])
    (desk.folder / "strict.yaml").write_text(
        "gates:\n  - {metric: mae, vs: absolute, max: 0.000001}\n"
    )
    tried = desk.json(
        "data_scientist", "backtest", "--policy", "strict.yaml", "--model", desk.model
    )
    card = desk.run("viewer", "card", desk.model, "--out", "card.md")

    assert (replayed.code, replayed.out) == (0, "equal\n")
    assert tried[-1]["summary"]["newly_rejected"] == 1
    assert card.code == 0, card.err
    assert desk.model in (desk.folder / "card.md").read_text()


def test_the_log_is_verified_here_and_agrees_with_anchors_that_came_from_the_bus(
    desk: Desk,
) -> None:
    desk.apply()

    def anchored() -> Any:
        ran = desk.run("auditor", "audit", "verify", "--json")
        told = json.loads(ran.out)
        return told if ran.code == 0 and told["anchors"] else None

    told = desk.eventually(anchored, "an anchor to come back")
    head = desk.run("auditor", "audit", "head").out.strip()
    again = desk.run("auditor", "audit", "verify", "--anchor", head)

    assert told["served"]["whole"] is True
    assert again.code == 0, again.err
    assert "the log is whole" in again.err


def test_freezes_are_declared_listed_and_lifted(desk: Desk) -> None:
    desk.apply()
    frozen = desk.json(
        "operator", "freeze", "--until", "2h", "--model", desk.model, "--reason", "the books close"
    )[0]

    listed = desk.run("viewer", "freezes")
    lifted = desk.run("operator", "lift", frozen["freeze"], "--reason", "they are closed")
    by_viewer = desk.run("viewer", "freeze", "--until", "2h", "--reason", "me")

    assert frozen["freeze"] in listed.out
    assert lifted.code == 0, lifted.err
    assert by_viewer.code == 77

    def noted() -> Any:
        told = desk.json(
            "auditor", "audit", "ls", "--person", "local-operator", "--model", desk.model
        )
        return [one["data"]["reason"] for one in told] == ["they are closed", "the books close"]

    desk.eventually(noted, "the freeze to be in the log")


def test_what_does_not_exist_is_said_and_is_no_success(desk: Desk) -> None:
    for arguments in (
        ("verdicts", "nope"),
        ("production", "nope"),
        ("card", "nope"),
        ("anchor", "show", "nope"),
        ("evaluate", "replay", str(uuid.uuid4())),
    ):
        ran = desk.run("admin", *arguments)

        assert ran.code == 65, arguments
        assert "why:" in ran.err


def test_a_file_of_the_dataset_itself_can_be_asked_about(desk: Desk) -> None:
    desk.apply()
    assert desk.publish(200).code == 0
    desk.house.answered_by(desk.model, 1, ROW)

    refused = desk.run("predictor", "predict", desk.model, "--file", "rows.csv")
    answered = desk.run("predictor", "predict", desk.model, "--file", "rows.csv", "--ignore-extra")

    assert refused.code == 65
    assert "--ignore-extra leaves out y" in refused.err
    assert answered.code == 0, answered.err
    assert "does not take it: y" in answered.err


def test_the_best_version_can_be_asked_for(desk: Desk) -> None:
    desk.apply()
    assert desk.publish(200).code == 0

    asked = desk.run("data_scientist", "best", desk.model, "--metric", "mae", "--reason", "old")

    assert asked.code == 0, asked.err
    shown = desk.run("viewer", "anchor", "show", desk.model)
    assert shown.code == 0, shown.err


def test_the_newest_events_are_shown_without_signs_of_life(desk: Desk) -> None:
    desk.apply()

    (event,) = desk.json("viewer", "events", "--subject", desk.model, "-n", "1")
    every = desk.run("viewer", "events")

    assert event["type"] == "tidewheel.model.defined.v1"
    assert "replica.announced" not in every.out


def test_a_prediction_is_explained_also_after_a_rollback(desk: Desk) -> None:
    """One call, from the row that was asked to the people and the data behind the answer."""
    desk.apply(rollout={"strategy": "direct", "probation": "0"})
    assert desk.publish(200).code == 0
    row = json.dumps({"a": 0.5, "b": 1.0})
    answered = desk.json("predictor", "predict", desk.model, "--row", row)[0]
    prediction = answered["prediction_id"]

    def explained() -> Any:
        ran = desk.run("viewer", "explain", prediction, "--json")
        return json.loads(ran.out) if ran.code == 0 else None

    first = desk.eventually(explained, "the prediction to be heard of")
    back = ("rollback", desk.model, "--reason", "noise")
    assert desk.publish(400).code == 0
    assert desk.run("operator", *back).code == 0

    def rolled_back() -> Any:
        found = explained()
        return found if "rolled back" in str(found["origin"]["since_then"]) else None

    then = desk.eventually(rolled_back, "the rollback to be told")
    told = desk.run("viewer", "explain", prediction)

    assert first["answer"]["features"] == {"a": 0.5, "b": 1.0}
    assert first["answer"]["manifest"] == answered["digest"]
    assert first["answer"]["answer"] == answered["answer"]
    assert first["origin"]["data"]["published_by"] == "local-producer"
    assert first["origin"]["role"].startswith("champion with 100%")
    assert {**then["origin"], "since_then": []} == {**first["origin"], "since_then": []}
    assert len(then["origin"]["since_then"]) == 2
    assert prediction in told.out
    assert "a=0.5" in told.out
    assert desk.run("viewer", "explain", "p-nobody").code == 65


def test_a_whole_dataset_version_is_answered_into_a_file(desk: Desk) -> None:
    desk.apply()
    assert desk.publish(200).code == 0
    out = desk.folder / "answers.csv"

    ran = desk.run("predictor", "batch", desk.model, "--out", str(out))
    again = desk.json("predictor", "batches", desk.model)
    unfit = desk.run("predictor", "batch", desk.model, "--data-version", "9")

    lines = out.read_text().splitlines()
    assert (ran.code, ran.err.splitlines()[-1].split(": ")[1]) == (0, "200 rows answered")
    assert lines[0] == "row,answer,rung,reason"
    assert len(lines) == 201
    assert [(one["state"], one["refused"]) for one in again] == [("done", 0)]
    assert (unfit.code, "never published" in unfit.err) == (65, True)
