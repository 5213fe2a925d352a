"""`up`: start the supervisor in the background and wait until everything is ready."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from local.control import ask
from local.daemon import only_one
from local.errors import CannotStart, EndedEarly, NotRunning, TookTooLong, WrongPlatform
from local.jars import cache_folder, kafka_jars
from local.paths import CHECKOUT, Places
from local.process import last_line
from local.screen import console, show_next_steps, show_status

_UP_SECONDS = 180.0
_HOPELESS_AFTER_RESTARTS = 5


def up(places: Places, arguments: argparse.Namespace) -> int:
    if sys.platform != "linux":
        raise WrongPlatform(sys.platform)
    places.create()
    daemon = None if is_running(places) else _start_daemon(places, arguments)
    ran_before = daemon is None and (status_or_none(places) or {}).get("phase") == "up"
    try:
        status = _wait_until_up(places, daemon)
    except (CannotStart, KeyboardInterrupt):
        if daemon:
            daemon.terminate()
            daemon.wait()
        raise
    show_status(status)
    show_next_steps(status, places, ran_before=ran_before)
    if arguments.foreground and daemon:
        _stay(places, daemon)
    return 0


def _start_daemon(places: Places, arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    with _progress() as progress:
        _fetch_jars(places, progress)
    more = ["--system-postgres"] if arguments.system_postgres else []
    with places.log("supervisor").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "local", "--folder", str(places.folder), "supervise", *more],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _fetch_jars(places: Places, progress: Progress) -> None:
    task = progress.add_task("Kafka jars", total=None, visible=False)

    def show(done: int, of: int) -> None:
        progress.update(task, completed=done, total=of, visible=True)

    kafka_jars(cache_folder(places.folder / "cache"), show)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _wait_until_up(places: Places, daemon: subprocess.Popen[bytes] | None) -> dict[str, Any]:
    """Show what is happening until every service is ready."""
    deadline = time.monotonic() + _UP_SECONDS
    with _progress() as progress:
        task = progress.add_task("starting", total=None)
        while True:
            status = status_or_none(places)
            if status and status["phase"] == "up" and all(s["ready"] for s in status["services"]):
                return status
            _stop_waiting_if_hopeless(places, daemon, deadline)
            if status:
                _stop_waiting_for_the_dying(places, status)
                ready = sum(bool(one["ready"]) for one in status["services"])
                progress.update(
                    task,
                    description=status["phase"],
                    total=len(status["services"]) or None,
                    completed=ready,
                )
            time.sleep(0.1)


def _stop_waiting_if_hopeless(
    places: Places, daemon: subprocess.Popen[bytes] | None, deadline: float
) -> None:
    log = places.log("supervisor")
    if daemon and daemon.poll() is not None and not is_running(places):
        raise EndedEarly("the supervisor", log, last_line(log))
    if time.monotonic() > deadline:
        raise TookTooLong("the stack", _UP_SECONDS, places.logs)


def _stop_waiting_for_the_dying(places: Places, status: dict[str, Any]) -> None:
    for one in status["services"]:
        if one["restarts"] >= _HOPELESS_AFTER_RESTARTS and not one["ready"]:
            log = places.log(one["name"])
            raise EndedEarly(one["name"], log, last_line(log))


def _stay(places: Places, daemon: subprocess.Popen[bytes]) -> None:
    """In the foreground: Ctrl-C or a polite signal ends the stack."""

    def end(*_: object) -> None:
        daemon.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    console.print(f"\nCtrl-C ends it; the supervisor writes {places.log('supervisor')}")
    daemon.wait()


def is_running(places: Places) -> bool:
    if not places.folder.exists():
        return False
    with only_one(places) as lock:
        return lock is None


def status_or_none(places: Places) -> dict[str, Any] | None:
    try:
        return ask(places.control, "status")
    except NotRunning:
        return None
