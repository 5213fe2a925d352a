"""The six real services, by the commands that people type."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.paths import CHECKOUT
from tests.support.stack import temporary_folder, with_ports_of_its_own

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

CSV = "a,y\n" + "\n".join(f"{row},{2 * row}" for row in range(30)) + "\n"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with temporary_folder() as temporary:
        yield with_ports_of_its_own(temporary / "stack")
        local(temporary / "stack", "clean")


@pytest.fixture(scope="module")
def first_up(folder: Path) -> str:
    return local(folder, "up")


def local(folder: Path, *verb: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "local", "--folder", str(folder), *verb],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def pids(folder: Path) -> dict[str, int]:
    status = json.loads(local(folder, "status", "--json"))
    return {one["name"]: one["pid"] for one in [*status["parts"], *status["services"]]}


def test_up_prints_one_table_and_where_to_go_from_there(first_up: str, folder: Path) -> None:
    rows = [line.split() for line in first_up.splitlines() if "http://127.0.0.1:" in line]

    assert [(row[0], row[2]) for row in rows] == [
        (name, "yes")
        for name in ("registry", "trainer", "evaluator", "deployer", "serving", "drift_monitor")
    ]
    assert str(folder / "keys.secret.json") in first_up
    assert str(folder / "logs") in first_up


@pytest.mark.usefixtures("first_up")
def test_up_a_second_time_changes_nothing_and_prints_the_same_table(folder: Path) -> None:
    before = pids(folder)

    said = local(folder, "up")

    assert said.count("http://127.0.0.1:") == 6
    assert pids(folder) == before


@pytest.mark.usefixtures("first_up")
def test_down_and_up_lose_nothing_and_keep_keys_and_addresses(folder: Path) -> None:
    context = json.loads((folder / "context.json").read_text())
    published = publish(context, "kept")

    local(folder, "down")
    local(folder, "up")
    again = publish(context, "kept")

    assert json.loads((folder / "context.json").read_text()) == context
    assert published.status_code == 201
    assert again.json()["version"] == published.json()["version"] == 1


@pytest.mark.usefixtures("first_up")
def test_nobody_is_let_in_without_a_key(folder: Path) -> None:
    context = json.loads((folder / "context.json").read_text())

    answers = {
        name: httpx.get(f"{url}/v1/anything", timeout=20).status_code
        for name, url in context["services"].items()
    }

    assert set(answers.values()) <= {401, 404}
    assert publish({**context, "key": "tw_guess"}, "guessed").status_code == 401


def publish(context: dict[str, Any], dataset: str) -> httpx.Response:
    return httpx.post(
        f"{context['services']['registry']}/v1/datasets/{dataset}/versions",
        content=CSV.encode(),
        headers={"Authorization": f"Bearer {context['key']}", "Content-Type": "text/csv"},
        timeout=60,
    )
