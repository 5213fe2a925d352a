"""Records whose headers have names that are no text, made readable.

Kafka asks for UTF-8 there and no broker checks it. aiokafka raises in the middle of a poll: what it
had taken from other partitions is lost, and its own partition never moves again. So one record of
anybody who may write to a topic would stop all of its readers.
"""

from collections.abc import Iterator
from itertools import islice
from struct import unpack_from
from typing import Any, Final

import aiokafka.consumer.fetcher as fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

LENGTH_AT: Final = 8
LENGTH_END: Final = 12
FIRST_MAGIC: Final = 2
"""Older batches have no headers."""


def install() -> None:
    """Let every consumer of this process read them, Faust's too."""
    fetcher.MemoryRecords = Batches


class Batches:
    """The batches of one answer of the broker, with the interface that the fetcher asks for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._batches: Any = MemoryRecords(data)
        self._taken = 0

    def has_next(self) -> bool:
        """Whether a whole batch is left."""
        return bool(self._batches.has_next())

    def size_in_bytes(self) -> int:
        """Of all of them together."""
        return int(self._batches.size_in_bytes())

    def next_batch(self) -> "Batch":
        """The next one."""
        self._taken += 1
        return Batch(self._batches.next_batch(), self._data, self._taken - 1)


class Batch:
    """A batch that goes on with the patient parser where the fast one gives up."""

    def __init__(self, batch: Any, data: bytes, place: int) -> None:
        self._batch = batch
        self._data = data
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                yield record
                read += 1
        except (CorruptRecordException, UnicodeDecodeError):
            if self._batch.magic < FIRST_MAGIC:
                raise
            yield from islice(self._patiently(), read, None)

    def _patiently(self) -> Iterator[Any]:
        batch: Any = _DefaultRecordBatchPy(_slice_of(self._data, self._place))
        batch._maybe_uncompress()  # noqa: SLF001 - the bytes are replaced before they are read
        batch._buffer = _Names(batch._buffer)  # noqa: SLF001
        return iter(batch)


class _Names(bytearray):
    """Bytes that decode whatever they are."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Names(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "") -> str:
        return super().decode(encoding, "replace")


def _slice_of(data: bytes, place: int) -> memoryview:
    """The bytes of one batch: each begins with an offset and the length of what follows."""
    begin = 0
    for _ in range(place):
        begin += LENGTH_END + int(unpack_from(">i", data, begin + LENGTH_AT)[0])
    end = begin + LENGTH_END + int(unpack_from(">i", data, begin + LENGTH_AT)[0])
    return memoryview(data)[begin:end]
