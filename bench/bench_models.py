"""Ten thousand small models in one process, asked uniformly at random over HTTP.

The replica starts from a disk that has them all, with nothing asked before and no broker listening;
it runs as always: keys, checks of every value, a row of the log per answer, metrics. Server and
client have a core each. First every request is the first one of its model (a cold start), over one
connection; then models are drawn at random over 32 connections, once with memory for all of them
and once with memory for a part, so that others must be closed for those that are opened.

`python -m bench.bench_models [models] [seconds]`. The last line is one JSON object.
"""

import asyncio
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import uvloop

from bench.models_disk import NAMES, PROVED, WIDTH, Written, milliseconds_per_proof, write_models
from bench.serving_load import Load, Question, ask
from bench.serving_servers import Server
from services.serving.settings import Settings
from services.serving.store.disk import Disk
from tests.serving.building import KEY, environment_of, settings_for
from tests.serving.child import free_port

MODELS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
SECONDS: Final = float(sys.argv[2]) if len(sys.argv) > 2 else 15.0
CONNECTIONS: Final = 32
COLD: Final = min(MODELS, 2_000)
WIDE_BYTES: Final = 8 * 2**30
SERVER_CORE, CLIENT_CORE = 0, min(1, (os.cpu_count() or 1) - 1)
_MB: Final = 1e6


@dataclass(slots=True, kw_only=True)
class Figures:
    """What one run of the server showed; memory in bytes, latencies in milliseconds."""

    ready_seconds: float
    memory_cold: float
    first_ms: float
    cold: Load
    warm: Load
    memory: float
    opened: float
    closed: float
    open_now: float
    accounted: float


def question(server: Server, names: Sequence[str]) -> Question:
    """One request to each of these models."""
    chance = np.random.default_rng(len(names))
    requests: list[bytes] = []
    for name in names:
        row = dict(zip(NAMES, chance.normal(size=WIDTH).round(4).tolist(), strict=True))
        body = orjson.dumps({"rows": [row]})
        path = f"/v1/models/{name}/predict"
        requests += Question.of(server.port, path, [body], key=KEY).requests
    return Question(host="127.0.0.1", port=server.port, requests=requests)


async def each_once(server: Server, names: Sequence[str]) -> Load:
    """The first request of each, one after the other."""
    asked = question(server, names)
    seconds: list[float] = []
    started = time.perf_counter()
    for request in asked.requests:
        one = Question(host=asked.host, port=asked.port, requests=[request])
        seconds += (await ask(one, connections=1, seconds=0.0)).seconds
    return Load(seconds=seconds, lasted=time.perf_counter() - started, busy=0.0)


async def at_random(server: Server, names: Sequence[str], seconds: float) -> Load:
    """Models drawn by chance, by every connection for itself."""
    drawn = [random.Random(number).choices(names, k=3_000) for number in range(CONNECTIONS)]
    questions = [question(server, some) for some in drawn]
    loads = await asyncio.gather(*(ask(one, connections=1, seconds=seconds) for one in questions))
    return Load(
        seconds=[second for load in loads for second in load.seconds],
        lasted=max(load.lasted for load in loads),
        busy=max(load.busy for load in loads),
    )


def metric(settings: Settings, name: str) -> float:
    """A number that the server tells of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{settings.admin_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == name)


def resident_bytes(server: Server) -> float:
    """Memory of the server that is in use."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGESIZE")


async def started(folder: Path, **knobs: Any) -> tuple[Server, Settings, float]:
    """The server over this folder, and how long it took to be ready."""
    ports = {"port": free_port(), "admin_port": free_port()}
    settings = settings_for(folder, **ports, **knobs)
    disk = Disk(settings.data)
    disk.keep_recent([])  # what an earlier run asked is not opened ahead in this one
    disk.close()
    server = Server(
        name="ours",
        argv=[sys.executable, "-m", "services.serving.app"],
        folder=folder,
        port=settings.port,
        path="",
        plain=lambda rows: rows,
        health="/ready",
        key=KEY,
        environment=environment_of(settings) | {"TIDEWHEEL_SERVING_LOG_LEVEL": "warning"},
    )
    before = time.perf_counter()
    server.start(SERVER_CORE)
    if not await server.ready():
        raise SystemExit((folder / "ours.log").read_text()[-3000:])
    return server, settings, time.perf_counter() - before


