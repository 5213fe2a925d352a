"""Files on their way in: streamed to disk, hashed as they come, gone when they are done with."""

import asyncio
import fcntl
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.errors import TooLarge
from shared.events import Digest

_PREFIX: Final = "upload-"
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A whole file on the local disk."""

    path: Path
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Uploads:
    """A folder of temporary files. Each is locked by its owner, so that leftovers can be told."""

    folder: Path
    limit_bytes: int

    def sweep(self) -> int:
        """Remove what a process that has ended left behind; how many files."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sum(_removed(path) for path in self.folder.glob(f"{_PREFIX}*"))

    @asynccontextmanager
    async def receive(self, chunks: AsyncGenerator[bytes, None]) -> AsyncIterator[Arrived]:
        """The file that the chunks make; it is gone after the block.

        Raises:
            TooLarge: there are more bytes than allowed.
        """
        with self._temporary() as (file, path):
            digest, size = hashlib.sha256(), 0
            async with aclosing(chunks):
                async for piece in _gathered(chunks):
                    size += len(piece)
                    if size > self.limit_bytes:
                        raise TooLarge(f"The file has more than {self.limit_bytes} bytes.")
                    await asyncio.to_thread(_write, file, digest, piece)
            file.flush()
            yield Arrived(path=path, digest=Digest(digest.hexdigest()), size_bytes=size)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Any, Path]]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=_PREFIX)
        path = Path(name)
        with os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                yield file, path
            finally:
                path.unlink(missing_ok=True)


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces that are worth a trip to the disk."""
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        if len(gathered) >= _PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _write(file: Any, digest: Any, piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)


def _removed(path: Path) -> bool:
    """Whether nobody holds the file any more, and it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:
        return False
    return True
