"""Asks an HTTP server over kept connections, as fast as it answers, and tells how long it took.

One process, raw sockets, no parsing beyond the length of an answer: it must not be what is slow.
Each connection sends its next request when it has the answer to the last one.
"""

import asyncio
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final, cast

import numpy as np

PATIENCE_SECONDS: Final = 30.0
"""For the last answers, once no more are asked for."""


class WrongAnswer(Exception):
    """A server answered something else than 200; a measure of that would mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one server is asked: requests as bytes, which each connection sends in turn."""

    host: str
    port: int
    requests: Sequence[bytes]

    @classmethod
    def of(cls, port: int, path: str, bodies: Sequence[bytes], *, key: str = "") -> "Question":
        """POSTs of JSON to a server on this machine."""
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Content-Type: application/json",
            *([f"Authorization: Bearer {key}"] if key else []),
        ]
        head = "\r\n".join(lines)
        requests = [f"{head}\r\nContent-Length: {len(b)}\r\n\r\n".encode() + b for b in bodies]
        return cls(host="127.0.0.1", port=port, requests=requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a server did.

    Attributes:
        seconds: of each answer.
        lasted: seconds in which they came.
        busy: share of a core that asking took; near 1 the server was not the bottleneck.
    """

    seconds: Sequence[float]
    lasted: float
    busy: float

    @property
    def rps(self) -> float:
        """Answers per second."""
        return len(self.seconds) / self.lasted

    def milliseconds(self, percent: float) -> float:
        """A percentile of the latencies."""
        return float(np.percentile(self.seconds, percent)) * 1e3


@dataclass(slots=True)
class _Course:
    """One measure as it goes on."""

    question: Question
    ends_at: float
    done: "asyncio.Future[None]"
    open: int
    seconds: list[float] = field(default_factory=list)

    def leave(self, error: Exception | None) -> None:
        self.open -= 1
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        elif self.open == 0:
            self.done.set_result(None)


class _Connection(asyncio.Protocol):
    def __init__(self, course: _Course) -> None:
        self._course = course
        self._requests = cycle(course.question.requests)
        self._missing = -1
        self._head = b""
        self._asked_at = 0.0
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_over:
            self._end(exc or WrongAnswer("the server closed a connection"))

    def _ask(self) -> None:
        self._asked_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._head.startswith(b"HTTP/1.1 200"):
                self._end(WrongAnswer(self._head[:600].decode("latin-1")))
                return
            self._missing = _length(self._head[:end]) - (len(self._head) - end - 4)
            self._head = b""
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self._answered()

    def _answered(self) -> None:
        now = time.perf_counter()
        self._missing = -1
        self._course.seconds.append(now - self._asked_at)
        if now < self._course.ends_at:
            self._ask()
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        self._is_over = True
        self._transport.close()
        self._course.leave(error)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise WrongAnswer("an answer without a length")


async def ask(question: Question, *, connections: int, seconds: float) -> Load:
    """Ask over so many connections for so long.

    Raises:
        WrongAnswer: the server did not answer 200, or closed a connection.
    """
    loop = asyncio.get_running_loop()
    before = _processor_seconds()
    began = time.perf_counter()
    course = _Course(question, began + seconds, loop.create_future(), connections)
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(course), question.host, question.port)
    async with asyncio.timeout(seconds + PATIENCE_SECONDS):
        await course.done
    lasted = time.perf_counter() - began
    busy = (_processor_seconds() - before) / lasted
    return Load(seconds=course.seconds, lasted=lasted, busy=busy)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
