"""The process that `shared.confined` starts: it loads libraries once, then forks a child per job.

One thread only, so that a fork copies no lock that another thread holds.
"""

import array
import contextlib
import ctypes
import gc
import importlib
import importlib.abc
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from shared.confined_wire import Value, pack, unpack

MOST_BYTES: Final = 2**30
"""Of one argument."""
_LOOK_SECONDS: Final = 0.02
_TAIL_BYTES: Final = 4000
_DIES_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG


@dataclass(slots=True, kw_only=True)
class _Child:
    """A fork. It waits on `orders` until a job comes, does that one job, and ends."""

    pid: int
    orders: socket.socket
    output: Any
    job: int = 0
    deadline: float = 0.0
    most_kilobytes: int = 0
    killed: str = ""


class _Host:
    """Forks a child per order, keeps its limits, reports its end. One thread, one loop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._busy: dict[int, _Child] = {}
        self._spare: _Child | None = None
        self._buffer = b""
        self._passed: list[int] = []
        self._ended_read, self._ended_write = socket.socketpair()
        self._ended_read.setblocking(False)
        self._ended_write.setblocking(False)
        signal.set_wakeup_fd(self._ended_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        self._keep_spare()
        self._say({"ready": True})
        while True:
            timeout = _LOOK_SECONDS if self._busy else None
            readable, _, _ = select.select([self._control, self._ended_read], [], [], timeout)
            if self._ended_read in readable:
                with contextlib.suppress(BlockingIOError):
                    self._ended_read.recv(4096)
            if self._control in readable and not self._take_orders():
                return
            self._reap()
            self._enforce()
            if self._control not in readable:
                self._keep_spare()

    def _keep_spare(self) -> None:
        if self._spare is None:
            self._spare = self._fork()

    def end(self) -> None:
        for child in self._busy.values():
            self._kill(child, "stopped")
        if self._spare is not None:
            self._kill(self._spare, "stopped")

    def _take_orders(self) -> bool:
        data, passed, _, _ = socket.recv_fds(self._control, 65536, 16)
        self._passed.extend(passed)
        if not data:
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "kill" in order:
                self._kill_number(order["kill"])
            else:
                self._begin(order, self._passed.pop(0))
        return True

    def _begin(self, order: dict[str, Any], wire: int) -> None:
        child = self._handed(order, wire)
        os.close(wire)
        child.job = order["job"]
        child.deadline = time.monotonic() + order["seconds"]
        child.most_kilobytes = _kilobytes(str(child.pid)) + order["megabytes"] * 1024
        self._busy[child.job] = child

    def _handed(self, order: dict[str, Any], wire: int) -> _Child:
        """The child that took the order; a spare one may have been killed by somebody."""
        child, self._spare = self._spare or self._fork(), None
        try:
            socket.send_fds(child.orders, [json.dumps(order).encode()], [wire])
        except OSError:
            self._kill(child, "stopped")
            os.waitpid(child.pid, 0)
            child = self._fork()
            socket.send_fds(child.orders, [json.dumps(order).encode()], [wire])
        child.orders.close()
        return child

    def _fork(self) -> _Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        output = tempfile.TemporaryFile()  # noqa: SIM115 - read after the child has ended
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._be_child(theirs, output)
        theirs.close()
        return _Child(pid=pid, orders=ours, output=output)

    def _be_child(self, orders: socket.socket, output: Any) -> NoReturn:
        try:
            _detach()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            for other in (self._control, self._ended_read, self._ended_write):
                other.close()
            for waiting in self._passed:
                os.close(waiting)  # of other jobs; kept open it would hide their end
            data, passed, _, _ = socket.recv_fds(orders, 65536, 1)
            if data:
                order = json.loads(data)
                _limit(order["megabytes"])
                _work(socket.socket(fileno=passed[0]), order["function"])
        finally:
            os._exit(0)

    def _reap(self) -> None:
        for child in list(self._busy.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._busy[child.job]
                self._report(child, os.waitstatus_to_exitcode(status))

    def _report(self, child: _Child, status: int) -> None:
        size = child.output.seek(0, os.SEEK_END)
        child.output.seek(max(0, size - _TAIL_BYTES))
        tail = child.output.read().decode("utf-8", "replace")
        child.output.close()
        self._say({"job": child.job, "status": status, "killed": child.killed, "tail": tail})

    def _enforce(self) -> None:
        for child in self._busy.values():
            if child.killed:
                continue
            if time.monotonic() > child.deadline:
                self._kill(child, "seconds")
            elif _kilobytes(str(child.pid)) > child.most_kilobytes:
                self._kill(child, "megabytes")

    def _kill_number(self, number: int) -> None:
        if number in self._busy:
            self._kill(self._busy[number], "stopped")

    def _kill(self, child: _Child, why: str) -> None:
        """The child is ours and not yet waited for, so that its id cannot be another's."""
        child.killed = why
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(message).encode() + b"\n")


