"""The log as a chain: whether a row of it was altered, removed, put in, moved, or cut off.

Every link is the SHA-256 of the link before it and of the canonical text of its row. Heads of the
chain were told to others from time to time; those anchors find what whoever owns the database could
hide by computing the whole chain anew.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

GENESIS: Final = "0" * 64
"""What comes before the first link."""

_MOST_FAULTS: Final = 100
"""Faults that are kept; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One row of the log with its link.

    Attributes:
        position: of the row in the log; rises, with gaps.
        row: canonical text; None when a link has lost its row.
        chain: 64 hexadecimal digits; None when a row has no link.
    """

    position: int
    row: str | None
    chain: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The head that the chain had once, as somebody else remembers it."""

    position: int
    chain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where the log is not what it was."""

    position: int
    what: Literal["altered", "removed", "unlinked", "moved", "anchor", "cut"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What came of a verification; `faults` holds the first hundred of `found`."""

    rows: int
    anchors: int
    head: Anchor | None
    faults: tuple[Fault, ...]
    found: int

    @property
    def is_whole(self) -> bool:
        """Whether every row is what it was when it was told."""
        return not self.found


def link_of(previous: str, row: str) -> str:
    """The link of a row behind a link: `sha256(previous || row)`, both as bytes."""
    return hashlib.sha256(bytes.fromhex(previous) + row.encode()).hexdigest()


@dataclass(slots=True)
class Verification:
    """Goes along a chain once, link by link, in bounded memory."""

    anchors: Iterable[Anchor]
    rows: int = 0
    _previous: str = GENESIS
    _position: int = 0
    _faults: list[Fault] = field(default_factory=list)
    _found: int = 0
    _wanted: dict[int, set[str]] = field(default_factory=dict)
    _met: int = 0

    def __post_init__(self) -> None:
        for anchor in self.anchors:
            self._wanted.setdefault(anchor.position, set()).add(anchor.chain)

    def take(self, link: Link) -> None:
        """Look at the next link."""
        self.rows += 1
        if link.position <= self._position:
            self._fault(link.position, "moved", f"it comes after position {self._position}")
        self._position = link.position
        self._compare(link)
        self._previous = link.chain or self._previous
        self._anchor(link.position)

    def end(self) -> Verified:
        """What came of it, once there are no more links."""
        for position in sorted(self._wanted):
            self._fault(position, "cut", "an anchor names this row, and it is not there")
        head = Anchor(position=self._position, chain=self._previous) if self.rows else None
        return Verified(
            rows=self.rows,
            anchors=self._met,
            head=head,
            faults=tuple(self._faults),
            found=self._found,
        )

    def _compare(self, link: Link) -> None:
        if link.row is None:
            self._fault(link.position, "removed", "its link is there and the row is not")
        elif link.chain is None:
            self._fault(link.position, "unlinked", "the row was put in without a link")
        elif link_of(self._previous, link.row) != link.chain:
            detail = "the row, its link, or the one before it is not what it was"
            self._fault(link.position, "altered", detail)

    def _anchor(self, position: int) -> None:
        """An anchor may be told twice; told differently, one of the two is not ours."""
        for chain in self._wanted.pop(position, ()):
            self._met += 1
            if chain != self._previous:
                detail = f"the anchor says {chain[:12]}…, the chain {self._previous[:12]}…"
                self._fault(position, "anchor", detail)

    def _fault(
        self,
        position: int,
        what: Literal["altered", "removed", "unlinked", "moved", "anchor", "cut"],
        detail: str,
    ) -> None:
        self._found += 1
        if len(self._faults) < _MOST_FAULTS:
            self._faults.append(Fault(position=position, what=what, detail=detail))


def verify(links: Iterable[Link], anchors: Iterable[Anchor]) -> Verified:
    """Whether a whole log is what it was when its anchors were told."""
    verification = Verification(anchors)
    for link in links:
        verification.take(link)
    return verification.end()
