"""How long `up` takes until all six services are ready, and what they hold in memory when idle.

The figures go to the screen; the last line is one JSON object. Nothing is asserted.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from local.paths import CHECKOUT
from local.process import descendants

_IDLE_SECONDS = 20.0
"""What starting left behind (imports, first polls) has settled by then."""
_WARM_RUNS = 3


def local(folder: Path, *verb: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local", "--folder", str(folder), *verb],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )


def timed_up(folder: Path) -> float:
    began = time.perf_counter()
    done = local(folder, "up")
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip() or done.stdout.strip())
    return time.perf_counter() - began


def read_status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(local(folder, "status", "--json").stdout)
    return found


def processes_of(entries: list[dict[str, Any]]) -> int:
    return sum(1 + len(descendants(one["pid"])) for one in entries)


def measure(folder: Path) -> dict[str, float]:
    cold = timed_up(folder)
    print(f"first up, empty folder          {cold:6.1f} s")
    warm = []
    for _ in range(_WARM_RUNS):
        local(folder, "down")
        warm.append(timed_up(folder))
        print(f"up again                        {warm[-1]:6.1f} s")
    time.sleep(_IDLE_SECONDS)
    status = read_status(folder)
    for one in [*status["parts"], *status["services"]]:
        after = f"ready after {one['ready_ms']} ms" if one.get("ready_ms") else ""
        print(f"{one['name']:14}                {one['memory_mb']:7.1f} MB   {after}")
    total = 1 + processes_of([*status["parts"], *status["services"]])
    print(f"processes with broker, database and supervisor: {total}")
    return {
        "up_s": round(sorted(warm)[len(warm) // 2], 2),
        "services_rss_mb": round(sum(one["memory_mb"] for one in status["services"]), 1),
        "processes": processes_of(status["services"]),
    }


def main() -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    print(f"idle for {_IDLE_SECONDS:.0f} s before memory is read (proportional set size)")
    with tempfile.TemporaryDirectory(prefix="tidewheel-bench-") as name:
        folder = Path(name) / "stack"
        Path(name).chmod(0o711)
        try:
            figures = measure(folder)
        finally:
            local(folder, "clean")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
