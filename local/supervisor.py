"""Keeps programs running: one thread starts, reaps and restarts them.

The parent-death signal belongs to the thread that forked, so this thread lives as long as its
children do, and a kill of the whole process takes them along.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from local.errors import TookTooLong
from local.process import Identity, Program, proportional_set_bytes, spawn

_STEADY_SECONDS = 10.0
"""Who lived this long starts again at once; who died sooner waits longer each time."""
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 10.0


class State(StrEnum):
    STOPPED = "stopped"
    RUNNING = "running"
    WAITING = "waiting"
    """Died; starts again after its back-off."""
    ENDING = "ending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How one program stands now."""

    name: str
    state: State
    pid: int | None
    restarts: int
    running_seconds: float
    memory_bytes: int
    last_exit: int | None


def delay_before_restart(quick_deaths: int) -> float:
    """Seconds to wait: nothing after a long life, then doubling up to a ceiling."""
    if quick_deaths == 0:
        return 0.0
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** (quick_deaths - 1))


@dataclass(slots=True)
class _Slot:
    """What the supervisor remembers about one program."""

    program: Program
    wanted: bool = False
    once: Mapping[str, str] = field(default_factory=dict)
    child: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    spawned_at: float = 0.0
    due_at: float = 0.0
    kill_at: float | None = None
    quick_deaths: int = 0
    starts: int = 0
    last_exit: int | None = None

    def state(self) -> State:
        if self.child:
            return State.RUNNING if self.kill_at is None else State.ENDING
        return State.WAITING if self.wanted else State.STOPPED

    def next_moment(self) -> float | None:
        if self.child:
            return self.kill_at
        return self.due_at if self.wanted else None


