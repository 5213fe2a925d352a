"""Asks without end, over connections that come back when they are lost, and notes every answer.

`python -m bench.spool_load PORT CONNECTIONS IDS REQUESTS`: the ids of answers go to the file IDS,
one per line, as soon as they have arrived; REQUESTS is a file of the bytes to send, each request
after its length in four bytes.
"""

import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Final, cast

ID_BYTES: Final = 35
"""An id and the end of its line."""
_ID: Final = re.compile(rb'"prediction_id":"(p-[0-9a-f]{32})"')
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
FLUSH_SECONDS: Final = 0.1
AGAIN_SECONDS: Final = 0.02


def packed(requests: Sequence[bytes]) -> bytes:
    """Requests as the file that this program reads."""
    return b"".join(len(one).to_bytes(4, "little") + one for one in requests)


def unpacked(data: bytes) -> list[bytes]:
    """The requests of such a file."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        found.append(data[4:end])
        data = data[end:]
    return found


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], ids: list[bytes], lost: asyncio.Event) -> None:
        self._requests = cycle(requests)
        self._ids = ids
        self._lost = lost
        self._answer = b""
        self._whole = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(next(self._requests))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._whole:
            end = self._answer.find(b"\r\n\r\n")
            length = _LENGTH.search(self._answer[: end + 2]) if end >= 0 else None
            if length is None:
                return
            self._whole = end + 4 + int(length[1])
        if len(self._answer) >= self._whole:
            self._ids += _ID.findall(self._answer)
            self._answer, self._whole = b"", 0
            self._transport.write(next(self._requests))


async def keep_asking(port: int, requests: Sequence[bytes], ids: list[bytes]) -> None:
    """One connection after the other, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        lost = asyncio.Event()
        with suppress(OSError):
            made = partial(_Connection, requests, ids, lost)
            await loop.create_connection(made, "127.0.0.1", port)
            await lost.wait()
        await asyncio.sleep(AGAIN_SECONDS)


async def run(port: int, connections: int, ids_file: Path, requests: list[bytes]) -> None:
    """Ask until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ids: list[bytes] = []
    asking = [
        asyncio.create_task(keep_asking(port, requests[number:] + requests[:number], ids))
        for number in range(connections)
    ]
    with ids_file.open("ab", buffering=0) as file:
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), FLUSH_SECONDS)
            taken, ids[:] = ids[:], []
            if taken:
                file.write(b"\n".join(taken) + b"\n")
    for one in asking:
        one.cancel()


if __name__ == "__main__":
    asyncio.run(
        run(
            int(sys.argv[1]),
            int(sys.argv[2]),
            Path(sys.argv[3]),
            unpacked(Path(sys.argv[4]).read_bytes()),
        )
    )
