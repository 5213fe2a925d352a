"""A service as a process of its own, killed with whoever made it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Self

import httpx

from local.paths import CHECKOUT
from local.ports import free_ports


class Child:
    service = "drift_monitor"

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        ports = free_ports(("door", "admin"))
        self._settings = {
            **settings,
            "PORT": str(ports["door"]),
            "ADMIN_PORT": str(ports["admin"]),
            "KEYS_FILE": str(folder / "keys.json"),
            "ENVIRONMENT": "test",
        }
        self.url = f"http://127.0.0.1:{ports['door']}"
        self.admin_port = ports["admin"]
        self.log = folder / f"{self.service}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self, fault: str = "") -> None:
        told = {name: text for name, text in os.environ.items() if "TIDEWHEEL" not in name}  # noqa: TID251
        told |= {
            f"TIDEWHEEL_{self.service.upper()}_{name}": text
            for name, text in {**self._settings, "FAULT": fault}.items()
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.service}.app"],
                cwd=CHECKOUT,
                env=told,
                stderr=log,
            )

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """At once, wherever it is."""
        assert self.process is not None
        self.process.kill()

    def is_gone(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    async def wait(
        self, condition: Callable[[], Awaitable[object]], *, what: str, seconds: float = 60.0
    ) -> None:
        deadline = time.monotonic() + seconds
        while not await condition():
            if time.monotonic() > deadline:
                tail = self.log.read_text()[-3000:]
                raise AssertionError(f"waited in vain for {what}; log: {tail}")
            await asyncio.sleep(0.05)

    def proportional_megabytes(self) -> float:
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)
