"""Rows in files that only grow at their end: one write per answer, read in order, deleted whole.

A file (a segment) is closed when it is large or old enough, and deleted once all of its rows are
acknowledged. Segments that hold rows whose log is required say so in their name: these are never
given up because of their age.
"""

import os
import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from services.serving.store.records import next_record, packed, record_at
from shared import telemetry
from shared.clock import Clock
from shared.errors import StoreUnavailable

CHUNK_BYTES: Final = 256 * 1024
_NAME: Final = re.compile(r"([0-9]{20})(-required)?\.rows")


@dataclass(slots=True, kw_only=True)
class Segment:
    """A file of rows.

    Attributes:
        first: number of its first row.
        is_required: whether it may hold rows that must not be given up.
        began_at: when it was made, in seconds of the clock of this process's `now`.
        last_at: when it was last written.
    """

    first: int
    path: Path
    is_required: bool
    size_bytes: int
    began_at: float
    last_at: float


class Journal:
    """The segments of one folder; one process writes, and reads what it has written."""

    def __init__(
        self, folder: Path, *, segment_bytes: int, segment_seconds: float, now: Clock
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._now = now
        self._file: int | None = None
        self._written: list[int] = []
        self.segments = sorted(_found_in(folder), key=_first)
        self.next = self._mended_end()
        self.size_bytes = sum(segment.size_bytes for segment in self.segments)

    def close(self) -> None:
        """Let go of the files."""
        self.rotate()
        for handle in self.taken_handles():
            os.close(handle)

    # --- adding

    def append(self, rows: Sequence[bytes], *, is_required: bool = False) -> None:
        """Add the rows of one answer, all or none.

        Raises:
            StoreUnavailable: the disk does not take them.
        """
        data = packed(rows, self.next)
        try:
            segment, file = self._open_segment(is_required=is_required)
            written = os.write(file, data)
        except OSError as error:
            self._cut_back()
            raise StoreUnavailable(f"the spool cannot be written: {error}") from error
        if written != len(data):
            self._cut_back()
            raise StoreUnavailable("the spool took a part only; the disk is full")
        segment.size_bytes += written
        segment.last_at = self._now().timestamp()
        self.size_bytes += written
        self.next += len(rows)

    def _open_segment(self, *, is_required: bool) -> tuple[Segment, int]:
        if self._file is not None:
            current = self.segments[-1]
            is_young = self._now().timestamp() - current.began_at < self._segment_seconds
            is_fit = current.is_required or not is_required
            if is_young and is_fit and current.size_bytes < self._segment_bytes:
                return current, self._file
            self.rotate()
        return self._new_segment(is_required=is_required)

    def _new_segment(self, *, is_required: bool) -> tuple[Segment, int]:
        name = f"{self.next:020d}{'-required' if is_required else ''}.rows"
        path = self._folder / name
        while self.segments and self.segments[-1].first == self.next:
            self._remove(self.segments[-1])  # one without any whole record
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
        moment = self._now().timestamp()
        segment = Segment(
            first=self.next,
            path=path,
            is_required=is_required,
            size_bytes=0,
            began_at=moment,
            last_at=moment,
        )
        self.segments.append(segment)
        self._file = file
        return segment, file

    def _cut_back(self) -> None:
        """Half a record must not stand between whole ones."""
        if self._file is None:
            return
        try:
            os.ftruncate(self._file, self.segments[-1].size_bytes)
        except OSError:
            self.rotate()

    def rotate(self) -> None:
        """The next rows begin a new segment."""
        if self._file is not None:
            self._written.append(self._file)
            self._file = None

    def taken_handles(self) -> list[int]:
        """Handles of what was written and may not be on the disk yet; the caller closes them."""
        taken, self._written = self._written, []
        file = self._file  # another thread may rotate meanwhile; the handle stays open
        if file is not None:
            taken.append(os.dup(file))
        return taken

    def sync(self) -> None:
        """Bring the newest rows to the disk now."""
        if self._file is not None:
            os.fdatasync(self._file)

    # --- removing

    def forget(self, before: int, *, also_open: bool = False) -> None:
        """Delete segments whose rows are all numbered below.

        Args:
            also_open: also the one that is being written.
        """
        while self.segments and self.end_of(self.segments[0]) <= before:
            if len(self.segments) == 1:
                if not also_open:
                    return
                self.rotate()
            self._remove(self.segments[0])

    def end_of(self, segment: Segment) -> int:
        """The number after the last one of a segment."""
        place = bisect_right(self.segments, segment.first, key=_first)
        return self.segments[place].first if place < len(self.segments) else self.next

    def remove(self, segment: Segment) -> None:
        """Delete a segment, whatever is in it."""
        if segment is self.segments[-1]:
            self.rotate()
        self._remove(segment)

    def _remove(self, segment: Segment) -> None:
        self.segments.remove(segment)
        self.size_bytes -= segment.size_bytes
        segment.path.unlink(missing_ok=True)

    # --- opening

    def _mended_end(self) -> int:
        """The next number; what stands behind the last whole record was never answered."""
        if not self.segments:
            return 0
        last = self.segments[-1]
        data = _read(last.path, 0, last.size_bytes)
        end, number, offset = 0, last.first, 0
        while True:
            record, _ = next_record(data, offset)
            if record is None:
                break
            end = offset = record.end
            number = record.first + len(record.rows)
        if end < last.size_bytes:
            telemetry.log(
                "spool_end_cut", level="warning", file=last.path.name, bytes=last.size_bytes - end
            )
            with suppress(OSError):
                os.truncate(last.path, end)
        last.size_bytes = end
        return number


def _found_in(folder: Path) -> list[Segment]:
    found = []
    for path in folder.iterdir():
        named = _NAME.fullmatch(path.name)
        if named:
            seen = path.stat()
            found.append(
                Segment(
                    first=int(named[1]),
                    path=path,
                    is_required=named[2] is not None,
                    size_bytes=seen.st_size,
                    began_at=seen.st_mtime,
                    last_at=seen.st_mtime,
                )
            )
    return found


def _read(path: Path, offset: int, size: int) -> bytes:
    """Bytes of a file, fewer where it has no more or cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        telemetry.log("segment_not_read", level="error", file=path.name, reason=str(error))
        return b""
    try:
        return os.pread(handle, size, offset)
    except OSError as error:
        telemetry.log("segment_not_read", level="error", file=path.name, reason=str(error))
        return b""
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Rows from one number up to, without, another; fewer than that where some are lost."""

    first: int
    next: int
    rows: list[bytes]

    @property
    def missing(self) -> int:
        """Rows between the two numbers that are in no file any more."""
        return self.next - self.first - len(self.rows)


class Reader:
    """Reads the rows of a journal in their order, from a number on."""

    def __init__(self, journal: Journal, position: int) -> None:
        self._journal = journal
        self.position = position
        self._ahead: deque[tuple[int, bytes]] = deque()
        place = bisect_right(journal.segments, position, key=_first)
        self._first = journal.segments[place - 1].first if place else 0
        self._offset = 0

    def peek(self, most_rows: int, most_bytes: int, *, before: int | None = None) -> Taken:
        """The next rows, without going on behind them.

        Args:
            most_bytes: of all rows together, unless the first one alone has more.
            before: a number to stop at.
        """
        while len(self._ahead) < most_rows and (segment := self._readable()) is not None:
            self._read_on(segment)
        end = self._journal.next if before is None else before
        rows: list[bytes] = []
        size, following = 0, self.position
        for number, row in islice(self._ahead, most_rows):
            size += len(row)
            if number >= end or (rows and size > most_bytes):
                return Taken(first=self.position, next=min(number, end), rows=rows)
            rows.append(row)
            following = number + 1
        # What is missing at the very end is missing for good.
        is_all = len(rows) == len(self._ahead) and self._readable() is None
        return Taken(first=self.position, next=end if is_all else following, rows=rows)

    def advance(self, position: int) -> None:
        """Go on from this number."""
        self.position = max(self.position, position)
        while self._ahead and self._ahead[0][0] < self.position:
            self._ahead.popleft()

    def _readable(self) -> Segment | None:
        """The segment to read on in: ours, or the next one where it is read, or gone."""
        segments = self._journal.segments
        for segment in segments[bisect_left(segments, self._first, key=_first) :]:
            if segment.first != self._first:
                self._first, self._offset = segment.first, 0
            if self._offset < segment.size_bytes:
                return segment
        return None

    def _read_on(self, segment: Segment) -> None:
        left = segment.size_bytes - self._offset
        data = _read(segment.path, self._offset, min(CHUNK_BYTES, left))
        offset = self._take_whole(data)
        if offset == 0:  # no whole record: a larger one, or damage
            data = _read(segment.path, self._offset, left)
            offset = self._take_whole(data)
        if offset == 0:
            record, offset = next_record(data, 1)
            offset = left if record is None else offset
            telemetry.log(
                "segment_damaged", level="error", file=segment.path.name, bytes_skipped=offset
            )
        self._offset += offset

    def _take_whole(self, data: bytes) -> int:
        """Take records as far as they are whole; where the first other byte is."""
        offset = 0
        while (record := record_at(data, offset)) is not None:
            for number, row in enumerate(record.rows, record.first):
                if number >= self.position:
                    self._ahead.append((number, row))
            offset = record.end
        return offset


def _first(segment: Segment) -> int:
    return segment.first
