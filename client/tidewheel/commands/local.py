"""local: the whole system on this machine, as a child process."""

import sys
from pathlib import Path

import typer

from tidewheel.exits import Exit

_WRONG_USAGE = 2
"""What `argparse` exits with."""


def local(context: typer.Context) -> None:
    """Run the whole system on this machine: up, down, status, logs, clean, demo."""
    import subprocess

    checkout = _checkout(Path.cwd())
    if checkout is None:
        from tidewheel.errors import Failure

        raise Failure(
            "there is no local system here",
            why=("`tidewheel local` runs `python -m local` of a checkout, and this is none",),
            fix="change into a checkout of Tidewheel, or use a running system: TIDEWHEEL_CONTEXT",
            exit_code=Exit.UNAVAILABLE,
        )
    arguments = context.args or ["--help"]
    module = ["local.demo", *arguments[1:]] if arguments[0] == "demo" else ["local", *arguments]
    command = [_python(checkout), "-m", *module]
    done = subprocess.run(command, cwd=checkout, check=False)  # noqa: S603 - our own module
    wrong_usage = done.returncode == _WRONG_USAGE
    raise typer.Exit(Exit.USAGE if wrong_usage else done.returncode)


def _checkout(folder: Path) -> Path | None:
    for place in (folder, *folder.parents, Path(__file__).resolve().parents[3]):
        if (place / "local" / "__main__.py").is_file() and (place / "services").is_dir():
            return place
    return None


def _python(checkout: Path) -> str:
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable
