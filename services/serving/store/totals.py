"""Numbers that survive kill -9 and cost no write: a page of a file that lies in memory."""

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from shared import telemetry

_MARK: Final = b"twtotal1"
_PAGE: Final = 4096
_NUMBER: Final = struct.Struct("<Q")
_NEXT: Final = len(_MARK)
_UNKEPT: Final = _NEXT + _NUMBER.size


class Totals:
    """The number of the next row, and how many rows were answered while nothing could be kept."""

    def __init__(self, path: Path) -> None:
        self._page = _page_of(path)
        if self._page[: len(_MARK)] != _MARK:
            self._page[:_PAGE] = _MARK.ljust(_PAGE, b"\x00")

    def close(self) -> None:
        """Give the page back; the file keeps it."""
        if isinstance(self._page, mmap.mmap):
            self._page.close()

    @property
    def next(self) -> int:
        """The number of the next row; 0 where none was ever kept."""
        return self._read(_NEXT)

    def set_next(self, number: int) -> None:
        """Remember how far rows are numbered."""
        _NUMBER.pack_into(self._page, _NEXT, number)

    @property
    def unkept(self) -> int:
        """Rows that were answered and not kept, ever."""
        return self._read(_UNKEPT)

    def add_unkept(self, rows: int) -> None:
        """Rows were answered and not kept."""
        _NUMBER.pack_into(self._page, _UNKEPT, self.unkept + rows)

    def _read(self, place: int) -> int:
        return int(_NUMBER.unpack_from(self._page, place)[0])


def _page_of(path: Path) -> mmap.mmap | bytearray:
    """The page; one of this process alone where the disk has no room for it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Given its blocks now: a page without any would end the process when it is written.
            os.posix_fallocate(handle, 0, _PAGE)
            return mmap.mmap(handle, _PAGE)
        finally:
            os.close(handle)
    except OSError as error:
        telemetry.log("totals_not_kept", level="error", reason=str(error))
        return bytearray(_PAGE)
