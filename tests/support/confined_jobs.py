"""Functions that are run in confined children: good ones and bad ones."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOADED_AT = time.monotonic()


def echo(value: Any) -> Any:
    return value


def fail(value: Any) -> None:
    raise ValueError(f"no {value}")


def hang(note: str) -> None:
    Path(note).write_text(str(os.getpid()), encoding="utf-8")
    signal.pause()


def hang_with_a_child(note: str) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    Path(note).write_text(str(child.pid), encoding="utf-8")
    signal.pause()


def crash(_: Any) -> None:
    sys.stdout.write("last words")
    sys.stdout.flush()
    ctypes.string_at(0)


def leave(code: int) -> None:
    os._exit(code)


def grow(_: Any) -> None:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1) * 2_000_000))


def ask_for_too_much(_: Any) -> None:
    bytearray(2**46)


def loaded_at(_: Any) -> float:
    return LOADED_AT


def environment(_: Any) -> dict[str, str]:
    return dict(os.environ)  # noqa: TID251 - what the test is about


def threads_of_parent(_: Any) -> int:
    return len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


def has_pandas(_: Any) -> bool:
    try:
        import pandas  # noqa: F401, PLC0415 - whether it can be had is the question
    except ModuleNotFoundError:
        return False
    return True
