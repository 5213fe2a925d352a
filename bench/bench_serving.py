"""Our serving beside MLServer, BentoML, naive FastAPI and a bare uvicorn hello, in one run.

Every server answers by the same forest of 100 trees over ten numbers, pinned to one core; who asks
is pinned to another. They are asked by turns, round after round, so that what else the machine does
weighs on all alike. Ours runs as it always does: keys, checks of every value, one row of the log
per answer in the spool before the answer leaves, metrics. First no broker listens, so the spool
keeps all of it; afterwards ours is asked once more while a broker on the client's core takes the
log. The peers log nothing, check less and ask for no key. In the same rounds single rows are asked
of ours while a second forest answers a fifth of the machines (`canary`), while it is asked about a
fifth of the rows unseen (`shadow`), and in the Open Inference Protocol (`v2`).

`python -m bench.bench_serving [rounds] [seconds]`. The last line is one JSON object.
"""

import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from bench.serving_load import Load, WrongAnswer, ask
from bench.serving_servers import Server, our_ways, ours, peers
from local.stack import Infrastructure
from shared import telemetry
from shared.bus import ensure_topics

ROUNDS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SECONDS: Final = float(sys.argv[2]) if len(sys.argv) > 2 else 2.5
SCENES: Final = ((1, 1), (1, 32), (64, 1), (64, 32))
"""Rows per request, connections."""
WAYS: Final = ("canary", "shadow", "v2")
"""Ours in other circumstances."""
SERVER_CORE, CLIENT_CORE = 0, 1


@dataclass(slots=True)
class Scene:
    """What one server did in one kind of load, over all rounds."""

    rps: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    busy: float = 0.0

    def add(self, load: Load, used: float) -> None:
        self.rps.append(load.rps)
        self.p50.append(load.milliseconds(50))
        self.p99.append(load.milliseconds(99))
        self.cpu_us.append(used / len(load.seconds) * 1e6)
        self.busy = max(self.busy, load.busy)


Scenes = dict[tuple[str, int, int], Scene]


async def measured(servers: Sequence[Server], scenes: Sequence[tuple[int, int]]) -> Scenes:
    found: Scenes = defaultdict(Scene)
    for number in range(ROUNDS + 1):
        print(f"round {number} of {ROUNDS}" if number else "warming up", file=sys.stderr)
        for rows, connections in scenes:
            for server in servers:
                is_single = server.name in ("hello", *WAYS)
                if is_single and (rows > 1 or (server.name in WAYS and connections == 1)):
                    continue
                seconds = SECONDS if number else 0.5
                question = server.question(rows)
                before = server.processor_seconds()
                gc.collect()
                load = await ask(question, connections=connections, seconds=seconds)
                if number:
                    used = server.processor_seconds() - before
                    found[server.name, rows, connections].add(load, used)
    return found


def shown(found: Scenes) -> None:
    head = ("server", "rows", "conns", "requests/s", "p50 ms", "p99 ms", "cpu us", "client busy")
    print("{:18} {:>5} {:>6} {:>11} {:>8} {:>8} {:>8} {:>12}".format(*head))
    for (name, rows, connections), scene in sorted(found.items(), key=lambda one: one[0][1:]):
        print(
            f"{name:18} {rows:5} {connections:6} {middle(scene.rps):11.0f} {middle(scene.p50):8.2f}"
            f" {middle(scene.p99):8.2f} {middle(scene.cpu_us):8.0f} {scene.busy:12.2f}"
        )


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def figures(found: Scenes, missing: Sequence[str]) -> dict[str, object]:
    """The named figures; a peer that is not here has none."""
    single = found["ours", 1, 32]
    told: dict[str, object] = {"ours_rps": round(middle(single.rps))}
    others = {
        name: middle(scene.rps)
        for (name, rows, connections), scene in found.items()
        if (rows, connections) == (1, 32) and name not in ("ours", "hello", *WAYS)
    }
    if others:
        told["ratio_best_peer"] = round(middle(single.rps) / max(others.values()), 2)
    if ("hello", 1, 32) in found:
        hello = found["hello", 1, 32]
        told["ratio_hello"] = round(middle(single.rps) / middle(hello.rps), 3)
        told["hello_rps"] = round(middle(hello.rps))
    for rows, prefix in ((1, ""), (64, "rows64_")):
        for connections in (1, 32):
            scene = found["ours", rows, connections]
            told[f"{prefix}p50_ms_{connections}"] = round(middle(scene.p50), 3)
            told[f"{prefix}p99_ms_{connections}"] = round(middle(scene.p99), 3)
        told[f"{prefix}rps_1"] = round(middle(found["ours", rows, 1].rps))
        told[f"{prefix}rps_32"] = round(middle(found["ours", rows, 32].rps))
    told |= _of_ways(found)
    told["cpu_us_per_request"] = round(middle(single.cpu_us), 1)
    if ("hello", 1, 32) in found:
        told["hello_cpu_us"] = round(middle(found["hello", 1, 32].cpu_us), 1)
    told["peers"] = _of_peers(found) | dict.fromkeys(missing, "not installed")
    return told


