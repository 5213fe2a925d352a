"""Which versions are being asked at this moment, on disk, so that the next process knows it.

A version may take the whole process with it: no code of ours runs then, and the process that comes
after would ask it again and die again. What was being asked when a process ended without order is
found here by the next one. Once may be chance, a kill from outside; a version that was being asked
at two such ends in a row is not to be asked as before.
"""

import mmap
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from shared.events import Digest

SLOTS: Final = 64
_WIDTH: Final = 64
"""Bytes of a digest; a slot of zeros is free."""
_FREE: Final = bytes(_WIDTH)
P = ParamSpec("P")
T = TypeVar("T")


class Asking:
    """The questions under way, each in a slot. Writing one down costs less than a microsecond."""

    def __init__(self, folder: Path) -> None:
        self._died = folder / "died"
        self._died.mkdir(exist_ok=True, mode=0o700)
        handle = os.open(folder / "asking", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, SLOTS * _WIDTH)
            self._slots = mmap.mmap(handle, SLOTS * _WIDTH)
        finally:
            os.close(handle)
        self._free: deque[int] = deque(range(SLOTS))
        self.suspects = self._taken_over()

    def _taken_over(self) -> frozenset[Digest]:
        """Note whom the last process was asking when it ended; those noted twice are suspects."""
        found = {bytes(self._slots[i * _WIDTH : (i + 1) * _WIDTH]) for i in range(SLOTS)}
        for name in (slot.decode("ascii", "replace") for slot in found - {_FREE}):
            if name.isalnum():
                with (self._died / name).open("ab") as marks:
                    marks.write(b"x")
        self.clear()
        return frozenset(
            Digest(mark.name) for mark in self._died.iterdir() if mark.stat().st_size > 1
        )

    def noted(self, digest: Digest, say: Callable[P, T]) -> Callable[P, T]:
        """The same function, which is noted here while it runs."""
        name = digest.encode("ascii")[:_WIDTH].ljust(_WIDTH, b"\0")

        def asked(*given: P.args, **named: P.kwargs) -> T:
            try:
                start = self._free.pop() * _WIDTH
            except IndexError:
                return say(*given, **named)
            self._slots[start : start + _WIDTH] = name
            try:
                return say(*given, **named)
            finally:
                self._slots[start : start + _WIDTH] = _FREE
                self._free.append(start // _WIDTH)

        return asked

    def forgive(self) -> None:
        """This process has lived long enough: earlier ends say nothing any more."""
        for mark in self._died.iterdir():
            mark.unlink(missing_ok=True)

    def clear(self) -> None:
        """An end in order: what is still being asked is not to blame for it."""
        self._slots[:] = bytes(SLOTS * _WIDTH)
