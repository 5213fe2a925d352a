"""Every alert has a page that says what to do, and what it says to run exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from ops.paths import FOLDER, RUNBOOKS
from ops.rules import read_alerts
from tidewheel.main import app

ROOT = FOLDER.parent
PAGES = sorted(RUNBOOKS.glob("[A-Z]*.md"))
CODE = re.compile(r"`([^`]+)`")
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
PARTS = ("## What it means", "## What to look at", "## What helps", "## When it is over")
VERBS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
ROUTES = {
    " ".join(line.split()[1:3])
    for line in (ROOT / "tests" / "contracts" / "routes.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


def commands_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    blocks = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    inline = [code for code in CODE.findall(BLOCK.sub("", text)) if code.split()[0] in KNOWN]
    return [*blocks, *inline]


KNOWN = ("tidewheel", "make")


def test_there_is_a_page_for_every_alert_and_no_other() -> None:
    assert {page.stem for page in PAGES} == {alert.alert for alert in read_alerts()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_means_what_to_look_at_and_what_helps(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert text.startswith(f"# {page.stem}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == list(PARTS)
    assert BLOCK.search(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_who_is_told_as_the_rules_do(page: Path) -> None:
    alert = next(alert for alert in read_alerts() if alert.alert == page.stem)
    first = page.read_text(encoding="utf-8").splitlines()[2]
    words = {"page": "Page", "ticket": "Ticket", "dashboard": "Drawn"}

    assert first.startswith(words[alert.labels["severity"]])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_exists_with_these_arguments(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands_of(page):
        program, *arguments = shlex.split(command)
        for name in arguments:
            if name.endswith((".yaml", ".csv")):
                (tmp_path / name).touch()

        if program == "make":
            assert {word for word in arguments if "=" not in word} <= VERBS, command
        else:
            assert program == "tidewheel", command
            understood(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_route_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    named = {code for code in CODE.findall(text) if code.split()[0] in ("GET", "POST")}

    assert named <= ROUTES


def understood(arguments: list[str]) -> None:
    """Let the real command read them, down to the verb's own options; nothing is run."""
    command: Any = typer.main.get_command(app)  # Typer carries a copy of click that it may rename
    context: Any = None
    while hasattr(command, "resolve_command"):
        context = command.make_context("tidewheel", list(arguments), parent=context)
        rest = [*context._protected_args, *context.args]
        name, found, arguments = command.resolve_command(context, rest)
        assert found is not None, name
        command = found
    if "--help" not in arguments:
        command.make_context("verb", list(arguments), parent=context)
