"""What the monitor's rounds cost: labels settled by time, old windows closed, metrics told.

Each of 10,000 models has 100 closed windows of 100 rows, the labels of the newest two still to be
settled, and one open window. The figures go to the screen; the last line is one JSON object.
Nothing is asserted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.rounds_world import NOW, Fleet, a_fleet
from local.stack import Infrastructure
from services.drift_monitor.handlers.vitals import Vitals
from services.drift_monitor.quality.delays import counted
from services.drift_monitor.store.vitals import VitalsTable
from shared import telemetry

SCALE: Final = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
MODELS: Final = max(10, int(10_000 * SCALE))
WINDOWS: Final = 100
screen = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds on the clock, of this process's CPU, and in which statements ran."""

    clock: float
    python: float
    postgres: float
    done: int


async def cost(fleet: Fleet, round_of: Awaitable[int]) -> Cost:
    """What a round takes."""
    postgres = await _of_postgres(fleet)
    began, python = time.monotonic(), time.process_time()
    done = await round_of
    clock, used = time.monotonic() - began, time.process_time() - python
    return Cost(clock, used, await _of_postgres(fleet) - postgres, done)


async def _of_postgres(fleet: Fleet) -> float:
    """Seconds that statements have run for."""
    await fleet.database.execute("select pg_stat_force_next_flush()")
    found = await fleet.database.fetchval(
        "select active_time / 1000 from pg_stat_database where datname = current_database()"
    )
    return float(found)


async def measure(url: str) -> dict[str, float]:
    """All rounds, one after the other, on one database."""
    found: dict[str, float] = {"models": MODELS, "windows_each": WINDOWS}
    async with a_fleet(url) as fleet:
        await fleet.add(MODELS, WINDOWS)
        screen.print(f"{MODELS} models with {WINDOWS} windows each")
        found |= _told("settle_all", await cost(fleet, fleet.settling.settle()))
        fleet.clock[0] = NOW + timedelta(seconds=16)
        found |= _told("settle_idle", await cost(fleet, fleet.settling.settle()))
        found |= await _settle_some(fleet)
        found |= await _tell(fleet)
        await fleet.open_old()
        found |= _told("close_old", await cost(fleet, fleet.ageing.close_old()))
        found |= _told("close_none", await cost(fleet, fleet.ageing.close_old()))
    return found


async def _settle_some(fleet: Fleet) -> dict[str, float]:
    """Labels have come for one model in a hundred."""
    fleet.clock[0] += timedelta(minutes=4)
    came = {f"model-{n}": counted([1800.0]) for n in range(1, MODELS + 1, 100)}
    async with fleet.database.transaction():
        await fleet.judging.store.add_delays(came)
    return _told("settle_some", await cost(fleet, fleet.settling.settle()))


async def _tell(fleet: Fleet) -> dict[str, float]:
    """Metrics: of labels the first time after a start, and every minute after that; of the rest."""
    vitals = Vitals(VitalsTable(fleet.database), lambda: NOW)

    async def done(telling: Awaitable[None]) -> int:
        await telling
        return MODELS

    first = _told("labels_first", await cost(fleet, done(vitals.tell_labels())))
    again = _told("labels_again", await cost(fleet, done(vitals.tell_labels())))
    return first | again | _told("tell_vitals", await cost(fleet, done(vitals.tell())))


def _told(name: str, found: Cost) -> dict[str, float]:
    screen.print(
        f"{name:12} {found.clock:9.3f} s, CPU {found.python:.3f} s, statements "
        f"{found.postgres:.3f} s; {found.done} done"
    )
    return {
        f"{name}_s": round(found.clock, 3),
        f"{name}_cpu_s": round(found.python, 3),
        f"{name}_statements_s": round(found.postgres, 3),
        f"{name}_done": found.done,
    }


def main() -> None:
    """Run it on a database of its own."""
    telemetry.configure("bench", "error")
    screen.print(f"scale {SCALE:g}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="tidewheel-bench-") as folder:
        Path(folder).chmod(0o711)
        place = Infrastructure(Path(folder) / "stack", durable=True)
        try:
            place.start()
            found = asyncio.run(measure(place.create_database("bench_rounds")))
        finally:
            place.delete()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
