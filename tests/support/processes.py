"""What the system knows about a process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from local.process import Identity


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def identity_of(pid: int) -> Identity:
    """A running process, told apart from a later one of the same number."""
    identity = Identity.of(pid)
    assert identity, f"process {pid} is gone"
    return identity


def any_alive(identities: Iterable[Identity]) -> bool:
    return any(one.is_alive() for one in identities)
