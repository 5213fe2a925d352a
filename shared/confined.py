"""Work that may crash, hang or grow without end, in a process that can be killed for it.

A template process loads the heavy libraries once and then only forks; each job runs in a fork of
its own, under a deadline and a memory limit, and dies with the service. The template is a fresh
interpreter, so that no connection, thread or secret of the service is ever copied. One fork always
waits for the next job, so that a job does not wait for its fork.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared import confined_template
from shared.confined_wire import Value, is_complete, pack, unpack
from shared.errors import TidewheelError

_IDLE_SECONDS: Final = 300.0
_GRACE_SECONDS: Final = 10.0
_START_SECONDS: Final = 120.0
_PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "LD_LIBRARY_PATH",
    "PYTHONPYCACHEPREFIX",  # compiled modules are kept: compiling them costs each template seconds
)
# One thread per library: a fork copies only the thread that calls it, and sums in one order are
# the same every time. One hash seed, so that sets keep one order.
_QUIET: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "MALLOC_ARENA_MAX": "2",
    "_RJEM_MALLOC_CONF": "background_thread:false",
    "DO_NOT_TRACK": "1",  # some libraries would report their use to their makers
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The function returned.

    Attributes:
        seconds: wall time of the job, from fork to end.
        cpu_seconds: of the job alone.
        peak_megabytes: most memory it had, libraries included.
    """

    result: Value
    seconds: float
    cpu_seconds: float
    peak_megabytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """The deadline passed; the job was killed."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory:
    """The job wanted more memory than it may have; it was stopped."""

    megabytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """The process ended without a word; `detail` holds the signal and the end of its output."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The function raised: the same argument would fail again.

    Attributes:
        kind: name of the exception's class.
        detail: what it said.
        trace: where it happened, for the log.
    """

    kind: str
    detail: str
    trace: str


Outcome = Done | TimedOut | OutOfMemory | Crashed | Failed


class TemplateLost(TidewheelError):
    """The template ended or does not answer; the next job starts another one."""


class Confined:
    """Runs functions in killable children; one template per object, started with the first job."""

    def __init__(
        self,
        preload: Sequence[str] = (),
        *,
        without: Sequence[str] = (),
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        """Nothing is started yet.

        Args:
            preload: modules that every job finds loaded, and functions `module:function` that are
                called once; neither may start a thread.
            without: libraries that the others would load when they are installed, and that no job
                needs; every page of the template makes every fork slower.
            idle_seconds: how long the template waits for another job.
        """
        self._modules = (*preload, *(f"-{name}" for name in without))
        self._idle_seconds = idle_seconds
        self._starting = asyncio.Lock()
        self._template: _Template | None = None
        self._running = 0
        self._retire: asyncio.TimerHandle | None = None

    @property
    def template_pid(self) -> int | None:
        """Process id of the template, while there is one."""
        alive = self._template is not None and self._template.alive
        return self._template.process.pid if alive and self._template else None

    async def warm(self) -> None:
        """Start the template now, so that the first job need not wait for it.

        Raises:
            TemplateLost: it cannot be started; the message says why.
        """
        await self._ready()
        self._rest()

    async def run(
        self, function: str, argument: Value = None, *, seconds: float, megabytes: int
    ) -> Outcome:
        """Call `package.module:function` with one argument, in a child of its own.

        Args:
            function: called with `argument` alone; returns plain JSON, bytes, or an object of both.
            seconds: wall time after which the child is killed.
            megabytes: what the child may take beyond the libraries that were loaded before.

        Being cancelled kills the child.
        """
        self._running += 1
        self._wake()
        try:
            template = await self._ready()
            return await template.run(function, argument, seconds, megabytes)
        except TemplateLost as error:
            return Crashed(detail=str(error))
        finally:
            self._running -= 1
            self._rest()

    async def close(self) -> None:
        """End the template and with it every job."""
        self._wake()
        if self._template is not None:
            await self._template.end()
            self._template = None

    async def _ready(self) -> "_Template":
        async with self._starting:
            if self._template is None or not self._template.alive:
                self._template = await _Template.start(self._modules)
            return self._template

    def _wake(self) -> None:
        if self._retire is not None:
            self._retire.cancel()
            self._retire = None

    def _rest(self) -> None:
        self._wake()
        if not self._running:
            loop = asyncio.get_running_loop()
            self._retire = loop.call_later(self._idle_seconds, self._end_idle)

    def _end_idle(self) -> None:
        if self._template is not None and not self._running:
            self._template.hang_up()


class _Template:
    """The service's end of the wire to the template process."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self.process = process
        self.alive = True
        self._control = control
        self._jobs: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, modules: Sequence[str]) -> "_Template":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                confined_template.__name__,
                str(theirs.fileno()),
                *modules,
                pass_fds=[theirs.fileno()],
                cwd=Path(__file__).parent.parent,
                env=_environment(),
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            raise TemplateLost(f"the template could not be started: {error}") from error
        finally:
            theirs.close()
        template = cls(process, ours)
        await template._be_ready()
        return template

    async def _be_ready(self) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                said = await self._ready
        except TimeoutError:
            said = {"error": "it did not become ready in time"}
        except asyncio.CancelledError:
            await self.end()
            raise
        if "error" in said:
            await self.end()
            raise TemplateLost(f"the template could not be started: {said['error']}")

    async def run(self, function: str, argument: Value, seconds: float, megabytes: int) -> Outcome:
        number, ended = self._enlist()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        try:
            with theirs:
                order = {
                    "job": number,
                    "function": function,
                    "seconds": seconds,
                    "megabytes": megabytes,
                }
                self._send(order, theirs)
            return await self._converse(ours, argument, ended, seconds, megabytes)
        finally:
            self._jobs.pop(number, None)
            ours.close()
            if not ended.done():
                self._send({"kill": number})

    def _enlist(self) -> tuple[int, "asyncio.Future[dict[str, Any]]"]:
        if not self.alive:
            raise TemplateLost("the template has ended")
        self._next += 1
        ended = self._jobs[self._next] = asyncio.get_running_loop().create_future()
        return self._next, ended

    async def _converse(
        self,
        wire: socket.socket,
        argument: Value,
        ended: "asyncio.Future[dict[str, Any]]",
        seconds: float,
        megabytes: int,
    ) -> Outcome:
        started = time.monotonic()
        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                answer = await _exchange(wire, argument)
                if answer is not None:
                    return _answered(answer, time.monotonic() - started, megabytes)
                return _unanswered(await ended, seconds, megabytes)
        except TimeoutError:
            # The template keeps the deadlines; when it does not, it is not to be trusted.
            await self.end()
            return TimedOut(seconds=seconds)

    def _send(self, order: dict[str, Any], passed: socket.socket | None = None) -> None:
        message = json.dumps(order).encode() + b"\n"
        descriptors = [] if passed is None else [passed.fileno()]
        try:
            socket.send_fds(self._control, [message], descriptors)
        except OSError:
            self._lost()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        buffer = b""
        with contextlib.suppress(OSError):
            while chunk := await loop.sock_recv(self._control, 65536):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))
        self._lost()
        self._control.close()

    def _hear(self, said: dict[str, Any]) -> None:
        waiting = self._ready if "ready" in said or "error" in said else self._jobs.get(said["job"])
        if waiting is not None and not waiting.done():
            waiting.set_result(said)

    def _lost(self) -> None:
        self.alive = False
        for waiting in [self._ready, *self._jobs.values()]:
            if not waiting.done():
                waiting.set_result({"error": "it ended", "lost": True})

    def hang_up(self) -> None:
        """Closing the wire is what tells the template to end."""
        self.alive = False
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    async def end(self) -> None:
        self.hang_up()
        try:
            async with asyncio.timeout(2):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await self._listening


