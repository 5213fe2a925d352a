"""Whether every answer is in the log exactly once, and what that costs.

A real broker, serving on one core, a client that asks as fast as it is answered and notes every
answer. Under this load the broker is away for a minute, comes back, and serving is killed again and
again. In the end the topic is read from its beginning and held against what the client was told.
Before that: answers per second without a log, with the spool alone, and with the broker.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console

from bench.serving_servers import Server, ours
from bench.spool_load import ID_BYTES, packed
from local.paths import CHECKOUT
from local.stack import Infrastructure
from shared.broker import TopicPartition, close_consumer, make_consumer
from shared.bus import ensure_topics
from shared.topics import PREDICTIONS
from tests.support.house import until

NOBODY: Final = "127.0.0.1:9"
BEHIND_ROWS: Final = 3_000
"""Fewer rows than this in the spool are the ordinary delay of batches on their way."""
screen = Console(stderr=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the topic holds.

    Attributes:
        batches: numbers of the batches that hold an id, per id.
        gaps: rows that serving says it could not log.
        resent: batches that came more than once, all the same.
        differing: batches that came again with another content.
    """

    batches: dict[bytes, set[int]]
    gaps: int
    resent: int
    differing: int


@dataclass(slots=True, kw_only=True)
class Asked:
    """The load: a process that asks."""

    folder: Path
    server: Server
    connections: int
    process: subprocess.Popen[bytes] | None = None
    name: str = "ids"

    @property
    def ids(self) -> Path:
        """Where the ids of its answers are."""
        return self.folder / self.name

    @property
    def answered(self) -> int:
        """Answers that have arrived so far."""
        return self.ids.stat().st_size // ID_BYTES if self.ids.exists() else 0

    def has(self, answers: int) -> bool:
        """Whether so many have arrived."""
        return self.answered >= answers

    def start(self) -> None:
        """Begin to ask."""
        requests = self.folder / "requests"
        requests.write_bytes(packed(self.server.question(1).requests))
        arguments = [str(self.server.port), str(self.connections), str(self.ids), str(requests)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.spool_load", *arguments], cwd=CHECKOUT
        )

    def end(self) -> None:
        """Ask no more."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def rate(self, seconds: float) -> float:
        """Answers per second, for so long."""
        first, began = self.answered, time.perf_counter()
        time.sleep(seconds)
        return (self.answered - first) / (time.perf_counter() - began)


@contextmanager
def asking(folder: Path, server: Server, connections: int, name: str) -> Iterator[Asked]:
    """Load, for as long as this lasts."""
    asked = Asked(folder=folder, server=server, connections=connections, name=name)
    asked.start()
    try:
        until(lambda: asked.answered > 0, what="the first answer")
        yield asked
    finally:
        asked.end()


def state_of(server: Server) -> dict[str, Any]:
    """What serving says of itself; nothing while it is not there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/ready", timeout=5) as answer:
            return dict(json.loads(answer.read()))
    except OSError:
        return {}


def rate_of(server: Server, folder: Path, options: argparse.Namespace) -> float:
    """Answers per second of a server that is started for it."""
    server.start(0)
    try:
        if not asyncio.run(server.ready()):
            raise SystemExit("serving did not become ready")
        with asking(folder, server, options.connections, f"{server.name}-ids") as asked:
            asked.rate(2.0)
            return asked.rate(options.seconds)
    finally:
        server.stop()


