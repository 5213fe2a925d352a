"""One process of the stack: how it starts, how it is recognised later, how it ends."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_LOG_LIMIT_BYTES = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose rights a process has when not those of its parent."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, where it writes, and which signals end it."""

    name: str
    argv: tuple[str, ...]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    overrides: Path | None = None
    """A file of KEY=VALUE lines, read again at every start."""
    account: Account | None = None
    ends_on: signal.Signals = signal.SIGTERM
    ends_at_once_on: signal.Signals = signal.SIGKILL
    when_orphaned: signal.Signals = signal.SIGKILL
    patience_seconds: float = 15.0
    """How long an asked process may take to end before it is killed."""


def spawn(
    program: Program, more: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[bytes]:
    """Start the program so that it cannot outlive the calling thread."""
    _trim(program.log)
    account = program.account
    with program.log.open("ab") as log:
        return subprocess.Popen(
            program.argv,
            cwd=program.folder,
            env={**program.environment, **read_overrides(program.overrides), **more},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=_die_with(os.getpid(), program.when_orphaned),  # noqa: PLW1509 -- see below
        )


def _die_with(parent: int, last_signal: signal.Signals) -> Callable[[], None]:
    """The parent-death signal has to be set between fork and exec, after the change of user."""

    def set_signal() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(last_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return set_signal


def read_overrides(file: Path | None) -> dict[str, str]:
    if file is None or not file.exists():
        return {}
    lines = (line.strip() for line in file.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def _trim(log: Path) -> None:
    """Keep one older log beside the present one, so that logs cannot fill the disk."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".old.log"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process id together with its start, because numbers are used again."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        fields = _stat_fields(pid)
        return cls(pid=pid, started=int(fields[19])) if fields else None

    def is_alive(self) -> bool:
        fields = _stat_fields(self.pid)
        return bool(fields) and fields[0] != "Z" and int(fields[19]) == self.started

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"pid": self.pid, "started": self.started, "boot": _boot()}))

    @classmethod
    def read(cls, file: Path) -> Identity | None:
        """None when the file is unreadable or from before the machine's last start."""
        try:
            found = json.loads(file.read_text())
            same_boot = found["boot"] == _boot()
            identity = cls(pid=int(found["pid"]), started=int(found["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return identity if same_boot else None


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def end_leftovers(pid_folder: Path, *, patience_seconds: float = 15.0) -> list[str]:
    """End processes recorded by a supervisor that is gone; the names of those that lived."""
    found = {file: Identity.read(file) for file in sorted(pid_folder.glob("*.json"))}
    alive = {file: one for file, one in found.items() if one and one.is_alive()}
    for identity in alive.values():
        _send(identity, signal.SIGTERM)
    if not _gone(list(alive.values()), patience_seconds):
        for identity in alive.values():
            _send(identity, signal.SIGKILL)
        _gone(list(alive.values()), patience_seconds)
    for file in found:
        file.unlink(missing_ok=True)
    return [file.stem for file in alive]


def _send(identity: Identity, what: signal.Signals) -> None:
    if identity.is_alive():
        with suppress(ProcessLookupError):
            os.kill(identity.pid, what)


def _gone(identities: list[Identity], patience_seconds: float) -> bool:
    deadline = time.monotonic() + patience_seconds
    while any(one.is_alive() for one in identities):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def proportional_set_bytes(pid: int) -> int:
    """Memory of a process and its descendants, shared pages divided by their users."""
    return sum(_pss_of(one) for one in [pid, *descendants(pid)])


def _pss_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in file.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def last_line(log: Path) -> str:
    """The last thing a log says, for a message that fits on one line."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:300] if lines else ""
