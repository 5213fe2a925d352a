from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.commands import parser, status
from local.control import ask
from local.errors import CannotStart, NotRunning
from local.paths import CHECKOUT, Places
from local.process import Identity
from tests.support.processes import any_alive, environment_of, identity_of
from tests.support.stack import temporary_folder, with_ports_of_its_own
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

STAND_IN = "tests.support.stand_in"
SIX = ["registry", "trainer", "evaluator", "deployer", "serving", "drift_monitor"]


class Stack:
    """A supervisor over stand-in services, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.places = Places(with_ports_of_its_own(folder / "stack"))
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> dict[str, Any]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", STAND_IN, "supervise", str(self.places.folder)], cwd=CHECKOUT
        )
        wait_until(self.is_up, what="the stack", timeout_seconds=60)
        return self.status()

    def is_up(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.places.log("supervisor")
        try:
            found = self.status()
        except NotRunning:
            return False
        return found["phase"] == "up" and all(one["ready"] for one in found["services"])

    def status(self) -> dict[str, Any]:
        return ask(self.places.control, "status")

    def service(self, name: str) -> dict[str, Any]:
        return next(one for one in self.status()["services"] if one["name"] == name)

    def processes(self) -> list[Identity]:
        found = self.status()
        return [identity_of(one["pid"]) for one in [*found["parts"], *found["services"]]]

    def down(self) -> None:
        if self.process and self.process.poll() is None:
            ask(self.places.control, "down")
            self.process.wait(timeout=60)

    def kill_9(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()


@contextmanager
def a_stack() -> Iterator[Stack]:
    with temporary_folder() as folder:
        made = Stack(folder)
        try:
            yield made
        finally:
            made.down()
            made.places.delete()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with a_stack() as made:
        made.up()
        yield made


def test_six_services_a_broker_and_a_database_are_up(stack: Stack) -> None:
    found = stack.status()

    assert [one["name"] for one in found["services"]] == SIX
    assert [one["name"] for one in found["parts"]] == ["kafka", "postgres"]
    assert all(one["ready_ms"] is not None for one in found["services"])
    assert all(one["memory_mb"] > 0 for one in [*found["services"], *found["parts"]])


def test_the_context_file_tells_where_everything_is_and_only_to_its_owner(stack: Stack) -> None:
    context = json.loads(stack.places.context.read_text())

    assert stat.S_IMODE(stack.places.context.stat().st_mode) == 0o600
    assert context["services"] == {one["name"]: one["url"] for one in stack.status()["services"]}
    assert context["kafka"] == stack.status()["parts"][0]["address"]
    assert context["key"] == json.loads(Path(context["keys_file"]).read_text())["admin"]


def test_a_second_supervisor_leaves_the_first_alone(stack: Stack) -> None:
    before = stack.status()["pid"]

    second = subprocess.run(
        [sys.executable, "-m", STAND_IN, "supervise", str(stack.places.folder)],
        cwd=CHECKOUT,
        check=False,
        timeout=60,
    )

    assert second.returncode == 0
    assert stack.status()["pid"] == before


def test_a_killed_service_is_ready_again(stack: Stack) -> None:
    killed = ask(stack.places.control, "kill", name="trainer")["killed"]

    wait_until(lambda: stack.service("trainer")["ready"], what="the trainer")

    assert stack.service("trainer")["pid"] != killed
    assert stack.service("trainer")["restarts"] >= 1


def test_a_restart_can_set_a_knob_for_that_start_alone(stack: Stack) -> None:
    knob = {"FAULT": "before_commit"}

    pid = ask(stack.places.control, "restart", name="deployer", knobs=knob)["pid"]
    with_knob = environment_of(pid)
    pid = ask(stack.places.control, "restart", name="deployer", knobs={})["pid"]
    without = environment_of(pid)

    assert with_knob["TIDEWHEEL_DEPLOYER_FAULT"] == "before_commit"
    assert "TIDEWHEEL_DEPLOYER_FAULT" not in without


def test_each_service_is_given_its_own_role_and_database(stack: Stack) -> None:
    urls = {
        name: environment_of(stack.service(name)["pid"]).get(
            f"TIDEWHEEL_{name.upper()}_DATABASE", ""
        )
        for name in SIX
    }

    assert all(f"//tidewheel_{name}:" in urls[name] for name in SIX if name != "serving")
    assert all(urls[name].endswith(f"/tidewheel_{name}") for name in SIX if name != "serving")
    assert urls["serving"] == ""


@pytest.mark.parametrize("part", ["kafka", "postgres"])
def test_a_part_can_be_stopped_and_started_again(stack: Stack, part: str) -> None:
    ask(stack.places.control, "stop-part", name=part)
    stopped = {one["name"]: one["state"] for one in stack.status()["parts"]}

    ask(stack.places.control, "start-part", name=part)
    started = {one["name"]: one["state"] for one in stack.status()["parts"]}

    assert stopped[part] == "stopped"
    assert started[part] == "running"


def test_an_unknown_service_is_refused_with_the_known_ones(stack: Stack) -> None:
    with pytest.raises(CannotStart, match="no service 'cook'; there are registry, trainer"):
        ask(stack.places.control, "kill", name="cook")


def test_status_for_programs_is_json(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = parser(stack.places.folder).parse_args(["status", "--json"])

    code = status(stack.places, arguments)

    assert code == 0
    assert json.loads(capsys.readouterr().out)["phase"] == "up"


def test_kill_9_of_the_supervisor_leaves_no_orphan_and_the_next_start_resumes() -> None:
    with a_stack() as stack:
        first = stack.up()
        context = stack.places.context.read_text()
        left = stack.processes()

        stack.kill_9()
        wait_until(lambda: not any_alive(left), what="the end of all processes")
        second = stack.up()

        assert second["pid"] != first["pid"]
        assert stack.places.context.read_text() == context


def test_after_down_nothing_runs_and_status_says_so() -> None:
    with a_stack() as stack:
        stack.up()
        left = stack.processes()

        stack.down()

        assert not any_alive(left)
        with pytest.raises(NotRunning):
            stack.status()
