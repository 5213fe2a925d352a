"""Data by reference: a configured root and a key. There are no free addresses."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, from_url

from shared.errors import StoreUnavailable
from shared.events import Reason

_PIECE_BYTES: Final = 1 << 20
_MOST_KEY: Final = 1024


class BadReference(Exception):
    """The reference leads to no file; `reason` says why."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.reason = Reason(pointer="/uri", detail=detail, hint=hint)


class Roots:
    """The places that producers may point at, by name."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = dict(addresses)
        self._stores: dict[str, Any] = {}

    async def read(self, uri: str) -> AsyncGenerator[bytes, None]:
        """The bytes behind `root:key`, in pieces.

        Raises:
            BadReference: there is no such root, the key is no key, or nothing lies there.
            StoreUnavailable: the root does not answer.
        """
        root, key = self._split(uri)
        try:
            self._check_inside(root, key)
            found = await obstore.get_async(self._store(root), key)
            async for piece in found.stream(_PIECE_BYTES):
                yield bytes(piece)
        except (NotFoundError, FileNotFoundError) as error:
            raise BadReference(f"nothing lies at {_shown(uri)}", "upload it first") from error
        except (BadReference, StoreUnavailable):
            raise
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreUnavailable(f"root {root} does not answer: {error}") from error

    def _split(self, uri: str) -> tuple[str, str]:
        root, colon, key = uri.partition(":")
        if not colon or not key:
            hint = "write root:key, like lake:sales/day=1.parquet"
            raise BadReference(f"{_shown(uri)} is no reference", hint)
        if root not in self._addresses:
            hint = "use a root that the registry's settings name"
            raise BadReference(f"{_shown(root)} is no configured root", hint)
        parts = key.split("/")
        if (
            len(key) > _MOST_KEY
            or not key.isprintable()
            or any(p in ("", ".", "..") for p in parts)
        ):
            raise BadReference(f"{_shown(key)} is no key", "write the path below the root")
        return root, key

    def _check_inside(self, root: str, key: str) -> None:
        """A symbolic link below a local root must not lead out of it."""
        parts = urlsplit(self._addresses[root])
        if parts.scheme == "file":
            folder = Path(unquote(parts.path)).resolve()
            if not (folder / key).resolve().is_relative_to(folder):
                raise BadReference(f"{_shown(key)} leads out of its root")
            if not (folder / key).is_file():
                raise BadReference(f"nothing lies at {_shown(f'{root}:{key}')}", "upload it first")

    def _store(self, root: str) -> Any:
        if root not in self._stores:
            address = self._addresses[root]
            parts = urlsplit(address)
            self._stores[root] = (
                LocalStore(prefix=Path(unquote(parts.path)))
                if parts.scheme == "file"
                else from_url(address)
            )
        return self._stores[root]


def _shown(text: str) -> str:
    return repr(text[:64])
