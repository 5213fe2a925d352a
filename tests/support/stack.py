"""One broker and one database for a whole test run; each test gets names of its own in them."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from local.ports import DEFAULTS, free_ports
from local.stack import Infrastructure
from shared import clock

MEMORY: Final = Path("/dev/shm")  # only folders of names that nobody can foresee
ENOUGH: Final = 6 * 2**30
"""Bytes."""
JUST_MADE: Final = 60
"""Seconds in which a folder may not be locked yet by its maker."""


@contextmanager
def temporary_folder(below: Path | None = None) -> Iterator[Path]:
    """A folder that an unprivileged database may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="tidewheel-", dir=below))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder in memory where there is plenty; else, or where TMPDIR names a place, on the disk.

    A broker and a database of tests write far more than they keep, and making and deleting their
    files on a disk takes longer than many tests.
    """
    if tempfile.gettempdir() != "/tmp" or not _has_room(MEMORY):
        with temporary_folder() as folder:
            yield folder
        return
    _sweep()
    with temporary_folder(MEMORY) as folder, _held(folder):
        yield folder


def _has_room(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free >= ENOUGH


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Locked while this process lives, however it ends."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _sweep() -> None:
    """Delete what runs that were killed have left in memory."""
    for left in MEMORY.glob("tidewheel-*"):
        with suppress(OSError):  # somebody else's, held, or deleted meanwhile
            if clock.now().timestamp() - left.stat().st_mtime < JUST_MADE:
                continue
            opened = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(opened)


@contextmanager
def running_infrastructure() -> Iterator[Infrastructure]:
    with in_memory() as folder:
        infrastructure = Infrastructure(folder / "stack", durable=False)
        try:
            yield infrastructure.start()
        finally:
            infrastructure.delete()


@contextmanager
def fresh_database(infrastructure: Infrastructure) -> Iterator[str]:
    """The URL of an empty database, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = infrastructure.create_database(name)
    try:
        yield url
    finally:
        infrastructure.drop_database(name)


def with_ports_of_its_own(folder: Path) -> Path:
    """The folder of a stack that keeps away from the default ports, where others may be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ports.json").write_text(json.dumps(free_ports(DEFAULTS)))
    return folder


def fresh_topic_prefix() -> str:
    """Unlike any other of this run, whatever the seed of `random` is."""
    return f"t{uuid.uuid4().hex[:8]}."


def choose_seed(given: int | None) -> int:
    return random.SystemRandom().randrange(2**32) if given is None else given
