from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from local.paths import CHECKOUT


def run(folder: Path, *verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local", "--folder", str(folder), *verb],
        cwd=CHECKOUT,
        env={"HOME": str(folder.parent), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_without_the_jars_and_without_a_network_one_line_says_so(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"

    refused = run(tmp_path / "stack", "up", HTTPS_PROXY=nowhere, HTTP_PROXY=nowhere)

    assert refused.returncode == 1
    assert refused.stderr.startswith("the Kafka jars could not be fetched (ProxyError); ")
    assert len(refused.stderr.splitlines()) == 1


def test_status_of_nothing_says_how_to_start_it(tmp_path: Path) -> None:
    said = run(tmp_path / "stack", "status")

    assert said.returncode == 3
    assert said.stdout == "not running; start it with: make up\n"


def test_down_and_clean_of_nothing_are_no_errors(tmp_path: Path) -> None:
    codes = [run(tmp_path / "stack", verb).returncode for verb in ("down", "clean")]

    assert codes == [0, 0]


@pytest.mark.parametrize("verb", ["kill", "restart"])
def test_what_needs_a_running_stack_says_so_in_one_line(tmp_path: Path, verb: str) -> None:
    refused = run(tmp_path / "stack", verb, "trainer")

    assert refused.returncode == 1
    assert "the stack is not running; start it with" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_command_lists_every_verb_but_the_inner_one(tmp_path: Path) -> None:
    said = run(tmp_path / "stack", "--help").stdout

    assert all(f"    {verb} " in said for verb in ("up", "down", "clean", "status", "logs"))
    assert "supervise" not in said


def test_looking_creates_no_folder(tmp_path: Path) -> None:
    run(tmp_path / "stack", "status")

    assert not (tmp_path / "stack").exists()
