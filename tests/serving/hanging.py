"""A process whose loop hangs in a library that lets other threads run."""

import asyncio
import hashlib
import sys
from pathlib import Path

from services.serving.handlers.watchdog import Watchdog
from services.serving.store.disk import Disk
from shared.events import Digest


async def hang(folder: Path) -> None:
    watchdog = Watchdog(seconds=0.1, grace_seconds=0.2, mark=Disk(folder).mark_hung)
    watching = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)
    watchdog.begin(Digest("a" * 64))
    hashlib.pbkdf2_hmac("sha256", b"never", b"ends", 2**31 - 1)
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(hang(Path(sys.argv[1])))
