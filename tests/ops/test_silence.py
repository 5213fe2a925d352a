"""What silences what: alerts posted to a real Alertmanager with the routes that are checked in."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.ports import free_ports
from ops import config
from ops.config import HOST, Pace, Places
from ops.hook import Hook
from ops.running import running
from tests.ops.tools import needs_tools
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.real, needs_tools]
SOURCE = {"severity": "page", "area": "drift", "cause": "upstream"}
TICKET = {"severity": "ticket", "area": "drift"}
PAGE = {"severity": "page", "area": "drift"}


@dataclass
class People:
    """Who can be told, and what they were told: receiver, alert and what it is about."""

    alertmanager: int
    told: list[tuple[str, str, str]] = field(default_factory=list)

    def hear(self, receiver: str, posted: Mapping[str, Any]) -> None:
        for alert in posted["alerts"]:
            labels = alert["labels"]
            about = labels.get("model") or labels.get("scope") or ""
            self.told.append((receiver, labels["alertname"], about))

    def fire(self, *alerts: dict[str, str]) -> None:
        asked = urllib.request.Request(
            f"http://{HOST}:{self.alertmanager}/api/v2/alerts",
            data=json.dumps([{"labels": labels} for labels in alerts]).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=5) as answer:
            assert answer.status == 200

    def wait(self, *told: tuple[str, str, str]) -> None:
        wait_until(lambda: set(told) <= set(self.told), what=f"{told} among {self.told}")


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    ports = free_ports(("prometheus", "alertmanager"))
    people = People(ports["alertmanager"])
    with Hook(people.hear) as hook:
        places = Places(targets={}, addresses={}, hook=hook.address, **ports)
        config.write(tmp_path, places, Pace(wait="1s"))
        with running(tmp_path, places):
            yield people


def brake(scope: str) -> dict[str, str]:
    dataset = {"dataset": scope.removeprefix("dataset/")} if scope != "fleet" else {}
    return SOURCE | {"alertname": "BrakeSet", "scope": scope} | dataset


def of_model(name: str, model: str, dataset: str) -> dict[str, str]:
    labels = PAGE if name == "QualityDegraded" else TICKET | {"owner": "rotating"}
    return labels | {"alertname": name, "model": model, "dataset": dataset}


def test_a_brake_silences_the_models_it_speaks_for_and_another_scope_is_told_at_once(
    people: People,
) -> None:
    names = ("DriftCritical", "DataQuality", "QualityDegraded")

    people.fire(
        brake("dataset/pumps"),
        *(of_model(name, "pump", "pumps") for name in names),
        *(of_model(name, "valve", "valves") for name in names),
        *(of_model(name, "new", "(unknown)") for name in names),
    )
    people.wait(
        ("pager", "BrakeSet", "dataset/pumps"),
        *(
            ("pager" if name == "QualityDegraded" else "owner", name, model)
            for name in names
            for model in ("valve", "new")
        ),
    )
    people.fire(brake("dataset/fans"))
    people.wait(("pager", "BrakeSet", "dataset/fans"))
    people.fire(SOURCE | {"alertname": "DriftWidespread", "scope": "fleet"})
    people.wait(("pager", "DriftWidespread", "fleet"))
    before = list(people.told)
    people.fire(brake("fleet"), *(of_model(name, "late", "others") for name in names))
    # What is posted last, and not silenced, is told last.
    people.fire(PAGE | {"alertname": "Marker"})
    people.wait(("pager", "Marker", ""))

    assert people.told[len(before) :] == [("pager", "Marker", "")]
    assert not [about for _, _, about in people.told if about in ("pump", "late")]
    assert len(people.told) == len(set(people.told))


def test_the_brake_of_the_fleet_silences_single_models_of_every_dataset(people: People) -> None:
    people.fire(brake("fleet"), of_model("QualityDegraded", "pump", "pumps"))
    people.wait(("pager", "BrakeSet", "fleet"))
    people.fire(of_model("DriftCritical", "valve", "valves"), PAGE | {"alertname": "Marker"})
    people.wait(("pager", "Marker", ""))

    assert people.told == [("pager", "BrakeSet", "fleet"), ("pager", "Marker", "")]