def rates(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Without a log, and with the spool alone, in turn: the broker does not answer.

    The better of the rounds counts; the other one had less of the machine.
    """
    found: dict[str, float] = {}
    servers = {}
    for name, module in (("without_log", "bench.spool_without_log"), ("spool", "")):
        own = folder / name
        own.mkdir()
        servers[name] = server = asyncio.run(ours(own, kafka=NOBODY))
        server.name = name
        if module:
            server.argv = [sys.executable, "-m", module]
    for number in range(options.rounds):
        for name, server in servers.items():
            rate = rate_of(server, folder / name, options)
            screen.print(f"round {number + 1}, {name}: {rate:.0f} answers/s")
            found[name] = max(rate, found.get(name, 0.0))
    return found


# --- the story ------------------------------------------------------------------------------


def story(
    infrastructure: Infrastructure, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Load, an outage, catching up, deaths; then the log is held against the answers."""
    asyncio.run(ensure_topics(infrastructure.kafka, prefix="", partitions=6))
    server = asyncio.run(ours(folder, kafka=infrastructure.kafka))
    server.start(0)
    if not asyncio.run(server.ready()):
        raise SystemExit("serving did not become ready")
    figures: dict[str, float] = {}
    with asking(folder, server, options.connections, "ids") as asked:
        asked.rate(2.0)
        figures["rps"] = asked.rate(options.seconds)
        screen.print(f"with the broker: {figures['rps']:.0f} answers/s")
        figures |= outage(infrastructure, server, asked, options)
        figures["ready_after_kill_s"] = deaths(server, asked, options)
    until(lambda: state_of(server).get("spool_rows") == 0, what="the spool to be empty")
    server.stop()
    return figures | compared(infrastructure.kafka, folder / "ids")


def outage(
    infrastructure: Infrastructure, server: Server, asked: Asked, options: argparse.Namespace
) -> dict[str, float]:
    """The broker is away under load, and comes back."""
    infrastructure.stop_broker()
    rate = asked.rate(options.outage)
    peak = state_of(server)
    screen.print(f"during the outage: {rate:.0f} answers/s, {peak['spool_rows']} rows wait")
    infrastructure.start_broker()
    began = time.perf_counter()
    first = asked.answered
    until(
        lambda: state_of(server).get("spool_rows", BEHIND_ROWS) < BEHIND_ROWS,
        what="it to catch up",
        seconds=600,
    )
    seconds = time.perf_counter() - began
    more = asked.answered - first
    screen.print(f"caught up after {seconds:.1f} s, {more / seconds:.0f} answers/s meanwhile")
    return {
        "rps_outage": rate,
        "rps_catch_up": more / seconds,
        "outage_s": options.outage,
        "catch_up_s": seconds,
        "spool_peak_rows": peak["spool_rows"],
        "spool_peak_mb": peak["spool_bytes"] / 1e6,
    }


def deaths(server: Server, asked: Asked, options: argparse.Namespace) -> float:
    """Kill -9 under load; the longest time until the next answer."""
    longest = 0.0
    for number in range(options.kills):
        asked.rate(3.0)
        if server.process is None:
            raise SystemExit("serving is gone")
        server.process.kill()
        server.process.wait()
        began, due = time.perf_counter(), asked.answered + 100
        server.start(0)
        until(partial(asked.has, due), what="answers after a death")
        longest = max(longest, time.perf_counter() - began)
        screen.print(f"death {number + 1}: answers after {time.perf_counter() - began:.1f} s")
    asked.rate(3.0)
    return longest


def compared(kafka: str, ids: Path) -> dict[str, float]:
    """The answers that the client has against the log."""
    answered = ids.read_bytes().split()
    told = asyncio.run(read_topic(kafka))
    seen = set(answered)
    return {
        "answered": len(answered),
        "logged": sum(1 for one in seen if one in told.batches),
        "duplicates": sum(len(numbers) - 1 for numbers in told.batches.values()),
        "gaps": told.gaps,
        "lost": sum(1 for one in seen if one not in told.batches) - told.gaps,
        "logged_unseen": len(told.batches.keys() - seen),
        "batches_resent": told.resent,
        "batches_differing": told.differing,
    }


async def read_topic(kafka: str) -> Told:
    """The whole topic of predictions."""
    consumer = make_consumer(kafka)
    contents: dict[tuple[str, int], int] = {}
    batches: dict[bytes, set[int]] = {}
    counts: Counter[str] = Counter()
    await consumer.start()
    try:
        await consumer._client._wait_on_metadata(PREDICTIONS.name)  # noqa: SLF001 - not told otherwise
        parts = [
            TopicPartition(PREDICTIONS.name, number)
            for number in consumer.partitions_for_topic(PREDICTIONS.name)
        ]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    _count(orjson.loads(record.value)["data"], contents, batches, counts)
    finally:
        await close_consumer(consumer)
    return Told(
        batches=batches,
        gaps=counts["gaps"],
        resent=counts["resent"],
        differing=counts["differing"],
    )


def _count(
    data: dict[str, Any],
    contents: dict[tuple[str, int], int],
    batches: dict[bytes, set[int]],
    counts: Counter[str],
) -> None:
    named = (data["replica"], data["batch"])
    content = hash(orjson.dumps(data))
    if named in contents:
        counts["resent"] += 1
        counts["differing"] += contents[named] != content
        return
    contents[named] = content
    counts["gaps"] += data["gaps"]
    for row in data["rows"]:
        batches.setdefault(row["id"].encode(), set()).add(data["batch"])


# --- figures --------------------------------------------------------------------------------


def main() -> None:
    """Run it all, and print one line of JSON at the end."""
    options = arguments()
    screen.print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, serving on one; one row per "
        f"request over {options.connections} connections, a compiled forest; one real broker"
    )
    with tempfile.TemporaryDirectory(prefix="tidewheel-bench-") as place:
        folder = Path(place)
        folder.chmod(0o711)  # the database runs under another user
        found = rates(folder, options)
        infrastructure = Infrastructure(folder / "stack", durable=True)
        try:
            infrastructure.start()
            (folder / "story").mkdir()
            figures = story(infrastructure, folder / "story", options)
        finally:
            infrastructure.delete()
    figures |= {
        "rps_without_log": found["without_log"],
        "rps_spool_alone": found["spool"],
        "spool_us_per_answer": 1e6 / found["spool"] - 1e6 / found["without_log"],
    }
    print(json.dumps({name: round(value, 3) for name, value in sorted(figures.items())}))


def arguments() -> argparse.Namespace:
    """What may be chosen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measured rate")
    parser.add_argument("--rounds", type=int, default=2, help="of the two rates side by side")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds without the broker")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    return parser.parse_args()


if __name__ == "__main__":
    main()
