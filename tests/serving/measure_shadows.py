"""How long answers take with and without a shadow: `python -m tests.serving.measure_shadows`.

One replica in this process is asked for one row after the other, by turns of a hundred: without a
shadow, with one as quick as the champion, and with one that takes 50 ms a question. Taking turns
lets what else the machine does weigh on all three alike. Prints milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.serving.app import Serving
from shared import telemetry
from shared.artifacts import ArtifactStore
from shared.events import ModelName
from shared.running import Part
from tests.serving.building import (
    A_ROW,
    Interference,
    Replica,
    a_desired,
    a_replica,
    a_version,
    settings_for,
    until,
)

ROUNDS, TOGETHER = 30, 100
PAUSE_SECONDS = 0.001


def with_shadows(serving: Serving) -> list[Part]:
    return [serving.watchdog.run, serving.deployments.run, serving.shadows.run]


async def timed(replica: Replica, model: ModelName) -> list[float]:
    found = []
    for _ in range(TOGETHER):
        started = time.perf_counter()
        await replica.serving.predictions.predict(model, [dict(A_ROW)])
        found.append(time.perf_counter() - started)
        await asyncio.sleep(PAUSE_SECONDS)
    await until(lambda: replica.serving.shadows.is_idle)
    return found


def slowly(between: Interference) -> Callable[[Sequence[Any]], Any]:
    def say(rows: Sequence[Any]) -> Any:
        time.sleep(0.05)
        return between._real(rows)

    return say


def show(name: str, seconds: Sequence[float], replica: Replica, model: ModelName) -> None:
    p50, p99, p999 = np.quantile(seconds, [0.5, 0.99, 0.999]) * 1000
    tallies = replica.serving.deployments.endpoints[model].tallies
    shadow = tallies[1] if len(tallies) > 2 else None
    counts = f"; shadow {shadow.requests} asked, {shadow.dropped} dropped" if shadow else ""
    sys.stdout.write(f"{name:16} p50 {p50:.3f}  p99 {p99:.3f}  p99.9 {p999:.3f}{counts}\n")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(Path(folder), spool_bytes=10**9)
        store = ArtifactStore(settings.artifacts)
        champion, quick, slow = (a_version(store, number) for number in (1, 2, 3))
        wanted = {"without": None, "quick shadow": quick, "slow shadow": slow}
        found: dict[str, list[float]] = {name: [] for name in wanted}
        async with a_replica(settings, with_shadows) as replica:
            for name, shadow in wanted.items():
                model = name.replace(" ", "-")
                await replica.want(a_desired(1, champion, shadow=shadow, model=model))
            between = Interference(replica, slow)
            between.say = slowly(between)
            for number in range(ROUNDS + 1):
                for name in wanted:
                    some = await timed(replica, ModelName(name.replace(" ", "-")))
                    found[name] += some if number else []
            for name, seconds in found.items():
                show(name, seconds, replica, ModelName(name.replace(" ", "-")))


if __name__ == "__main__":
    telemetry.configure("serving", "error")
    logging.disable(logging.CRITICAL)
    asyncio.run(main())
