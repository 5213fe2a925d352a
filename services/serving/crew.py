"""Several workers on one machine: one address, one folder of artifacts, and a replica each.

The process that was started binds the address and only watches. Each worker is a fork of it that
answers on the same socket, with a folder, a name and a door for metrics of its own, as if it stood
on a machine of its own. Number 0 uses the folder and the name that the settings give, so that one
worker more or less moves nothing. Who connects is answered by whichever worker is free.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from services.serving.domain.rates import PAGE_BYTES
from services.serving.settings import Settings
from services.serving.store.disk import Disk, DiskRefused
from services.serving.store.spool import Spool
from services.serving.worker import Sender
from shared import clock, running, telemetry
from shared.broker import Publisher

QUEUE: Final = 2048
"""Connections that the system keeps for workers that are busy."""
STOP_SECONDS: Final = 12.0
"""Workers end within ten seconds; what is still there then is killed."""
STEADY_SECONDS: Final = 10.0
"""A worker that has lived so long is started again at once when it dies."""
MOST_PAUSE_SECONDS: Final = 5.0
REFUSED: Final = 78
"""Exit code of a worker that cannot use its settings or its folder."""
MOST_REFUSALS: Final = 6
_DIES_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG
_WATCHED: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True, kw_only=True)
class _Worker:
    """One place in the crew, and the process that fills it.

    Attributes:
        failures: deaths in a row, each soon after its start.
        due: when it is started again, while nobody fills the place.
    """

    number: int
    pid: int | None = None
    started: float = 0.0
    failures: int = 0
    refusals: int = 0
    due: float = 0.0


@dataclass(slots=True)
class Crew:
    """Called with the settings before anything runs; it returns once in every worker.

    Attributes:
        door: the socket that all workers share; None when there is but one worker.
        rates: memory that all workers share, for what each key has asked.
    """

    door: socket.socket | None = None
    rates: mmap.mmap = field(default_factory=partial(mmap.mmap, -1, PAGE_BYTES))
    _workers: list[_Worker] = field(default_factory=list)

    def __call__(self, settings: Settings) -> Settings:
        """The settings of one worker; the process that watches them all does not return.

        Raises:
            SystemExit: in the process that watches, once the last worker has ended.
        """
        if settings.workers == 1:
            return settings
        self.door = bound(settings.host, settings.port)
        telemetry.log("crew_started", workers=settings.workers, port=self.door.getsockname()[1])
        self._workers = [_Worker(number=number) for number in range(settings.workers)]
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        number = self._watch()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        return settings_of(settings, number)

    def _watch(self) -> int:
        """Keep every place filled until told to stop; returns in workers, with their number."""
        while True:
            now = time.monotonic()
            for worker in self._workers:
                if worker.pid is None and now >= worker.due and self._is_worker(worker):
                    return worker.number
            heard = signal.sigtimedwait(_WATCHED, self._patience(now))
            self._reap()
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                self._stop(0)
            if any(worker.refusals >= MOST_REFUSALS for worker in self._workers):
                self._stop(REFUSED)

    def _patience(self, now: float) -> float:
        waits = [worker.due - now for worker in self._workers if worker.pid is None]
        return max(0.0, min(waits, default=60.0))

    def _is_worker(self, worker: _Worker) -> bool:
        """Fork; whether this is the new process."""
        watcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            _die_with(watcher)
            return True
        worker.pid, worker.started = pid, time.monotonic()
        telemetry.log("worker_started", worker=worker.number, pid=pid)
        return False

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid is None:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._note_end(worker, os.waitstatus_to_exitcode(status))

    def _note_end(self, worker: _Worker, code: int) -> None:
        now = time.monotonic()
        is_steady = now - worker.started >= STEADY_SECONDS
        worker.failures = 0 if is_steady else worker.failures + 1
        worker.refusals = worker.refusals + 1 if code == REFUSED else 0
        pause = 0.0 if is_steady else min(0.05 * 2**worker.failures, MOST_PAUSE_SECONDS)
        worker.pid, worker.due = None, now + pause
        telemetry.log(
            "worker_ended", level="error", worker=worker.number, code=code, starts_in=pause
        )

    def _stop(self, code: int) -> None:
        """End all workers, then this process.

        Raises:
            SystemExit: always.
        """
        if self.door is not None:
            self.door.close()  # once the workers have closed theirs, nobody can connect
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(worker.pid for worker in self._workers) and time.monotonic() < deadline:
            signal.sigtimedwait(_WATCHED, max(0.0, deadline - time.monotonic()))
            self._reap()
        self._signal_all(signal.SIGKILL)
        telemetry.log("crew_ended", code=code)
        raise SystemExit(code)

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, number)


def settings_of(settings: Settings, number: int) -> Settings:
    """The settings of a worker: a replica with a folder of its own, and the artifacts of all."""
    if number == 0:
        return settings
    changes = {
        "data": folder_of(settings.data, number),
        "replica": f"{settings.replica}-{number}",
        "artifacts_folder": settings.artifacts_folder or settings.data / "artifacts",
        "admin_port": settings.admin_port and settings.admin_port + number,
    }
    return settings.model_copy(update=changes)


def folder_of(data: Path, number: int) -> Path:
    """Where a worker beyond the first keeps what is its own."""
    return data / f"worker-{number}"


async def send_left_behind(settings: Settings) -> None:
    """Send what workers beyond the crew have not sent: it was larger at its last start."""
    number = settings.workers
    while (folder := folder_of(settings.data, number)).exists():
        try:
            await _send_left(settings, folder, number)
        except DiskRefused as error:
            telemetry.log("left_behind", level="error", folder=str(folder), reason=str(error))
        number += 1


async def _send_left(settings: Settings, folder: Path, number: int) -> None:
    disk = Disk(folder, settings.data / "artifacts")
    spool = Spool(folder / "spool.db", cap_bytes=settings.spool_bytes, now=clock.now)
    sender = Sender(
        spool=spool,
        publisher=Publisher(settings.kafka, settings.topic_prefix),
        replica=f"{settings.replica}-{number}",
        now=clock.now,
        batch_rows=settings.batch_rows,
        batch_seconds=settings.batch_seconds,
    )
    try:
        await running.patiently(partial(_send_all, sender))
    finally:
        await sender.publisher.close()
        spool.close()
        disk.close()


async def _send_all(sender: Sender) -> None:
    while await sender.send_some(at_once=True):
        telemetry.log(
            "left_behind_sent", replica=sender.replica, bytes_left=sender.spool.size_bytes
        )


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there, for all workers.

    Raises:
        SystemExit: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
    except OSError as error:
        telemetry.log("address_not_free", level="error", host=host, port=port, reason=str(error))
        raise SystemExit(REFUSED) from None
    door.listen(QUEUE)
    door.setblocking(False)
    return door


def _die_with(watcher: int) -> None:
    """A worker without a watcher would be started by nobody: it ends in order, and leaves."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGTERM)
    if os.getppid() != watcher:
        os._exit(0)
