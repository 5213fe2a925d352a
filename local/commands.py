"""The verbs of `python -m local`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from local.control import ask
from local.daemon import PARTS
from local.errors import CannotStart, TookTooLong
from local.paths import Places
from local.process import end_leftovers
from local.screen import console, show_next_steps, show_status
from local.starting import is_running, status_or_none, up

_DOWN_SECONDS = 90.0
_EXIT_NOT_RUNNING = 3


def down(places: Places, _: argparse.Namespace) -> int:
    if not places.folder.exists():
        console.print("not running")
        return 0
    was_running, leftovers = end(places)
    console.print("stopped; `make up` resumes" if was_running else "not running")
    if leftovers:
        console.print(f"ended what an earlier supervisor left: {', '.join(leftovers)}")
    return 0


def end(places: Places) -> tuple[bool, list[str]]:
    """End everything: whether there was a supervisor, and what an earlier one had left."""
    was_running = _end_supervisor(places)
    return was_running, [*end_leftovers(places.service_pids), *end_leftovers(places.part_pids)]


def _end_supervisor(places: Places) -> bool:
    """Ask the supervisor to end everything and wait for it; whether there was one."""
    if not is_running(places):
        return False
    deadline = time.monotonic() + _DOWN_SECONDS
    ask(places.control, "down")
    while is_running(places):
        if time.monotonic() > deadline:
            raise TookTooLong("the end of the stack", _DOWN_SECONDS, places.log("supervisor"))
        time.sleep(0.05)
    return True


def clean(places: Places, arguments: argparse.Namespace) -> int:
    down(places, arguments)
    demo = places.demo
    if demo.folder.exists():
        # Its processes would go on without the folder by which they can be ended.
        end(demo)
        demo.delete()
    places.delete()
    console.print(f"deleted {places.folder}", soft_wrap=True)
    return 0


def status(places: Places, arguments: argparse.Namespace) -> int:
    found = status_or_none(places)
    if arguments.json:
        print(json.dumps(found or {"phase": "down", "parts": [], "services": []}))
        return 0 if found else _EXIT_NOT_RUNNING
    if found is None:
        console.print("not running; start it with: make up")
        return _EXIT_NOT_RUNNING
    show_status(found)
    show_next_steps(found, places)
    return 0


def logs(places: Places, arguments: argparse.Namespace) -> int:
    known = sorted(file.stem for file in places.logs.glob("*.log") if ".old" not in file.name)
    chosen = [arguments.service] if arguments.service else known
    for name in chosen:
        if name not in known:
            raise CannotStart(f"no log of {name!r}; there are {', '.join(known) or 'none yet'}")
    if not chosen:
        console.print("no logs yet; start the stack with: make up")
    files: dict[str, IO[bytes]] = {name: places.log(name).open("rb") for name in chosen}
    _print_tails(files, arguments.lines)
    if arguments.follow:
        _follow(files)
    return 0


def _print_tails(files: dict[str, IO[bytes]], lines: int) -> None:
    for name, file in files.items():
        for line in file.read().decode(errors="replace").splitlines()[-lines:]:
            print(_labelled(name, line, files))


def _follow(files: dict[str, IO[bytes]]) -> None:
    while True:
        for name, file in files.items():
            for line in _new_lines(file):
                print(_labelled(name, line, files), flush=True)
        time.sleep(0.2)


def _new_lines(file: IO[bytes]) -> Iterator[str]:
    while line := file.readline():
        yield line.decode(errors="replace").rstrip("\n")


def _labelled(name: str, line: str, files: dict[str, IO[bytes]]) -> str:
    return line if len(files) == 1 else f"{name:14} {line}"


def restart(places: Places, arguments: argparse.Namespace) -> int:
    knobs = dict(pair.split("=", 1) for pair in arguments.set)
    ask(places.control, "restart", name=arguments.service, knobs=knobs)
    console.print(f"{arguments.service} restarted and ready")
    return 0


def kill(places: Places, arguments: argparse.Namespace) -> int:
    killed = ask(places.control, "kill", name=arguments.service)["killed"]
    console.print(f"{arguments.service} was killed with kill -9 (pid {killed}); it starts again")
    return 0


def stop_part(places: Places, arguments: argparse.Namespace) -> int:
    ask(places.control, "stop-part", name=arguments.part)
    console.print(f"{arguments.part} stopped; `python -m local start-part {arguments.part}`")
    return 0


def start_part(places: Places, arguments: argparse.Namespace) -> int:
    ask(places.control, "start-part", name=arguments.part)
    console.print(f"{arguments.part} is ready")
    return 0


def parser(default_folder: Path) -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        "python -m local", description="The whole system on one machine."
    )
    main.add_argument("--folder", type=Path, default=default_folder, help="where its data lives")
    verbs = main.add_subparsers(dest="verb", required=True, metavar="verb")
    one = verbs.add_parser("up", help="start everything and wait until it is ready")
    one.add_argument("--foreground", action="store_true", help="stay; Ctrl-C ends it")
    _add_system_postgres(one)
    one.set_defaults(run=up)
    verbs.add_parser("down", help="stop everything; the data stays").set_defaults(run=down)
    verbs.add_parser("clean", help="stop everything, delete the data").set_defaults(run=clean)
    one = verbs.add_parser("status", help="what runs, where, and how much memory it takes")
    one.add_argument("--json", action="store_true", help="for programs")
    one.set_defaults(run=status)
    one = verbs.add_parser("logs", help="what the services wrote")
    one.add_argument("service", nargs="?", help="one of them; all without")
    one.add_argument("-f", "--follow", action="store_true", help="go on as they write")
    one.add_argument("-n", "--lines", type=int, default=40, help="how many of the last lines")
    one.set_defaults(run=logs)
    one = verbs.add_parser("restart", help="end one service kindly and start it again")
    one.add_argument("service")
    one.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="for this start alone"
    )
    one.set_defaults(run=restart)
    one = verbs.add_parser("kill", help="kill -9 one service; it starts again")
    one.add_argument("service")
    one.set_defaults(run=kill)
    for verb, run in (("stop-part", stop_part), ("start-part", start_part)):
        one = verbs.add_parser(verb, help=f"{verb.split('-')[0]} the broker or the database")
        one.add_argument("part", choices=PARTS)
        one.set_defaults(run=run)
    one = verbs.add_parser("supervise")  # what `up` starts; without a help text it is not listed
    _add_system_postgres(one)
    return main


def _add_system_postgres(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--system-postgres", action="store_true", help="use the system's PostgreSQL (15 or newer)"
    )
