"""What documents name exists: pages, headings, verbs of make, commands and their options."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tidewheel.main import app

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```[^\n]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
MAKE = re.compile(r"(?:^|[\s;&(])make ([a-z][a-z-]*(?: [a-z][a-z-]*)*)")
COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?tidewheel ((?:[a-z-]+ ?)+)(.*)$")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)")
VERBS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def documents() -> list[Path]:
    """The checkout's own pages, as the version control knows them."""
    known = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(known, cwd=ROOT, capture_output=True, text=True, check=False)
    named = done.stdout.splitlines() or ["README.md", *map(str, ROOT.glob("docs/**/*.md"))]
    return sorted(ROOT / name for name in named if (ROOT / name).is_file())


PAGES = documents()
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def without_code(text: str) -> str:
    return CODE.sub("", text)


def links_of(page: Path) -> Iterator[tuple[Path, str]]:
    """The pages and headings that lie in this checkout."""
    for link in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", link):
            name, _, heading = link.partition("#")
            yield (page.parent / name).resolve() if name else page, heading


def headings_of(page: Path) -> set[str]:
    """As their anchors are spelled: lower case, no punctuation, hyphens for spaces."""
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def code_of(page: Path) -> Iterator[str]:
    """Lines of code; a comment behind a command is none of it."""
    for block, inline in CODE.findall(page.read_text(encoding="utf-8")):
        for line in (block or inline).replace("\\|", "|").splitlines():
            yield re.sub(r"(^|\s)#.*$", "", line).strip()


def commands_of(page: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The words behind `tidewheel`, and the options."""
    for line in code_of(page):
        if found := COMMAND.match(line):
            yield found[1].split(), OPTION.findall(line)


@by_name
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    broken = [
        f"{target.name}#{heading}"
        for target, heading in links_of(page)
        if not target.exists() or (heading and heading not in headings_of(target))
    ]

    assert broken == []


@by_name
def test_every_verb_of_make_exists(page: Path) -> None:
    named = {verb for line in code_of(page) for run in MAKE.findall(line) for verb in run.split()}

    assert named <= VERBS


@by_name
def test_every_command_exists_with_its_options(page: Path) -> None:
    for words, options in commands_of(page):
        command = resolved(words)
        known = {name for parameter in command.params for name in parameter.opts}
        assert {*options} <= {*known, "--help"} or is_open(command), (words, options)


def resolved(words: list[str]) -> Any:
    """The command that these words name; what follows them are its arguments."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        assert word in command.commands, " ".join(words)
        command = command.commands[word]
    return command


def is_open(command: Any) -> bool:
    return bool(command.context_settings.get("ignore_unknown_options"))


def test_the_page_of_the_command_has_every_verb() -> None:
    verbs: Any = typer.main.get_command(app)
    page = ROOT / "docs" / "reference" / "command.md"

    told = {code.split()[0] for code in code_of(page) if code}

    assert set(verbs.commands) - told == set()


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        if page.suffix == ".md":
            ahead += [target for target, _ in links_of(page) if target.is_file()]

    runbooks = ROOT / "docs" / "runbooks"  # alerts lead to them, and each alert has one
    assert [page for page in PAGES if page not in reached and page.parent != runbooks] == []
