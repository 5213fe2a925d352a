"""Who may do what: principals, the roles that they hold in teams, and the file that says so.

The file is read again when it changes. It holds hashes of keys only, so reading it lets nobody in.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import orjson

from shared import clock, telemetry
from shared.errors import NotFound, NotPermitted

T = TypeVar("T")


class Role(StrEnum):
    """What a principal may do. `admin` may do everything in its teams."""

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

EVERY_TEAM: Final = "*"
"""Roles granted for this team are held in all of them."""

Grants = Mapping[str, frozenset[Role]]
"""The roles that are held, by team."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something may be done: so many at once, and so many per second from then on."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who has shown who it is.

    Attributes:
        name: the same whatever key or token was shown; approvals compare it.
        key: which key, or `token`; for logs.
        rate: how often it may ask for predictions; None where its entry says nothing.
    """

    name: str
    key: str
    grants: Grants
    rate: Rate | None = None

    @property
    def roles(self) -> frozenset[Role]:
        """Every role that is held in some team."""
        return frozenset[Role]().union(*self.grants.values())

    @property
    def teams(self) -> frozenset[str]:
        """The teams in which a role is held."""
        return frozenset(team for team, roles in self.grants.items() if roles)

    @property
    def visible(self) -> list[str] | None:
        """The owners whose things may be seen; None for all of them. For queries."""
        return None if EVERY_TEAM in self.teams else sorted(self.teams)

    def may(self, roles: frozenset[Role]) -> bool:
        """Whether one of these roles is held in some team."""
        return any(_suffices(held, roles) for held in self.grants.values())

    def may_in(self, owner: str, roles: frozenset[Role]) -> bool:
        """Whether one of these roles is held in this team; nobody's things need all teams."""
        held = self.grants.get(EVERY_TEAM, frozenset())
        if owner and owner != EVERY_TEAM:
            held |= self.grants.get(owner, frozenset())
        return _suffices(held, roles)

    def may_see(self, owner: str) -> bool:
        """Whether any role is held in this team."""
        return self.may_in(owner, ANYBODY)


def _suffices(held: frozenset[Role], roles: frozenset[Role]) -> bool:
    return Role.ADMIN in held or bool(held & roles)


NOTHING: Final = "There is no such thing, or you may not see it."


def see(principal: Principal, owner: str | None, detail: str = NOTHING) -> None:
    """Go on only when the team's things may be seen; None is the owner of what does not exist.

    Raises:
        NotFound: they may not, or there is nothing; the answer is the same.
    """
    if owner is None or not principal.may_see(owner):
        raise NotFound(detail)


def act(
    principal: Principal, owner: str | None, roles: frozenset[Role], detail: str = NOTHING
) -> None:
    """Go on only when one of the roles is held in the team.

    Raises:
        NotFound: the team's things may not even be seen.
        NotPermitted: they may be seen and no more.
    """
    see(principal, owner, detail)
    if not principal.may_in(owner or "", roles):
        raise NotPermitted(f"In team {owner} this needs {words_of(roles)}.")


def words_of(roles: Iterable[Role]) -> str:
    """As in: the role viewer; one of the roles admin, viewer."""
    names = sorted(roles)
    return f"the role {names[0]}" if len(names) == 1 else f"one of the roles {', '.join(names)}"


def hash_of(key: str) -> str:
    """What the file of keys holds of a key. A 256-bit random key needs no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


class Watched(Generic[T]):
    """What a file says, looked at again at most every second; the last good reading stays."""

    def __init__(
        self,
        path: Path,
        read: Callable[[bytes], T],
        nothing: T,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._read = read
        self._monotonic = monotonic
        self._value = nothing
        self._read_state: tuple[int, int, int] | None = None
        self._looked_at = float("-inf")

    def value(self) -> T:
        """What the file says now, or said when it could last be read."""
        now = self._monotonic()
        if now - self._looked_at >= 1:
            self._looked_at = now
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            status = self._path.stat()
            state = (status.st_mtime_ns, status.st_ino, status.st_size)
            if state != self._read_state:
                self._value = self._read(self._path.read_bytes())
                self._read_state = state
        except (OSError, ValueError) as error:
            # What is known stays good: a half-written file must not lock everybody out.
            telemetry.log("keys_not_read", level="error", path=str(self._path), error=str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key or a person of the file, and until when it counts."""

    principal: Principal
    hash: str = ""
    subject: str = ""
    expires: datetime | None = None

    def counts(self, now: datetime) -> bool:
        """Whether it has not expired yet."""
        return self.expires is None or now < self.expires


@dataclass(frozen=True, slots=True)
class AccessFile:
    """What the file of keys says, without whatever was revoked."""

    keys: Mapping[str, Sequence[Credential]] = field(default_factory=dict)
    """By the first half of their hash; the rest is compared in constant time."""
    people: Mapping[str, Credential] = field(default_factory=dict)
    """By the subject that the issuer of tokens knows them by."""


