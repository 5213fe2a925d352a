"""One broker and one database for a whole test run; each test gets names of its own in them."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.ports import DEFAULTS, free_ports
from local.stack import Infrastructure


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that an unprivileged database may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="tidewheel-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_infrastructure() -> Iterator[Infrastructure]:
    with temporary_folder() as folder:
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