async def measured(folder: Path, names: Sequence[str], open_bytes: int) -> Figures:
    """One run of the server."""
    server, settings, ready_seconds = await started(folder, open_bytes=open_bytes)
    try:
        memory_cold = resident_bytes(server)
        order = random.Random(7).sample(names, len(names))
        first = await each_once(server, order[:1])
        cold = await each_once(server, order[1 : COLD + 1])
        await at_random(server, names, 2 * SECONDS)  # until as much is open as may be
        before = metric(settings, "tidewheel_versions_opened_total")
        closed = metric(settings, "tidewheel_versions_closed_total")
        warm = await at_random(server, names, SECONDS)
        return Figures(
            ready_seconds=ready_seconds,
            memory_cold=memory_cold,
            first_ms=first.milliseconds(50),
            cold=cold,
            warm=warm,
            memory=resident_bytes(server),
            opened=metric(settings, "tidewheel_versions_opened_total") - before,
            closed=metric(settings, "tidewheel_versions_closed_total") - closed,
            open_now=metric(settings, "tidewheel_versions_open"),
            accounted=metric(settings, "tidewheel_versions_open_bytes"),
        )
    finally:
        server.stop()


async def empty_bytes(folder: Path) -> float:
    """Memory of a replica that knows one model and was asked nothing."""
    server, _, _ = await started(folder)
    try:
        return resident_bytes(server)
    finally:
        server.stop()


def bytes_per_cold_model(folder: Path) -> float:
    """Python objects of a model that is known and was not asked."""
    disk = Disk(folder / "data")
    tracemalloc.start()
    known = dict(disk.known())
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    disk.close()
    return taken / len(known)


def show(name: str, figures: Figures) -> None:
    """A few lines about one run."""
    cold, warm = figures.cold, figures.warm
    print(f"\n{name}")
    print(f"  ready after {figures.ready_seconds:.2f} s, {figures.memory_cold / _MB:.0f} MB")
    print(
        f"  cold start: first {figures.first_ms:.0f} ms, then p50 {cold.milliseconds(50):.2f} ms, "
        f"p99 {cold.milliseconds(99):.2f} ms over {len(cold.seconds)}"
    )
    print(
        f"  at random over {CONNECTIONS} connections: {warm.rps:.0f} requests/s, "
        f"p50 {warm.milliseconds(50):.1f} ms, p99 {warm.milliseconds(99):.1f} ms"
    )
    print(
        f"  open at the end: {figures.open_now:.0f}, {figures.accounted / _MB:.0f} MB by estimate; "
        f"resident {figures.memory / _MB:.0f} MB; opened {figures.opened:.0f}, "
        f"closed {figures.closed:.0f} in {SECONDS:.0f} s"
    )


def main() -> None:
    """Write the disk, run the server twice, print the figures."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    print(
        f"{MODELS} models, {SECONDS:.0f} s, {CONNECTIONS} connections, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores"
    )
    with tempfile.TemporaryDirectory() as place:
        folder, empty = Path(place) / "full", Path(place) / "empty"
        for one in (folder, empty):
            one.mkdir()
        before = time.perf_counter()
        written = write_models(folder / "data", MODELS)
        write_models(empty / "data", 1)
        took = time.perf_counter() - before
        print(f"{written.graph_bytes / MODELS / 1e3:.1f} kB per graph; written in {took:.0f} s")
        _run(folder, empty, written)


def _run(folder: Path, empty: Path, written: Written) -> None:
    proof_ms = milliseconds_per_proof(folder / "data", written.versions[:PROVED])
    print(f"{proof_ms:.2f} ms to prove a version in a child, {PROVED} at once")
    objects = bytes_per_cold_model(folder)
    alone = uvloop.run(empty_bytes(empty))
    wide = uvloop.run(measured(folder, written.names, WIDE_BYTES))
    show("memory for all", wide)
    tight_bytes = max(1_000_000, int(wide.accounted / 2))
    tight = uvloop.run(measured(folder, written.names, tight_bytes))
    show(f"memory for half ({tight_bytes / _MB:.0f} MB)", tight)
    cold_bytes = [(one.memory_cold - alone) / MODELS for one in (wide, tight)]
    figures = {
        "models": MODELS,
        "bytes_per_cold_model": round(objects),
        "resident_bytes_per_cold_model": round(statistics.median(cold_bytes)),
        "ready_seconds": round(wide.ready_seconds, 2),
        "resident_mb_cold": round(wide.memory_cold / _MB),
        "proof_ms": round(proof_ms, 2),
        "first_request_ms": round(wide.first_ms, 1),
        "cold_start_p50_ms": round(wide.cold.milliseconds(50), 2),
        "cold_start_p99_ms": round(wide.cold.milliseconds(99), 2),
        "rps_all_open": round(wide.warm.rps),
        "p99_ms_all_open": round(wide.warm.milliseconds(99), 1),
        "resident_mb_all_open": round(wide.memory / _MB),
        "accounted_mb_all_open": round(wide.accounted / _MB),
        "rps_half_open": round(tight.warm.rps),
        "p99_ms_half_open": round(tight.warm.milliseconds(99), 1),
        "resident_mb_half_open": round(tight.memory / _MB),
        "evictions_per_second": round(tight.closed / SECONDS),
        "client_busy": round(max(wide.warm.busy, tight.warm.busy), 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
