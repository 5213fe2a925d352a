"""A consumer as a process of its own, for tests that kill it.

`python -m tests.support.bus_program KIND DATABASE KAFKA PREFIX REPLICA FAULT HOLD` runs the small
service on one of the real buses; with HOLD set, its reactions never end.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

from shared import faults, telemetry
from shared.postgres import Database
from tests.support.bus_kit import BusDelivery, FaustDelivery, Script


class Endless(Script):
    """Every event waits for a gate that nobody opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = _Closed()


class _Closed(dict[tuple[str, int], asyncio.Event]):
    def get(self, _key: object, _default: object = None) -> asyncio.Event:
        return asyncio.Event()


async def main(
    kind: str, url: str, kafka: str, prefix: str, replica: str, fault: str, hold: str
) -> None:
    telemetry.configure("bus-program")
    faults.install(fault, "test")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = await Database.open(url, "trainer")
    delivery = {"bus": BusDelivery, "faust": FaustDelivery}[kind](database, kafka, prefix)
    if hold:
        delivery.script.gates = Endless().gates
    await delivery.start(replica)
    await stop.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            await delivery.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:8]))