def _of_ways(found: Scenes) -> dict[str, object]:
    told: dict[str, object] = {}
    for name in WAYS:
        scene = found[name, 1, 32]
        told[f"{name}_rps"] = round(middle(scene.rps)) if scene.rps else None
        told[f"{name}_p99_ms"] = round(middle(scene.p99), 3) if scene.p99 else None
        told[f"{name}_cpu_us"] = round(middle(scene.cpu_us), 1) if scene.cpu_us else None
    return told


def _of_peers(found: Scenes) -> dict[str, object]:
    told: dict[str, dict[str, float]] = defaultdict(dict)
    for (name, rows, connections), scene in found.items():
        if name not in ("ours", *WAYS):
            told[name][f"rps_{rows}x{connections}"] = round(middle(scene.rps), 1)
            told[name][f"p99_ms_{rows}x{connections}"] = round(middle(scene.p99), 2)
    return dict(told)


async def run(folder: Path) -> None:
    others, missing = peers(folder)
    servers = [await ours(folder / "ours"), *await our_ways(folder), *others]
    try:
        for server in servers:
            server.start(SERVER_CORE)
        ready = []
        for server in servers:
            if await server.ready():
                ready.append(server)
            else:
                missing.append(server.name)
                print(f"{server.name} did not start: {_tail(server)}", file=sys.stderr)
        found = await measured(ready, SCENES)
    except WrongAnswer as error:
        raise SystemExit(f"a server did not answer: {error}") from error
    finally:
        for server in servers:
            server.stop()
    shown(found)
    told = figures(found, missing)
    told["ours_rps_with_broker"] = await with_broker(folder)
    print(json.dumps(told))


async def with_broker(folder: Path) -> object:
    """Single rows at 32 connections while the log leaves for a broker; None without one."""
    infrastructure = Infrastructure(folder / "stack")
    server: Server | None = None
    try:
        await asyncio.to_thread(infrastructure.start)
        await ensure_topics(infrastructure.kafka, partitions=2)
        server = await ours(folder / "logged", kafka=infrastructure.kafka)
        server.start(SERVER_CORE)
        if not await server.ready():
            return None
        found = await measured([server], [(1, 32)])
        return round(middle(found["ours", 1, 32].rps))
    except (OSError, RuntimeError) as error:
        print(f"no broker: {error}", file=sys.stderr)
        return None
    finally:
        if server is not None:
            server.stop()
        await asyncio.to_thread(infrastructure.delete)


def _tail(server: Server) -> str:
    return (server.folder / f"{server.name}.log").read_text(errors="replace")[-600:]


def main() -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    print(f"{ROUNDS} rounds of {SECONDS:g} s for each server and load; medians of the rounds")
    print("server on one core, client on another; without a broker but for the last figure")
    telemetry.configure("bench", "error")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[CLIENT_CORE % len(cores)]})
    with (
        tempfile.TemporaryDirectory(prefix="tidewheel-bench-") as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        Path(name).chmod(0o711)  # the database of the stack runs under another user
        runner.run(run(Path(name)))


if __name__ == "__main__":
    main()