def _environment() -> dict[str, str]:
    """Only what a library needs: the service's secrets are in its environment."""
    own = os.environ  # noqa: TID251 - handed on to a child, not read as a setting
    return {name: own[name] for name in _PASSED_ON if name in own} | _QUIET


async def _exchange(wire: socket.socket, argument: Value) -> dict[str, Any] | None:
    """Send the argument, receive the answer; None when the child ended without one."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        await loop.sock_sendall(wire, pack(argument))
    received = bytearray()
    with contextlib.suppress(OSError):
        while not is_complete(received) and (chunk := await loop.sock_recv(wire, 1 << 20)):
            received += chunk
    if not is_complete(received):
        return None
    answer: dict[str, Any] = unpack(bytes(received))
    return answer


def _answered(answer: dict[str, Any], seconds: float, megabytes: int) -> Outcome:
    match answer["said"]:
        case "done":
            return Done(
                result=answer["result"],
                seconds=seconds,
                cpu_seconds=answer["cpu_seconds"],
                peak_megabytes=answer["peak_megabytes"],
            )
        case "memory":
            return OutOfMemory(megabytes=megabytes)
        case _:
            return Failed(kind=answer["kind"], detail=answer["detail"], trace=answer["trace"])


def _unanswered(report: dict[str, Any], seconds: float, megabytes: int) -> Outcome:
    if report.get("lost"):
        return Crashed(detail="the template process ended")
    match report["killed"]:
        case "seconds":
            return TimedOut(seconds=seconds)
        case "megabytes":
            return OutOfMemory(megabytes=megabytes)
        case _:
            ending = _ending(report["status"])
            return Crashed(detail=f"{ending}; last output: {report['tail']!r}")


def _ending(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"
