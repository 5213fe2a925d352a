"""Importing does nothing, and what lies in `shared` is shared."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("shared", "services")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
)
QUIET = """
import socket, sys, threading
def refuse(*_, **__): raise SystemExit("a socket was opened at import")
socket.socket.connect = socket.socket.bind = refuse
before = threading.active_count()
for name in sys.argv[1:]:
    __import__(name)
assert threading.active_count() == before, "a thread was started at import"
"""


def test_importing_every_module_opens_no_socket_and_starts_no_thread() -> None:
    # Libraries that start threads of their own when imported are imported late by our modules.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", QUIET, *MODULES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]


ALONE = {
    "faust_streams": "the one door to Faust; held to the contract of every bus",
    "memory": "the bus in one process, for tests; held to the same contract",
    "outcomes": "what an ending is; the registry folds it, everybody's events carry it",
}
"""Modules with one user, and why they are shared all the same."""


@cache
def imported_by(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "shared":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shared."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            late = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
            found |= {str(late).removeprefix("shared.")} if "shared." in str(late) else set()
    return frozenset(found)


@pytest.mark.parametrize("module", sorted(p.stem for p in (ROOT / "shared").glob("[a-z]*.py")))
def test_a_module_of_shared_is_needed_by_two(module: str) -> None:
    users = set()
    for folder in ("services", "client", "local"):
        for path in (ROOT / folder).rglob("*.py"):
            if module in imported_by(path):
                parts = path.relative_to(ROOT).parts
                users.add(parts[1] if folder == "services" else folder)
    inner = {p.stem for p in (ROOT / "shared").glob("*.py") if module in imported_by(p)}

    assert len(users) >= 2 or inner or module in ALONE, (
        f"shared/{module}.py is used by {sorted(users)} only"
    )
