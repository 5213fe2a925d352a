"""The process behind `up`: starts everything, answers commands, ends everything."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from local import broker, database
from local.context import write_context
from local.control import Answer, ControlServer
from local.errors import CannotStart
from local.paths import Places
from local.ports import settle
from local.process import end_leftovers
from local.services import Command, Services, service_command
from local.stack import Infrastructure
from local.supervisor import Report

PARTS = (broker.NAME, database.NAME)


class Daemon:
    """One running stack. `run()` returns when somebody asked it to end."""

    def __init__(
        self, places: Places, *, system_postgres: bool = False, command: Command = service_command
    ) -> None:
        self._places = places
        self._system_postgres = system_postgres
        self._command = command
        self._asked_to_end = threading.Event()
        self._began_at = time.monotonic()
        self._up_seconds: float | None = None
        self._phase = "preparing"
        self._infrastructure: Infrastructure | None = None
        self._services: Services | None = None

    def run(self) -> None:
        control = ControlServer(self._places.control, self._respond)
        try:
            self._start()
            self._watch_until_asked()
        finally:
            self._phase = "ending"
            self._end()
            control.close()
            self._places.control.unlink(missing_ok=True)

    def ask_to_end(self, *_: object) -> None:
        self._asked_to_end.set()

    def _start(self) -> None:
        end_leftovers(self._places.service_pids)
        end_leftovers(self._places.part_pids)
        ports = settle(self._places.ports)
        self._phase = "starting Kafka and PostgreSQL"
        self._infrastructure = Infrastructure(
            self._places.folder, ports=ports, system_postgres=self._system_postgres
        ).start()
        self._phase = "applying topics and databases"
        services = Services(
            self._infrastructure,
            self._places.folder,
            ports=ports,
            kind="local",
            command=self._command,
        )
        self._services = services
        self._write_context(services, self._infrastructure)
        services.prepare()
        self._phase = "starting services"
        services.supervisor.start()

    def _write_context(self, services: Services, infrastructure: Infrastructure) -> None:
        write_context(
            self._places.context,
            services={name: services.url(name) for name in services.names},
            admin={name: services.admin_url(name) for name in services.names},
            kafka=infrastructure.kafka,
            artifacts=services.artifacts,
            keys_file=self._places.plain_keys,
            key=services.key,
        )

    def _watch_until_asked(self) -> None:
        """Note when each service becomes ready, also after a restart, until asked to end."""
        while not self._asked_to_end.wait(0.05 if self._unready() else 0.5):
            if self._up_seconds is None and not self._unready():
                self._up_seconds = time.monotonic() - self._began_at
                self._phase = "up"

    def _unready(self) -> list[str]:
        """Services whose present process has not been seen ready yet."""
        services = self._services
        if services is None:
            return []
        unseen = [name for name in services.names if services.ready_after_seconds(name) is None]
        return [name for name in unseen if not services.is_ready(name)]

    def _end(self) -> None:
        for running in (self._services, self._infrastructure):
            if running:
                with suppress(CannotStart):
                    running.close()

    def _respond(self, request: dict[str, Any]) -> Answer:
        verbs: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "status": self._status,
            "down": self._down,
            "restart": self._restart,
            "kill": self._kill,
            "stop-part": self._stop_part,
            "start-part": self._start_part,
        }
        return verbs[request["verb"]](request)

    def _status(self, _: dict[str, Any]) -> Answer:
        parts = self._infrastructure.report() if self._infrastructure else []
        services = self._services
        return {
            "phase": self._phase,
            "pid": os.getpid(),
            "up_seconds": self._up_seconds,
            "parts": [self._describe_part(report) for report in parts],
            "services": [_describe_service(services, r) for r in services.report()]
            if services
            else [],
        }

    def _describe_part(self, report: Report) -> Answer:
        return {**_describe(report), "address": self._address(report.name)}

    def _address(self, part: str) -> str:
        infrastructure = self._infrastructure
        if infrastructure is None:
            return ""
        if part == broker.NAME:
            return infrastructure.kafka
        return f"127.0.0.1:{infrastructure.database.port}"

    def _down(self, _: dict[str, Any]) -> Answer:
        self.ask_to_end()
        return {"ending": True}

    def _restart(self, request: dict[str, Any]) -> Answer:
        name = self._known_service(request["name"])
        if request.get("knobs"):
            self._running().configure(name, once=True, **request["knobs"])
        self._running().restart(name)
        return {"pid": self._running().pid(name)}

    def _kill(self, request: dict[str, Any]) -> Answer:
        name = self._known_service(request["name"])
        return {"killed": self._running().kill(name)}

    def _stop_part(self, request: dict[str, Any]) -> Answer:
        self._parts().supervisor.stop(_known_part(request["name"]))
        return {"stopped": request["name"]}

    def _start_part(self, request: dict[str, Any]) -> Answer:
        self._parts().start_parts(_known_part(request["name"]))
        return {"started": request["name"]}

    def _known_service(self, name: str) -> str:
        if name not in self._running().names:
            raise CannotStart(f"no service {name!r}; there are {', '.join(self._running().names)}")
        return name

    def _running(self) -> Services:
        if self._services is None:
            raise CannotStart(f"not yet: {self._phase}")
        return self._services

    def _parts(self) -> Infrastructure:
        if self._infrastructure is None:
            raise CannotStart(f"not yet: {self._phase}")
        return self._infrastructure


def _known_part(name: str) -> str:
    if name not in PARTS:
        raise CannotStart(f"no part {name!r}; there are {', '.join(PARTS)}")
    return name


def _describe(report: Report) -> Answer:
    return {
        "name": report.name,
        "state": str(report.state),
        "pid": report.pid,
        "restarts": report.restarts,
        "memory_mb": round(report.memory_bytes / 1e6, 1),
    }


def _describe_service(services: Services, report: Report) -> Answer:
    seconds = services.ready_after_seconds(report.name)
    return {
        **_describe(report),
        "url": services.url(report.name),
        "ready": services.is_ready(report.name),
        "ready_ms": round(seconds * 1000) if seconds is not None else None,
    }


@contextmanager
def only_one(places: Places, *, patience_seconds: float = 0.0) -> Iterator[IO[str] | None]:
    """The lock that a supervisor holds while it lives; None when another holds it."""
    deadline = time.monotonic() + patience_seconds
    with places.lock.open("w") as lock:
        while not _locked(lock):
            if time.monotonic() > deadline:
                yield None
                return
            time.sleep(0.02)
        yield lock


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_daemon(
    places: Places, *, system_postgres: bool = False, command: Command = service_command
) -> None:
    """Be the supervisor of this folder, unless there is one already."""
    places.create()
    # A command that only looks whether somebody runs holds the lock for a moment.
    with only_one(places, patience_seconds=1.0) as lock:
        if lock is None:
            return
        daemon = Daemon(places, system_postgres=system_postgres, command=command)
        for asked in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(asked, daemon.ask_to_end)
        daemon.run()
