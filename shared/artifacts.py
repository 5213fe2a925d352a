"""Blobs by digest: written once, before the event that names them, checked at every read."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError
from obstore.store import LocalStore, from_url

from shared.errors import ArtifactCorrupt, NotFound, StoreUnavailable
from shared.events import Digest

CHUNK_BYTES: Final = 1 << 20
_PIECES: Final = 4
"""Of a large file that are in memory at a time, 5 MiB each."""
PATIENCE: Final = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "10m"}
"""Of a request: until it is connected, between two pieces of an answer, and for all of it."""
RETRIES: Final = 3
RETRY: Final = timedelta(seconds=60)
"""After that no further try begins: who asks a store that hangs knows after a minute and a half,
and holds a thread for no longer."""
_AZURE: Final = ("az", "adl", "azure", "abfs", "abfss")
_PREFIXES: Final = {"s3": "AWS", "s3a": "AWS", "gs": "GOOGLE"} | dict.fromkeys(_AZURE, "AZURE")
_HOSTS: Final = {
    ".core.windows.net": "AZURE",
    ".fabric.microsoft.com": "AZURE",
    "amazonaws.com": "AWS",
    "r2.cloudflarestorage.com": "AWS",
}
_OPTIONS: Final = (
    *PATIENCE,
    "allow_http",
    "allow_invalid_certificates",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
    "user_agent",
)
"""That the environment may set, as `AWS_READ_TIMEOUT`: the library forgets all of these for one
that it is given."""
LARGE_BYTES: Final = 8 << 20
"""A larger file is put in pieces, so that it is never in memory as a whole."""


def digest_of(data: bytes) -> Digest:
    """SHA-256 in hexadecimal digits."""
    return Digest(hashlib.sha256(data).hexdigest())


def digest_of_file(path: Path) -> Digest:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def key_of(digest: Digest) -> str:
    """Where a blob lies; two levels, so that no folder grows without end."""
    return f"sha256/{digest[:2]}/{digest}"


class ArtifactStore:
    """The object store of one installation. The plain methods are for children and threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store: Any = _open(url)

    def put(self, data: bytes) -> Digest:
        """Keep these bytes; keeping them twice is the same.

        Raises:
            StoreUnavailable: the store does not answer or is full.
        """
        digest = digest_of(data)
        self._put(digest, data)
        return digest

    def put_file(self, path: Path, digest: Digest) -> None:
        """Keep a file whose digest is known, without holding it in memory.

        Raises:
            StoreUnavailable: the store does not answer or is full.
        """
        if self.has(digest):
            return
        # Only a put that may overwrite goes in pieces. The bytes under a digest are always the
        # same, and they appear under it when all of them are there.
        is_large = path.stat().st_size > LARGE_BYTES
        self._put(digest, path, mode="overwrite" if is_large else "create")

    def _put(
        self,
        digest: Digest,
        data: bytes | Path,
        mode: Literal["create", "overwrite"] = "create",
    ) -> None:
        try:
            obstore.put(self._store, key_of(digest), data, mode=mode, max_concurrency=_PIECES)
        except AlreadyExistsError:
            return
        except Exception as error:
            raise StoreUnavailable(f"the artifact store did not keep {digest}: {error}") from error

    def has(self, digest: Digest) -> bool:
        """Whether the bytes are there."""
        try:
            obstore.head(self._store, key_of(digest))
        except (NotFoundError, FileNotFoundError):
            return False
        except Exception as error:
            raise StoreUnavailable(f"the artifact store does not answer: {error}") from error
        return True

    def get(self, digest: Digest) -> bytes:
        """The bytes with this digest, checked.

        Raises:
            NotFound: there are none.
            ArtifactCorrupt: the bytes have another digest.
            StoreUnavailable: the store does not answer.
        """
        data = self._read(digest)
        found = digest_of(data)
        if found != digest:
            raise ArtifactCorrupt(digest, found)
        return data

    def _read(self, digest: Digest) -> bytes:
        try:
            return bytes(obstore.get(self._store, key_of(digest)).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound(f"no artifact has the digest {digest}") from error
        except Exception as error:
            raise StoreUnavailable(f"the artifact store does not answer: {error}") from error

    def fetch(self, digest: Digest, target: Path) -> Path:
        """Bring the bytes into a file, checked, in one step that is either done or not.

        Raises:
            NotFound, ArtifactCorrupt, StoreUnavailable: as `get`; `target` is then untouched.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".fetch-")
        part = Path(name)
        try:
            found = self._copy(digest, handle)
            if found != digest:
                raise ArtifactCorrupt(digest, found)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def _copy(self, digest: Digest, handle: int) -> Digest:
        seen = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in obstore.get(self._store, key_of(digest)).stream(CHUNK_BYTES):
                    seen.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound(f"no artifact has the digest {digest}") from error
        except Exception as error:
            raise StoreUnavailable(f"the artifact store does not answer: {error}") from error
        return Digest(seen.hexdigest())

    async def aput(self, data: bytes) -> Digest:
        """`put`, without holding up the loop."""
        return await asyncio.to_thread(self.put, data)

    async def aput_file(self, path: Path, digest: Digest) -> None:
        """`put_file`, without holding up the loop."""
        await asyncio.to_thread(self.put_file, path, digest)

    async def aget(self, digest: Digest) -> bytes:
        """`get`, without holding up the loop."""
        return await asyncio.to_thread(self.get, digest)

    async def afetch(self, digest: Digest, target: Path) -> Path:
        """`fetch`, without holding up the loop."""
        return await asyncio.to_thread(self.fetch, digest, target)

    async def stream(self, digest: Digest, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes from `start` up to, not including, `end`, in pieces.

        Raises:
            NotFound, StoreUnavailable: as `get`.
        """
        for position in range(start, end, CHUNK_BYTES):
            stop = min(position + CHUNK_BYTES, end)
            try:
                piece = await obstore.get_range_async(
                    self._store, key_of(digest), start=position, end=stop
                )
            except (NotFoundError, FileNotFoundError) as error:
                raise NotFound(f"no artifact has the digest {digest}") from error
            yield bytes(piece)


def _open(url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(prefix=folder)
    return from_url(
        url,
        client_options=_client_options(_prefix_of(parts.scheme, parts.hostname or "")),
        retry_config={"max_retries": RETRIES, "retry_timeout": RETRY},
    )


def _prefix_of(scheme: str, host: str) -> str:
    """What names in the environment begin with, for the store that the library takes it for."""
    if scheme in _PREFIXES:
        return _PREFIXES[scheme]
    return next((prefix for end, prefix in _HOSTS.items() if host.endswith(end)), "HTTP")


def _client_options(prefix: str) -> Any:
    known = os.environ  # noqa: TID251 - where the library itself looks for them
    told = {name: known.get(f"{prefix}_{name.upper()}") for name in _OPTIONS}
    return PATIENCE | {name: value for name, value in told.items() if value}
