"""The chain of the log, computed here from the rows themselves: no service's word is taken for it.

Every row comes as its canonical text, a JSON array that begins with its position, and with its
link: the SHA-256 of the link before it and of that text. The first link stands on 32 zero bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

GENESIS: Final = bytes(32)
_MOST_FAULTS: Final = 20


@dataclass(slots=True)
class Chain:
    """Goes along the streamed lines once.

    Attributes:
        known: heads that the caller noted earlier, as (position, link).
        served: the service's own verdict, once it came.
    """

    known: Iterable[tuple[int, str]] = ()
    rows: int = 0
    position: int = 0
    anchors: int = 0
    head: bytes = GENESIS
    faults: list[str] = field(default_factory=list)
    found: int = 0
    served: Mapping[str, Any] | None = None
    _wanted: dict[int, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for position, link in self.known:
            self._want(position, link)

    def feed(self, line: Mapping[str, Any]) -> None:
        """Take the next line of the stream."""
        match line.get("kind"):
            case "anchor":
                self._want(int(line["position"]), str(line["chain"]))
            case "row":
                self._row(int(line["position"]), line.get("row"), line.get("chain"))
            case "verdict":
                self._end(line)

    @property
    def is_whole(self) -> bool:
        """Whether every row is what it was, as far as rows and anchors tell."""
        return not self.found

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "whole": self.is_whole,
            "rows": self.rows,
            "anchors": self.anchors,
            "head": {"position": self.position, "chain": self.head.hex()},
            "faults": self.faults,
            "found": self.found,
        }

    def _want(self, position: int, link: str) -> None:
        self._wanted.setdefault(position, set()).add(link)

    def _row(self, position: int, row: str | None, link: str | None) -> None:
        self.rows += 1
        if position <= self.position:
            self._fault(position, f"comes after position {self.position}")
        self.position = position
        if row is None:
            self._fault(position, "is gone, and its link is left")
        elif link is None:
            self._fault(position, "was put in without a link")
        else:
            self._compare(position, row, link)
        self.head = _bytes(link) or self.head
        self._anchor(position)

    def _compare(self, position: int, row: str, link: str) -> None:
        if hashlib.sha256(self.head + row.encode()).hexdigest() != link:
            self._fault(position, "does not fit its link: it, or the row before it, was changed")
        if _position_in(row) != position:
            self._fault(position, "names another position in its own text")

    def _anchor(self, position: int) -> None:
        for link in self._wanted.pop(position, ()):
            self.anchors += 1
            if link != self.head.hex():
                self._fault(position, f"was anchored as {link[:12]}…, and is another now")

    def _end(self, served: Mapping[str, Any]) -> None:
        for position in sorted(self._wanted):
            self._fault(position, "was anchored, and is not there")
        self.served = served
        if served.get("rows") != self.rows:
            self._fault(self.position, f"is row {self.rows} of {served.get('rows')} that are told")

    def _fault(self, position: int, what: str) -> None:
        self.found += 1
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(f"position {position} {what}")


def _bytes(link: str | None) -> bytes | None:
    try:
        return bytes.fromhex(link) if link else None
    except ValueError:
        return None


def _position_in(row: str) -> Any:
    try:
        told = json.loads(row)
    except ValueError:
        return None
    return told[0] if isinstance(told, list) and told else None
