"""What watching costs: rows into sketches, windows closed, labels joined, and back after a start.

1,000 models of 20 features (14 numbers, 6 categories of 2 to 60 levels) are mixed at random. In
process means from decoded rows to counted ones, on one core, in CPU seconds; through the bus means
from Kafka by Faust into committed rows and sketches, in seconds on the clock. The peers count the
same rows: Evidently's preset compares one window, whylogs and datasketches profile rows, river's
ADWIN hears every feature. What is not installed is said so, and never 0.

The figures go to the screen, and which of the goals they reach; the last line is one JSON object.
Nothing is asserted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
import uuid
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import monitor_peers
from bench.monitor_world import (
    LEVELS,
    MODELS,
    Watching,
    a_plan,
    a_profile,
    first_verdicts,
    labels_of,
    rows_of,
    verdicts,
)
from local.stack import Infrastructure
from services.drift_monitor.app import MIGRATIONS, NEW_OBJECTS
from services.drift_monitor.layouts import Grid
from services.drift_monitor.memory import Memory
from services.drift_monitor.windows import Kept, Open, Plan, allot
from shared import telemetry
from shared.postgres import Database
from shared.reference import read_reference
from shared.sketch import CategoryCells

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
FLUSH = 20_000
FLUSHES = max(2, int(10 * SCALE))
BUS_ROWS = max(20_000, int(100_000 * SCALE))
"""Some of each model, however few are asked for."""
LABELS = int(40_000 * SCALE)
CLOSINGS = max(20, int(200 * SCALE))
MANY = 10_000
WIDE_NUMBERS = 38
WIDE_LEVELS = LEVELS * 2
"""Fifty features."""
AT_LEAST = {"rows_per_s": 200_000, "labels_per_s": 50_000}
AT_MOST = {
    "bytes_per_model": 10_000,
    "mebibytes_10000_models": 100,
    "window_close_ms": 2,
    "restart_ms": 100,
}
"""The goals that the project set itself."""
screen = Console(stderr=True)


def flushed(memory: Memory, opened: dict[str, Open], rows: list[Kept], plan: Plan) -> None:
    """Everything that a batch does in memory: which windows, and all sums."""
    own: dict[str, list[Kept]] = defaultdict(list)
    for row in rows:
        own[row.model].append(row)
    parts = []
    for model, some in own.items():
        for part in allot({"": opened[model]} if model in opened else {}, 1, some, plan):
            opened[model] = part.window
            parts.append(((model, 1, ""), plan, part.rows))
    memory.count(parts)


def in_process(profile: bytes, models: int, *, own_levels: bool = False) -> float:
    """Rows per CPU second into the sketches of so many models.

    Args:
        own_levels: each model has the levels of its categories in an order of its own, as models
            have that learned from different rows; otherwise all share them.
    """
    grid, plan, memory = Grid.of(read_reference(profile).layout), a_plan(profile), Memory()
    names = [f"model-{n:05}" for n in range(models)]
    for number, name in enumerate(names):
        own = with_levels_of_its_own(grid, number) if own_levels else grid
        memory.open((name, 1, ""), plan, own, None)
    batches = [rows_of(names, FLUSH, seed) for seed in range(3)]
    opened: dict[str, Open] = {}
    plan = replace(plan, window=10**9)
    flushed(memory, opened, batches[0], plan)
    # A service drops rows when it has counted them; here they lie ready, and would be looked
    # through for garbage again and again.
    gc.collect()
    gc.freeze()
    began = time.process_time()
    for number in range(FLUSHES):
        flushed(memory, opened, batches[number % 3], plan)
    seconds = time.process_time() - began
    gc.unfreeze()
    return FLUSHES * FLUSH / seconds


def with_levels_of_its_own(grid: Grid, seed: int) -> Grid:
    """The same levels in another order."""
    chance = random.Random(seed)
    words = [
        CategoryCells(name=cells.name, levels=tuple(chance.sample(cells.levels, len(cells.levels))))
        for cells in grid.words
    ]
    return replace(grid, words=tuple(words))


def bytes_per_model(profile: bytes, models: int) -> float:
    """What so many open windows take, their plans and the books about them included."""
    packed, plan = Grid.of(read_reference(profile).layout).to_bytes(), a_plan(profile)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    memory = Memory()
    for number in range(models):
        slot = (f"model-{number:05}", 1, "")
        memory.plan_all({slot[:2]: replace(plan)})
        memory.open(slot, plan, Grid.read(packed), None)
        memory.settle(memory.begin([slot]), {slot: (1, number)})
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / models


def closing(profile: bytes) -> dict[str, float]:
    """Milliseconds of CPU of a verdict: usual, rare, the first one, and with many features."""
    usual = verdicts(profile, CLOSINGS)[1:]
    wide = a_profile(numbers=WIDE_NUMBERS, levels=WIDE_LEVELS)
    many = verdicts(wide, max(20, CLOSINGS // 4), WIDE_NUMBERS, WIDE_LEVELS)[1:]
    found = {
        "window_close_ms": statistics.median(usual),
        "window_close_p99_ms": statistics.quantiles(usual, n=100)[-1],
        "window_close_first_ms": statistics.median(first_verdicts(profile, 11)[1:]),
        "window_close_50_features_ms": statistics.median(many),
    }
    found = {name: round(seconds * 1000, 2) for name, seconds in found.items()}
    screen.print(
        "a window compared, with 15 before it: {window_close_ms} ms, one of a hundred takes "
        "{window_close_p99_ms} ms; the first one of a version "
        "{window_close_first_ms} ms; of 50 features {window_close_50_features_ms} ms".format(
            **found
        )
    )
    return found


async def with_database(place: Infrastructure, profile: bytes) -> dict[str, float]:
    """Windows closed, the start, labels and the bus, on a real database."""
    name = f"bench_{uuid.uuid4().hex[:10]}"
    url = await asyncio.to_thread(place.create_database, name)
    database = await Database.open(url, "drift_monitor", migrations=[MIGRATIONS])
    with tempfile.TemporaryDirectory(prefix="tidewheel-blobs-") as folder:
        watching = await Watching.begin(database, place.kafka, folder, profile)
        try:
            return await measured(watching)
        finally:
            await database.close()


async def measured(watching: Watching) -> dict[str, float]:
    bus, counted = await watching.through_the_bus(BUS_ROWS)
    screen.print(f"through the bus: {bus:,.0f} rows/s, {counted:,} rows into {MODELS} models")
    restarts = [await watching.restart() for _ in range(5)]
    restart = statistics.median(restarts) * 1000
    screen.print(f"{MODELS} open windows back after a start: {restart:.0f} ms")
    whole = statistics.median(await watching.close_windows(CLOSINGS)) * 1000
    screen.print(f"a window closed with all that is saved and said: {whole:.1f} ms")
    labels = await watching.join(await labels_of(watching, LABELS))
    screen.print(f"labels joined: {labels:,.0f}/s")
    return {
        "rows_per_s_bus": round(bus),
        "window_close_saved_ms": round(whole, 2),
        "labels_per_s": round(labels),
        "restart_ms": round(restart, 1),
    }


def goals(found: dict[str, Any]) -> dict[str, bool]:
    """Which goals these figures reach."""
    reached = {name: found[name] >= least for name, least in AT_LEAST.items()}
    reached |= {name: found[name] <= most for name, most in AT_MOST.items()}
    for name, limit in (AT_LEAST | AT_MOST).items():
        word = "at least" if name in AT_LEAST else "at most"
        held = "reached" if reached[name] else "MISSED"
        screen.print(f"goal {held}: {name} {found[name]:,}, {word} {limit:,}")
    return {f"goal_{name}": holds for name, holds in reached.items()}


def main() -> None:
    telemetry.configure("bench", "error")
    gc.set_threshold(NEW_OBJECTS)  # as the service does
    random.seed(1)
    screen.print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {MODELS} models of 20 "
        f"features, {FLUSHES} flushes of {FLUSH} rows, {BUS_ROWS} rows through the bus"
    )
    profile = a_profile()
    found: dict[str, Any] = {"rows_per_s": round(in_process(profile, MODELS))}
    screen.print(f"in process, {MODELS} models mixed: {found['rows_per_s']:,} rows/s")
    found["rows_per_s_own_levels"] = round(in_process(profile, MODELS, own_levels=True))
    screen.print(f"each with levels of its own: {found['rows_per_s_own_levels']:,} rows/s")
    found["rows_per_s_one_model"] = round(in_process(profile, 1))
    screen.print(f"in process, one model: {found['rows_per_s_one_model']:,} rows/s")
    found["bytes_per_model"] = round(bytes_per_model(profile, MODELS))
    found["mebibytes_10000_models"] = round(bytes_per_model(profile, MANY) * MANY / 2**20, 1)
    screen.print(
        f"memory: {found['bytes_per_model']:,} bytes per model, "
        f"{found['mebibytes_10000_models']} MiB for {MANY:,}"
    )
    found |= closing(profile)
    with tempfile.TemporaryDirectory(prefix="tidewheel-bench-") as folder:
        Path(folder).chmod(0o711)  # the database runs under another user
        infrastructure = Infrastructure(Path(folder) / "stack", durable=True)
        try:
            found |= asyncio.run(with_database(infrastructure.start(), profile))
        finally:
            infrastructure.delete()
    found |= monitor_peers.measure(screen)
    print(json.dumps(found | goals(found)))


if __name__ == "__main__":
    main()
