"""A system of its own for the demo: fresh, on free ports, beside whatever else runs here."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from local import commands, starting
from local.control import ask
from local.errors import CannotStart
from local.paths import CHECKOUT, Places, default_places
from local.ports import DEFAULTS, free_ports

KNOBS: Mapping[str, str] = {"TIDEWHEEL_TRAINER_LEASE_SECONDS": "3"}
"""Settings of services that differ from their defaults, by full name."""


class AnotherDemo(CannotStart):
    def __init__(self) -> None:
        super().__init__("a demo is running here already; let it end, or end it with Ctrl-C")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


class DemoStack:
    """Started and asked through the same doors as `make up`."""

    def __init__(self, places: Places | None = None) -> None:
        self.places = places or default_places().demo
        self.files = self.places.folder / "published"
        self._lock: IO[str] | None = None

    def start(self) -> dict[str, Any]:
        """Away with the last demo, up with a new one; how it stands when all are ready."""
        self._lock = self._only_one()
        if self.places.folder.exists():
            commands.end(self.places)
            self.places.delete()
        self.places.create()
        self.places.ports.write_text(json.dumps(free_ports(DEFAULTS)))
        self.places.overrides.write_text("".join(f"{k}={v}\n" for k, v in KNOBS.items()))
        starting.up(self.places, argparse.Namespace(foreground=False, system_postgres=False))
        return self.status()

    def _only_one(self) -> IO[str]:
        """A lock for as long as this process lives; a system that was kept holds none."""
        file = self.places.folder.with_suffix(".lock")
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AnotherDemo from None
        return lock

    def end(self) -> None:
        """End what this process started; another demo's system is left alone."""
        if self._lock is not None:
            commands.end(self.places)

    def status(self) -> dict[str, Any]:
        return ask(self.places.control, "status")

    def kill(self, service: str) -> int:
        """Kill -9; the supervisor starts it again. The pid that was killed."""
        return int(ask(self.places.control, "kill", name=service)["killed"])

    def stop_part(self, name: str) -> None:
        ask(self.places.control, "stop-part", name=name)

    def start_part(self, name: str) -> None:
        ask(self.places.control, "start-part", name=name)

    @property
    def kafka(self) -> str:
        return str(json.loads(self.places.context.read_text())["kafka"])

    def tidewheel(self, *arguments: str) -> Ran:
        """Run the command as a person would."""
        done = subprocess.run(
            [sys.executable, "-m", "tidewheel", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def environment(self) -> dict[str, str]:
        return {
            "TIDEWHEEL_CONTEXT": str(self.places.context),
            "PYTHONPATH": os.pathsep.join((str(CHECKOUT / "client"), str(CHECKOUT))),
        }