def _kilobytes(process: str) -> int:
    """Memory of a process that is its own, or 0 where this cannot be known."""
    try:
        text = Path(f"/proc/{process}/statm").read_bytes().split()
    except OSError:
        return 0
    return (int(text[1]) - int(text[2])) * (resource.getpagesize() // 1024)


def _die_with_parent(parent: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


_TEMPLATE: Final = array.array("l", [0])
"""Process id of the template, known to its children."""


def _detach() -> None:
    """A group of its own, so that what the job starts can be ended with it."""
    os.setpgid(0, 0)
    _die_with_parent(_TEMPLATE[0])


def _limit(megabytes: int) -> None:
    """A ceiling for one sudden request; what is really used is watched by the template."""
    used = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    ceiling = used + 2 * megabytes * 2**20 + 2**29
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(wire: socket.socket, function: str) -> None:
    argument = unpack(_received(wire))
    try:
        answer = {"said": "done", "result": _resolved(function)(argument)} | _usage()
    except MemoryError:
        answer = {"said": "memory"}
    except BaseException as error:  # noqa: BLE001 - whatever it was, it is told to the service
        answer = {
            "said": "failed",
            "kind": type(error).__name__,
            "detail": str(error)[:2000],
            "trace": traceback.format_exc()[-8000:],
        }
    wire.sendall(pack(answer))


def _usage() -> dict[str, float]:
    own, started = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "cpu_seconds": sum(used.ru_utime + used.ru_stime for used in (own, started)),
        "peak_megabytes": own.ru_maxrss / 1024,
    }


def _received(wire: socket.socket) -> bytes:
    head = _exactly(wire, 16)
    length, size = struct.unpack("!QQ", head)
    if length + size > MOST_BYTES:
        raise ValueError(f"an argument of {length + size} bytes is too large")
    return head + _exactly(wire, length + size)


def _exactly(wire: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        chunk = wire.recv(min(count - len(parts), 1 << 20))
        if not chunk:
            raise EOFError("the service has gone")
        parts += chunk
    return bytes(parts)


def _resolved(function: str) -> Callable[..., Value]:
    module, _, name = function.partition(":")
    found: Callable[..., Value] = getattr(importlib.import_module(module), name)
    return found


class _Absent(importlib.abc.MetaPathFinder):
    """Makes libraries look as if they were not installed."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, fullname: str, *_: object) -> None:
        """Nothing is found here; what is named is not looked for elsewhere either."""
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Become the template: load, freeze, fork on order until the service hangs up."""
    _die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service decides when its children end
    control = socket.socket(fileno=descriptor)
    try:
        sys.meta_path.insert(0, _Absent(m[1:] for m in modules if m.startswith("-")))
        for module in modules:
            if ":" in module:
                _resolved(module)()
            elif not module.startswith("-"):
                importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - told to the service, which answers its callers
        control.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        return
    gc.collect()
    gc.freeze()
    _TEMPLATE[0] = os.getpid()
    host = _Host(control)
    try:
        host.serve()
    finally:
        host.end()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
