"""Who may do what: principals from hashed API keys, and the roles they hold.

The file of keys is read again when it changes; it holds hashes only, so reading it lets nobody in.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import orjson

from shared import telemetry


class Role(StrEnum):
    """What a principal may do. `admin` may do everything."""

    VIEWER = "viewer"
    PRODUCER = "producer"
    PREDICTOR = "predictor"
    DATA_SCIENTIST = "data_scientist"
    APPROVER = "approver"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"


ANYBODY: Final = frozenset(Role)
"""Every role: for reading what any principal may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who has shown a key."""

    name: str
    key: str
    roles: frozenset[Role]
    teams: frozenset[str]

    def may(self, roles: frozenset[Role]) -> bool:
        """Whether one of these roles is held."""
        return Role.ADMIN in self.roles or bool(self.roles & roles)


def hash_of(key: str) -> str:
    """What the file of keys holds of a key. A 256-bit random key needs no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """The file of hashed keys, looked at again at most every second."""

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._principals: Mapping[str, Principal] = {}
        self._read_state: tuple[int, int] | None = None
        self._looked_at = float("-inf")

    def principal(self, key: str) -> Principal | None:
        """Who holds this key, if anybody."""
        self._refresh()
        wanted = hash_of(key)
        found = self._principals.get(wanted)
        return found if found and hmac.compare_digest(hash_of(key), wanted) else None

    def _refresh(self) -> None:
        now = self._monotonic()
        if now - self._looked_at < 1:
            return
        self._looked_at = now
        try:
            status = self._path.stat()
            state = (status.st_mtime_ns, status.st_ino)
            if state != self._read_state:
                self._principals = read_keys(self._path.read_bytes())
                self._read_state = state
        except (OSError, ValueError) as error:
            # The keys already known stay good: a half-written file must not lock everybody out.
            telemetry.log("keys_not_read", level="error", path=str(self._path), error=str(error))


def read_keys(data: bytes) -> Mapping[str, Principal]:
    """Principals by the hash of their key.

    Raises:
        ValueError: the file is not what `make up` writes.
    """
    document = orjson.loads(data)
    try:
        return {entry["hash"]: _principal(entry) for entry in document["keys"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"the file of keys has a wrong form: {error}") from error


def _principal(entry: Mapping[str, object]) -> Principal:
    roles, teams = entry["roles"], entry.get("teams", ["*"])
    if not isinstance(roles, list) or not isinstance(teams, list):
        raise TypeError("roles and teams are lists")
    return Principal(
        name=str(entry["principal"]),
        key=str(entry["id"]),
        roles=frozenset(Role(role) for role in roles),
        teams=frozenset(str(team) for team in teams),
    )