class Supervisor:
    """Runs programs until told otherwise; every method may be called from any thread."""

    def __init__(self, programs: Iterable[Program], *, pid_folder: Path) -> None:
        self._slots = {program.name: _Slot(program) for program in programs}
        self._pid_folder = pid_folder
        self._changed = threading.Condition()
        self._finished = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, program: Program, *, once: Mapping[str, str] | None = None) -> None:
        """Make a program known, or replace what is run from its next start on.

        Args:
            program: what to run.
            once: more environment for the next start alone.
        """
        with self._changed:
            slot = self._slots.setdefault(program.name, _Slot(program))
            slot.program, slot.once = program, dict(once or {})

    def start(self, *names: str) -> None:
        with self._changed:
            for slot in self._chosen(names):
                if not slot.wanted:
                    slot.wanted, slot.due_at, slot.quick_deaths = True, time.monotonic(), 0
            self._poke()

    def stop(self, *names: str, at_once: bool = False) -> None:
        """End the programs and wait until they are gone.

        Args:
            at_once: nobody wants what they have not written yet.
        """
        with self._changed:
            slots = self._chosen(names)
            for slot in slots:
                slot.wanted = False
                self._ask_to_end(slot, at_once=at_once)
            self._poke()
            patience = max((slot.program.patience_seconds for slot in slots), default=0.0) + 10.0
            if not self._changed.wait_for(lambda: not any(s.child for s in slots), patience):
                raise TookTooLong(
                    "the end of " + ", ".join(s.program.name for s in slots), patience
                )

    def restart(self, name: str) -> None:
        """End the program as kindly as at a release; it starts again at once."""
        self.stop(name)
        self.start(name)

    def kill(self, name: str) -> int | None:
        """Kill -9; the program starts again after its back-off. The pid that was killed."""
        with self._changed:
            child = self._slots[name].child
            if child is None:
                return None
            os.kill(child.pid, signal.SIGKILL)
            self._changed.wait_for(lambda: self._slots[name].child is not child, 10.0)
            return child.pid

    def wait_until_running(self, name: str, *, timeout_seconds: float = 30.0) -> int:
        """The pid, as soon as there is one."""
        with self._changed:
            slot = self._slots[name]
            if not self._changed.wait_for(lambda: slot.child is not None, timeout_seconds):
                raise TookTooLong(name, timeout_seconds, slot.program.log)
            return slot.child.pid if slot.child else 0

    def wait_for_starts(self, name: str, starts: int, *, timeout_seconds: float = 30.0) -> None:
        """Return when the program has been started at least so many times."""
        with self._changed:
            slot = self._slots[name]
            if not self._changed.wait_for(lambda: slot.starts >= starts, timeout_seconds):
                raise TookTooLong(f"start {starts} of {name}", timeout_seconds, slot.program.log)

    def pid(self, name: str) -> int | None:
        with self._changed:
            child = self._slots[name].child
            return child.pid if child else None

    def names(self) -> list[str]:
        with self._changed:
            return list(self._slots)

    def starts(self, name: str) -> int:
        with self._changed:
            return self._slots[name].starts

    def running_seconds(self, name: str) -> float:
        """How long the present process has been running."""
        with self._changed:
            slot = self._slots[name]
            return time.monotonic() - slot.spawned_at if slot.child else 0.0

    def quick_deaths(self, name: str) -> int:
        """How often in a row the program died soon after its start."""
        with self._changed:
            return self._slots[name].quick_deaths

    def report(self) -> list[Report]:
        with self._changed:
            return [self._report(slot) for slot in self._slots.values()]

    def close(self, *, at_once: bool = False) -> None:
        """End everything, last started first asked, and the thread."""
        if self._finished:
            return
        try:
            self.stop(at_once=at_once)
        finally:
            with self._changed:
                self._finished = True
                self._poke()
            self._thread.join(timeout=10.0)
            self._selector.close()
            os.close(self._wake)

    def _chosen(self, names: tuple[str, ...]) -> list[_Slot]:
        return [self._slots[name] for name in names] if names else list(self._slots.values())

    def _poke(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _report(self, slot: _Slot) -> Report:
        child = slot.child
        return Report(
            name=slot.program.name,
            state=slot.state(),
            pid=child.pid if child else None,
            restarts=max(0, slot.starts - 1),
            running_seconds=time.monotonic() - slot.spawned_at if child else 0.0,
            memory_bytes=proportional_set_bytes(child.pid) if child else 0,
            last_exit=slot.last_exit,
        )

    def _run(self) -> None:
        while not self._finished:
            for key, _ in self._selector.select(self._until_next_moment()):
                self._answer(key.data)
            with self._changed:
                now = time.monotonic()
                for slot in self._slots.values():
                    self._act(slot, now)

    def _until_next_moment(self) -> float | None:
        with self._changed:
            moments = [m for slot in self._slots.values() if (m := slot.next_moment()) is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _answer(self, slot: _Slot | None) -> None:
        if slot is None:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            return
        with self._changed:
            self._reap(slot)
            self._changed.notify_all()

    def _act(self, slot: _Slot, now: float) -> None:
        if slot.child is None and slot.wanted and slot.due_at <= now:
            self._spawn(slot)
            self._changed.notify_all()
        elif slot.child and slot.kill_at is not None and slot.kill_at <= now:
            slot.kill_at = now + 5.0
            os.killpg(slot.child.pid, signal.SIGKILL)

    def _spawn(self, slot: _Slot) -> None:
        slot.child, slot.once = spawn(slot.program, slot.once), {}
        slot.spawned_at, slot.kill_at, slot.starts = time.monotonic(), None, slot.starts + 1
        slot.pidfd = os.pidfd_open(slot.child.pid)
        self._selector.register(slot.pidfd, selectors.EVENT_READ, slot)
        identity = Identity.of(slot.child.pid)
        if identity:
            identity.write(self._pid_file(slot))

    def _reap(self, slot: _Slot) -> None:
        if slot.child is None:
            return
        # The dead leader still holds its number, so the group cannot be anybody else's.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(slot.child.pid, signal.SIGKILL)
        slot.last_exit = slot.child.wait()
        self._selector.unregister(slot.pidfd)
        os.close(slot.pidfd)
        self._pid_file(slot).unlink(missing_ok=True)
        steady = time.monotonic() - slot.spawned_at >= _STEADY_SECONDS
        slot.quick_deaths = 0 if steady else slot.quick_deaths + 1
        slot.due_at = time.monotonic() + delay_before_restart(slot.quick_deaths)
        slot.child, slot.kill_at = None, None

    def _ask_to_end(self, slot: _Slot, *, at_once: bool) -> None:
        if slot.child and slot.kill_at is None:
            program = slot.program
            os.kill(slot.child.pid, program.ends_at_once_on if at_once else program.ends_on)
            slot.kill_at = time.monotonic() + slot.program.patience_seconds

    def _pid_file(self, slot: _Slot) -> Path:
        return self._pid_folder / f"{slot.program.name}.json"
