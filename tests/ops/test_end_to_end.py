"""A real serving process, a real Prometheus, a real Alertmanager: who is told, and how often."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.ports import free_ports
from ops import config
from ops.config import HOST, Pace, Places
from ops.hook import Hook
from ops.paths import RUNBOOKS
from ops.running import running
from shared.artifacts import ArtifactStore
from tests.ops.tools import needs_tools
from tests.serving.alone import prepare
from tests.serving.building import A_ROW, FLOW, a_desired, a_version, settings_for
from tests.serving.child import Child
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.real, needs_tools]
QUICK = Pace(scrape="1s", evaluation="1s", patience="1s", wait="1s")
BROKEN = "ServingErrorBudgetFastBurn"


@dataclass
class House:
    """What runs, and what people were told."""

    child: Child
    places: Places
    told: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def notifications(self, name: str, status: str = "firing") -> list[tuple[str, dict[str, Any]]]:
        return [
            (receiver, alert)
            for receiver, posted in self.told
            for alert in posted["alerts"]
            if alert["labels"]["alertname"] == name and posted["status"] == status
        ]

    def ask(self, load: float) -> int:
        row = {**A_ROW, "load": load}
        path = f"/v1/models/{FLOW}/predict"
        return self.child.http.post(path, json={"rows": [row]}).status_code

    def query(self, expression: str) -> list[Any]:
        asked = urllib.parse.urlencode({"query": expression})
        address = f"http://{HOST}:{self.places.prometheus}/api/v1/query?{asked}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            return list(json.load(answer)["data"]["result"])


@contextmanager
def a_serving_process(folder: Path) -> Iterator[Child]:
    """It was told of one model before; whatever is outside of its bounds has no answer."""
    folder.mkdir()
    settings = settings_for(folder)
    version = a_version(ArtifactStore(settings.artifacts), 1, bounds=(0.0, 20.0))
    asyncio.run(prepare(settings, a_desired(1, version, rule=None)))
    with Child(settings) as child:
        yield child.start(until=lambda: child.is_ready() and child.serves(1))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One model whose answers are only usable for ordinary rows, and nothing below it."""
    folder = tmp_path_factory.mktemp("monitoring")
    told: list[tuple[str, Mapping[str, Any]]] = []
    with (
        a_serving_process(folder / "serving") as child,
        Hook(lambda receiver, posted: told.append((receiver, posted))) as hook,
    ):
        places = Places(
            targets={"tidewheel-serving": f"{HOST}:{child.settings.admin_port}"},
            addresses={"docs": RUNBOOKS.parent.as_uri()},
            hook=hook.address,
            **free_ports(("prometheus", "alertmanager")),
        )
        config.write(folder / "monitoring", places, QUICK)
        with running(folder / "monitoring", places, resend="1s"):
            yield House(child, places, told)


def test_an_endpoint_that_breaks_reaches_the_pager_once_however_it_flaps(house: House) -> None:
    assert house.ask(1.0) == 200
    seen = 'tidewheel_predictions_total{outcome="error"} == 0'  # born at 0: it can be seen to rise
    wait_until(lambda: house.query(seen), what="the first look at the endpoint")

    def broken() -> list[Any]:
        assert house.ask(1e9) == 503
        return house.notifications(BROKEN)

    ((receiver, alert),) = wait_until(broken, what="a notification", timeout_seconds=30)
    begun = evaluations(house)

    def flapped() -> bool:
        house.ask(1.0)
        house.ask(1e9)
        return evaluations(house) >= begun + 6

    wait_until(flapped, what="six more evaluations")
    assert receiver == "pager"
    assert len(house.notifications(BROKEN)) == 1
    assert house.notifications(BROKEN, "resolved") == []
    assert alert["labels"]["severity"] == "page"
    assert "% of predictions have no answer" in alert["annotations"]["summary"]
    assert Path(alert["annotations"]["runbook_url"].removeprefix("file://")).exists()
    assert "docs" not in alert["labels"]


def test_a_process_that_is_not_there_pages(house: House) -> None:
    wait_until(lambda: house.notifications("TargetMissing"), what="a page about a missing job")

    jobs = {alert["labels"]["job"] for _, alert in house.notifications("TargetMissing")}

    assert jobs >= {
        "tidewheel-registry",
        "tidewheel-trainer",
        "tidewheel-evaluator",
        "tidewheel-deployer",
        "tidewheel-drift-monitor",
    }
    assert {receiver for receiver, _ in house.notifications("TargetMissing")} == {"pager"}


def evaluations(house: House) -> int:
    address = f"http://{HOST}:{house.places.prometheus}/metrics"
    with urllib.request.urlopen(address, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counted = [
        line
        for line in lines
        if line.startswith("prometheus_rule_group_iterations_total")
        and 'tidewheel-serving"' in line
    ]
    return int(float(counted[0].split()[-1]))
