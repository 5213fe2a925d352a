"""Prometheus and Alertmanager as child processes on the loopback."""

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from ops.config import HOST, Places

TOOLS: Final = ("prometheus", "prometheus-alertmanager", "promtool", "amtool")
_READY_SECONDS: Final = 20.0
_END_SECONDS: Final = 10.0


class CannotRun(Exception):
    """A program is missing, or has ended by itself; the message says what to do."""


def missing() -> list[str]:
    """The programs that are not installed here."""
    return [name for name in TOOLS if shutil.which(name) is None]


@contextmanager
def running(folder: Path, places: Places, *, resend: str = "1m") -> Iterator[None]:
    """Both, over a folder with their configuration, until the block ends.

    Args:
        resend: how often Alertmanager is told again of what still fires.

    Raises:
        CannotRun: they are not installed, or do not start.
    """
    if missing():
        raise CannotRun(f"{', '.join(missing())} missing; `make system-tools` installs them")
    data = folder / "data"
    with ExitStack() as stack:
        stack.enter_context(
            _program(
                folder,
                "prometheus",
                places.prometheus,
                [
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={data / 'prometheus'}",
                    "--storage.tsdb.retention.time=15d",
                    f"--rules.alert.resend-delay={resend}",
                ],
            )
        )
        stack.enter_context(
            _program(
                folder,
                "prometheus-alertmanager",
                places.alertmanager,
                [
                    f"--config.file={folder / 'alertmanager.yml'}",
                    f"--storage.path={data / 'alertmanager'}",
                    "--cluster.listen-address=",
                ],
            )
        )
        for port in (places.prometheus, places.alertmanager):
            _wait(folder, port)
        yield


@contextmanager
def _program(folder: Path, name: str, port: int, arguments: list[str]) -> Iterator[None]:
    log = folder / f"{name}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            [name, f"--web.listen-address={HOST}:{port}", "--log.level=warn", *arguments],
            stdout=said,
            stderr=said,
            cwd=folder,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(folder: Path, port: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/-/ready", timeout=2):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise CannotRun(f"port {port} does not answer; see the logs in {folder}") from error
        time.sleep(0.05)
