"""Service processes under a supervisor: the whole six, or those that a test wants."""

from __future__ import annotations

import asyncio
import http.client
import os
import secrets
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from local.database import run_apart
from local.errors import EndedEarly, TookTooLong
from local.jars import cache_folder
from local.keys import settle_keys
from local.paths import CHECKOUT, Places
from local.ports import HOST, free_ports
from local.private import read_private, write_private
from local.process import Program, end_leftovers, last_line
from local.stack import Infrastructure
from local.supervisor import Report, Supervisor
from shared.provisioning import ensure_topics
from shared.topics import SERVICES

_WITHOUT_DATABASE = ("serving",)
_HOPELESS_AFTER_DEATHS = 4
_READY_SECONDS = 90.0

Command = Callable[[str], Sequence[str]]
"""What starts the service of this name."""


def service_command(name: str) -> Sequence[str]:
    return (sys.executable, "-m", f"services.{name}.app")


class Services:
    """Services over one infrastructure, each with its own database, port, log and environment.

    Methods block and may be called from any thread. `topic_prefix` separates installations on
    one broker; with it, databases are named after the prefix, and `discard()` drops them.
    """

    def __init__(
        self,
        infrastructure: Infrastructure,
        folder: Path,
        *,
        names: Iterable[str] = SERVICES,
        ports: Mapping[str, int] | None = None,
        topic_prefix: str = "",
        partitions: int | None = None,
        knobs: Mapping[str, Mapping[str, str]] | None = None,
        kind: str = "test",
        command: Command = service_command,
    ) -> None:
        self.names = tuple(names)
        self.places = Places(folder)
        self.places.create()
        self.topic_prefix = topic_prefix
        self._infrastructure = infrastructure
        self._ports = dict(ports) if ports else free_ports(_port_names(self.names))
        self._partitions = partitions
        self._knobs = {name: dict((knobs or {}).get(name, {})) for name in self.names}
        self._kind = kind
        self._command = command
        self._ready_after: dict[str, tuple[int, float]] = {}
        self.keys = settle_keys(
            self.places.plain_keys, self.places.hashed_keys, self.places.signing_key
        )
        end_leftovers(self.places.service_pids)
        self.supervisor = Supervisor(
            map(self._program, self.names), pid_folder=self.places.service_pids
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def key(self) -> str:
        """The admin's key."""
        return self.keys["admin"]

    @property
    def artifacts(self) -> str:
        return f"file://{self.places.artifacts}"

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self._ports[name]}"

    def admin_url(self, name: str) -> str:
        return f"http://{HOST}:{self._ports[f'{name}-admin']}"

    def database_url(self, name: str) -> str:
        role = self._database_name(name)
        return self._infrastructure.database.url_for(role, self._passwords()[role], role)

    def log(self, name: str) -> Path:
        return self.places.log(name)

    def start(self) -> Self:
        """Databases, topics, processes; returns when every service is ready."""
        self.prepare()
        self.supervisor.start()
        self.wait_ready()
        return self

    def prepare(self) -> None:
        """Give each service its database and apply the topics; both may be there already."""
        self._infrastructure.database.give_each_a_database(self._passwords())
        run_apart(self._apply_topics())

    def wait_ready(self, *names: str, timeout_seconds: float = _READY_SECONDS) -> None:
        """Return when the named services (all without names) answer that they are ready."""
        missing, deadline = list(names or self.names), time.monotonic() + timeout_seconds
        while missing := [name for name in missing if not self.is_ready(name)]:
            for name in missing:
                if self.supervisor.quick_deaths(name) >= _HOPELESS_AFTER_DEATHS:
                    raise EndedEarly(name, self.log(name), last_line(self.log(name)))
            if time.monotonic() > deadline:
                raise TookTooLong(", ".join(missing), timeout_seconds, self.log(missing[0]))
            time.sleep(0.05)

    def is_ready(self, name: str) -> bool:
        starts = self.supervisor.starts(name)
        ready = self.supervisor.pid(name) is not None and _answers(self._ports[name], "/ready")
        if ready and self._ready_after.get(name, (0, 0.0))[0] != starts:
            self._ready_after[name] = (starts, self.supervisor.running_seconds(name))
        return ready

    def ready_after_seconds(self, name: str) -> float | None:
        """From the start of the present process to its first being seen ready."""
        starts, seconds = self._ready_after.get(name, (0, 0.0))
        return seconds if starts == self.supervisor.starts(name) else None

    def pid(self, name: str) -> int | None:
        return self.supervisor.pid(name)

    def kill(self, name: str) -> int | None:
        """Kill -9 of one service; the supervisor starts it again. The pid that was killed."""
        return self.supervisor.kill(name)

    def stop(self, *names: str) -> None:
        self.supervisor.stop(*(names or self.names))

    def start_again(self, *names: str) -> None:
        """Start stopped services and wait until they are ready."""
        self.supervisor.start(*(names or self.names))
        self.wait_ready(*names)

    def restart(self, name: str) -> None:
        self.supervisor.restart(name)
        self.wait_ready(name)

    def configure(self, name: str, *, once: bool = False, **knobs: str) -> None:
        """Set knobs, `FAULT="point"`, for the next start alone (`once`) or from then on."""
        if once:
            self.supervisor.add(self._program(name), once=_environment_of(name, knobs))
        else:
            self._knobs[name] |= knobs
            self.supervisor.add(self._program(name))

    def report(self) -> list[Report]:
        return self.supervisor.report()

    def close(self) -> None:
        self.supervisor.close()

    def discard(self) -> None:
        """End the services and drop their databases and roles."""
        self.close()
        server = self._infrastructure.database
        for name in self._passwords():
            server.drop_database(name)
            server.execute(f'drop role if exists "{name}"')

    async def _apply_topics(self) -> None:
        async with asyncio.timeout(_READY_SECONDS):
            await ensure_topics(
                self._infrastructure.kafka, prefix=self.topic_prefix, partitions=self._partitions
            )

    def _program(self, name: str) -> Program:
        return Program(
            name=name,
            argv=tuple(self._command(name)),
            folder=CHECKOUT,
            log=self.places.log(name),
            environment={**_base_environment(self.places), **self._settings(name)},
            overrides=self.places.overrides,
        )

    def _settings(self, name: str) -> dict[str, str]:
        settings = {
            "KAFKA": self._infrastructure.kafka,
            "TOPIC_PREFIX": self.topic_prefix,
            "ARTIFACTS": self.artifacts,
            "REPLICA": "0",
            "HOST": HOST,
            "PORT": str(self._ports[name]),
            "ADMIN_PORT": str(self._ports[f"{name}-admin"]),
            "KEYS_FILE": str(self.places.hashed_keys),
            "ENVIRONMENT": self._kind,
        }
        if name in _WITHOUT_DATABASE:
            settings["DATA"] = str(self.places.serving)
        else:
            settings["DATABASE"] = self.database_url(name)
        if name == "registry":
            settings["UPLOADS"] = str(self.places.uploads)
            settings["SIGNING_KEY"] = str(self.places.signing_key)
        return _environment_of(name, {**settings, **self._knobs[name]})

    def _database_name(self, name: str) -> str:
        installation = self.topic_prefix.strip(".").replace(".", "_") or "tidewheel"
        return f"{installation}_{name}"

    def _passwords(self) -> dict[str, str]:
        """A password per role, made at random once and then kept."""
        known = read_private(self.places.passwords)
        roles = [self._database_name(name) for name in self.names if name not in _WITHOUT_DATABASE]
        missing = {role: secrets.token_urlsafe(24) for role in roles if role not in known}
        if missing:
            write_private(self.places.passwords, known | missing)
        return {role: (known | missing)[role] for role in roles}


def _port_names(names: Iterable[str]) -> list[str]:
    return [port for name in names for port in (name, f"{name}-admin")]


def _environment_of(name: str, knobs: Mapping[str, str]) -> dict[str, str]:
    return {f"TIDEWHEEL_{name.upper()}_{knob}": value for knob, value in knobs.items()}


def _base_environment(places: Places) -> dict[str, str]:
    """The user's own environment, with compiled modules kept so that later starts are fast."""
    environment = {key: value for key, value in os.environ.items() if key not in _UNWANTED}
    if not _is_compiled(sysconfig.get_paths()["purelib"]):
        cache = cache_folder(places.folder / "cache") / "pycache"
        environment["PYTHONPYCACHEPREFIX"] = str(cache)
    # Fewer arenas: threads that allocate a little each would otherwise hold much memory. One thread
    # per library: small models are answered faster without a pool that waits by spinning.
    quiet = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**quiet, **environment, "PYTHONUNBUFFERED": "1"}


_UNWANTED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONSTARTUP")


def _is_compiled(libraries: str) -> bool:
    return (Path(libraries) / "aiokafka" / "__pycache__").is_dir()


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