class Keys:
    """The principals of the file, by the key that they show, or by what a token says they are."""

    def __init__(
        self,
        path: Path,
        monotonic: Callable[[], float] = time.monotonic,
        now: clock.Clock = clock.now,
    ) -> None:
        self._file = Watched(path, read_keys, AccessFile(), monotonic)
        self._now = now

    def principal(self, key: str) -> Principal | None:
        """Who holds this key, if anybody."""
        shown = hash_of(key)
        found = None
        for credential in self._file.value().keys.get(shown[:_HALF], ()):
            if hmac.compare_digest(credential.hash, shown):
                found = credential
        if found is None or (found.expires is not None and not found.counts(self._now())):
            return None
        return found.principal

    def person(self, subject: str) -> Principal | None:
        """Who the issuer of tokens calls so, if anybody."""
        found = self._file.value().people.get(subject)
        return found.principal if found and found.counts(self._now()) else None

    def named(self, name: str) -> Principal | None:
        """The principal of this name with all that its keys and its entry as a person grant.

        For requests on the bus: whoever signed them has seen the credential itself.
        """
        file, now = self._file.value(), self._now()
        known = [one for bucket in file.keys.values() for one in bucket] + list(
            file.people.values()
        )
        mine = [one.principal for one in known if one.principal.name == name and one.counts(now)]
        if not mine:
            return None
        grants = joined(one.grants for one in mine)
        return Principal(name=name, key="by name", grants=grants)


_HALF: Final = 32


def joined(several: Iterable[Grants]) -> Grants:
    """All that several grants give together."""
    together: dict[str, frozenset[Role]] = {}
    for grants in several:
        for team, roles in grants.items():
            together[team] = together.get(team, frozenset()) | roles
    return together


def read_keys(data: bytes) -> AccessFile:
    """The keys and the people that a file names.

    Raises:
        ValueError: the file is not what `make up` writes.
    """
    document = orjson.loads(data)
    try:
        keys = [_credential(entry, entry["id"]) for entry in _current(document["keys"])]
        people = [_credential(entry, "token") for entry in _current(document.get("people", []))]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the file of keys has a wrong form: {error}") from error
    if any(len(key.hash) != 2 * _HALF for key in keys) or any(not one.subject for one in people):
        raise ValueError("the file of keys has an entry without a hash or a subject")
    buckets: dict[str, list[Credential]] = {}
    for key in keys:
        buckets.setdefault(key.hash[:_HALF], []).append(key)
    return AccessFile(buckets, {person.subject: person for person in people})


def _current(entries: Any) -> list[Mapping[str, Any]]:
    if not isinstance(entries, list):
        raise TypeError("keys and people are lists")
    return [entry for entry in entries if entry.get("revoked", False) is False]


def _credential(entry: Mapping[str, Any], key: str) -> Credential:
    return Credential(
        principal=Principal(
            name=str(entry["principal"]),
            key=str(key),
            grants=_grants(entry),
            rate=_rate(entry.get("rate")),
        ),
        hash=str(entry.get("hash", "")),
        subject=str(entry.get("subject", "")),
        expires=moment_of(entry.get("expires")),
    )


def _grants(entry: Mapping[str, Any]) -> Grants:
    """`roles` hold in each of `teams`; `grants` name a team and its roles one by one."""
    pairs = [(team, entry.get("roles", [])) for team in entry.get("teams", [EVERY_TEAM])]
    pairs += [(grant["team"], grant["roles"]) for grant in entry.get("grants", [])]
    if "roles" not in entry and "grants" not in entry:
        raise TypeError("an entry has roles or grants")
    if any(not isinstance(roles, list) for _, roles in pairs):
        raise TypeError("roles are lists")
    if not isinstance(entry.get("teams", []), list):
        raise TypeError("teams are a list")
    return joined({str(team): frozenset(map(Role, roles))} for team, roles in pairs if roles)


def _rate(given: Any) -> Rate | None:
    """`{"per_second": 100, "burst": 200}`; the burst is that of two seconds where nothing is said.

    Raises:
        ValueError: these are no positive numbers.
    """
    if given is None:
        return None
    per_second = float(given["per_second"])
    burst = float(given.get("burst", max(1.0, 2 * per_second)))
    if not (0 < per_second < inf and 1 <= burst < inf):
        raise ValueError("a rate has a positive `per_second` and a `burst` of at least 1")
    return Rate(per_second=per_second, burst=burst)


def moment_of(text: Any) -> datetime | None:
    """A moment of the file, with its offset from UTC.

    Raises:
        ValueError: it is none, or does not say its offset.
    """
    if text is None:
        return None
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError(f"{text} lacks its offset from UTC; write {text}Z")
    return moment
