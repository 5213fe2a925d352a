"""What the wheel carries is what the client imports."""

import ast
import tomllib
from pathlib import Path

from tests.client.conftest import CHECKOUT

LIGHT = frozenset({"pydantic", "yaml"})
"""What a module of `shared` may need besides the standard library to travel with the client."""


def _shared_imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
    return {n for n in names if n.startswith("shared.") and _file_of(n).is_file()}


def _file_of(module: str) -> Path:
    return CHECKOUT / (module.replace(".", "/") + ".py")


def test_the_wheel_carries_every_module_of_shared_that_the_client_needs() -> None:
    project = tomllib.loads((CHECKOUT / "client" / "pyproject.toml").read_text())
    carried = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].values())

    needed: set[str] = set()
    waiting = set().union(*map(_shared_imports, (CHECKOUT / "client").rglob("*.py")))
    while waiting:
        module = waiting.pop()
        needed.add(module)
        waiting |= _shared_imports(_file_of(module)) - needed

    assert carried == {"shared/__init__.py", *(f"{m.replace('.', '/')}.py" for m in needed)}
