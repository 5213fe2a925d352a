"""What `make monitoring` runs fits the stack that is there; without tools it says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.ports import DEFAULTS
from ops import config
from ops.config import HOST, Pace
from ops.hook import Hook
from ops.monitoring import PORTS, places_of, told
from ops.paths import FOLDER
from ops.routes import read_prometheus
from shared.topics import SERVICES
from tests.ops.tools import needs_tools, run

CONTEXT = {
    "admin": {name: f"http://{HOST}:{9100 + n}" for n, name in enumerate(SERVICES)},
    "services": {name: f"http://{HOST}:{9000 + n}" for n, name in enumerate(SERVICES)},
}


def test_the_checked_in_targets_are_the_usual_ports_of_a_stack() -> None:
    jobs = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in read_prometheus()["scrape_configs"]
    }

    assert jobs == {
        f"tidewheel-{name.replace('_', '-')}": [f"{HOST}:{DEFAULTS[f'{name}-admin']}"]
        for name in SERVICES
    }
    assert not set(PORTS.values()) & set(DEFAULTS.values())


def test_a_stack_on_other_ports_is_found_by_its_context() -> None:
    places = places_of(CONTEXT, "http://hook")

    assert places.targets["tidewheel-drift-monitor"] == f"{HOST}:9105"
    assert places.addresses["registry"] == f"http://{HOST}:9000"
    assert places.addresses["docs"].startswith("file:///")


@needs_tools
def test_what_is_written_for_a_stack_is_accepted(tmp_path: Path) -> None:
    places = places_of(CONTEXT, "http://127.0.0.1:1")

    config.write(tmp_path, places, Pace(patience="1s", wait="1s"))

    for tool, *arguments in (
        ("promtool", "check", "config", str(tmp_path / "prometheus.yml")),
        ("amtool", "check-config", str(tmp_path / "alertmanager.yml")),
    ):
        done = run(tool, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    routes = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())
    hooks = {hook["url"] for one in routes["receivers"] for hook in one.get("webhook_configs", ())}
    assert hooks == {f"http://127.0.0.1:1/{name}" for name in ("tickets", "pager", "owner")}


@pytest.mark.real
def test_a_notification_is_printed_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"summary": "pump drifts", "runbook_url": "docs/runbooks/DriftCritical.md"}
    alert = {"status": "firing", "labels": {"alertname": "DriftCritical"}, "annotations": texts}

    with Hook(told) as hook:
        assert post(hook, "owner", {"alerts": [alert]}) == 200

    assert capsys.readouterr().out == (
        "owner: firing DriftCritical: pump drifts\n    docs/runbooks/DriftCritical.md\n"
    )


def post(hook: Hook, receiver: str, posted: Any) -> int:
    request = urllib.request.Request(
        f"{hook.address}/{receiver}", json.dumps(posted).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return int(answer.status)


def test_where_tools_cannot_be_had_it_is_said_and_nothing_fails(tmp_path: Path) -> None:
    """The shell finds only what the script itself needs, and no apt-get."""
    for name in ("bash", "id", "echo"):
        found = next(p for p in (Path("/bin") / name, Path("/usr/bin") / name) if p.exists())
        (tmp_path / name).symlink_to(found)

    done = subprocess.run(
        [str(tmp_path / "bash"), str(FOLDER / "system-tools.sh")],
        env={**os.environ, "PATH": str(tmp_path)},  # noqa: TID251
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "this system has no apt-get" in done.stdout
    assert "skipped" in done.stdout


def test_ci_gets_the_tools_before_the_tests() -> None:
    lines = (FOLDER.parent / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    verbs = [line for line in lines if line.startswith("make ")]
    assert verbs[0] == "make system-tools"
