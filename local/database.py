"""PostgreSQL on this machine: binaries from a wheel (or the system's), our own launcher."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from local.binaries import version_of
from local.errors import CannotStart, TookTooLong, WrongDatabaseVersion
from local.ports import HOST
from local.process import Account, Program, last_line

NAME = "postgres"
_READY_SECONDS = 60.0
_SOCKET_PATH_LIMIT = 90
"""Bytes. The system allows 107 for a Unix socket with its file name; beyond it, TCP only."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """One PostgreSQL with its data in one folder, open to the loopback by password only."""

    folder: Path
    binaries: Path
    port: int
    password: str
    account: Account | None
    log: Path
    durable: bool = True
    """Without it a power cut may lose commits; a killed process still loses none."""

    def url(self, database: str = "postgres") -> str:
        return self.url_for("postgres", self.password, database)

    def url_for(self, role: str, password: str, database: str) -> str:
        return f"postgresql://{role}:{password}@{HOST}:{self.port}/{database}"

    def prepare(self) -> None:
        """The first time, create the cluster; later, make sure that the versions agree."""
        version_file = self._data / "PG_VERSION"
        if not version_file.exists():
            self._create_cluster()
        found, wanted = version_file.read_text().strip(), str(version_of(self.binaries))
        if found != wanted:
            raise WrongDatabaseVersion(found, wanted)

    def program(self) -> Program:
        options = [
            *("-c", f"listen_addresses={HOST}"),
            *("-c", f"unix_socket_directories={self._socket_folder()}"),
            *("-c", "max_connections=200"),
            *("-c", "shared_buffers=64MB"),
            *("-c", "max_wal_senders=0"),
            *("-c", "wal_level=minimal"),
            *("-c", "jit=off"),
            *("-c", "timezone=UTC"),
            *("-c", "log_timezone=UTC"),
        ]
        if version_of(self.binaries) >= 18:
            # Fewer processes; a database this small has no use for readers of its own.
            options += ["-c", "io_method=sync"]
        if not self.durable:
            options += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        return Program(
            name=NAME,
            argv=(
                *(str(self.binaries / "postgres"), "-D", str(self._data)),
                *("-p", str(self.port)),
                *options,
            ),
            folder=self.folder,
            log=self.log,
            environment=_environment(),
            account=self.account,
            # The fast shutdown: open transactions are rolled back, nothing committed is lost.
            ends_on=signal.SIGINT,
            # Without the last checkpoint, but not without giving back its shared memory.
            ends_at_once_on=signal.SIGQUIT,
            when_orphaned=signal.SIGINT,
            patience_seconds=20.0,
        )

    def wait_until_ready(self, still_running: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not run_apart(_answers(self.url())):
            if not still_running():
                raise CannotStart(f"PostgreSQL ended while starting: {last_line(self.log)}")
            if time.monotonic() > deadline:
                raise TookTooLong("PostgreSQL", _READY_SECONDS, self.log)
            time.sleep(0.05)

    def create_database(
        self, name: str, *, owner: str | None = None, template: str | None = None
    ) -> None:
        statement = f'create database "{name}"'
        statement += f' owner "{owner}"' if owner else ""
        statement += f' template "{template}"' if template else ""
        self.execute(statement)

    def drop_database(self, name: str) -> None:
        """Also while somebody is still connected to it."""
        self.execute(f'drop database if exists "{name}" with (force)')

    def give_each_a_database(self, passwords: dict[str, str]) -> None:
        """A role and a database of the same name for each; a role enters only its own."""
        run_apart(_give_each(self.url(), passwords))

    def execute(self, *statements: str, database: str = "postgres") -> None:
        run_apart(_execute(self.url(database), statements))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _socket_folder(self) -> str:
        folder = str(self.folder)
        return folder if len(folder.encode()) <= _SOCKET_PATH_LIMIT else ""

    def _create_cluster(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        password_file = self.folder / "password.new"
        password_file.touch(0o600)
        password_file.write_text(self.password)
        if self.account:
            os.chown(password_file, self.account.uid, self.account.gid)
        try:
            self._initdb(password_file)
        finally:
            password_file.unlink()

    def _initdb(self, password_file: Path) -> None:
        done = subprocess.run(
            [
                str(self.binaries / "initdb"),
                *("-D", str(self._data), "--username=postgres", f"--pwfile={password_file}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            cwd=self.folder,
            env=_environment(),
            user=self.account.uid if self.account else None,
            group=self.account.gid if self.account else None,
            extra_groups=[] if self.account else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise CannotStart(f"PostgreSQL could not create its data: {said[-1] if said else ''}")


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def run_apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end in a thread of its own: the caller may be inside an event loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    try:
        return bool(await connection.fetchval("select 1") == 1)
    finally:
        await connection.close()


async def _execute(url: str, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _give_each(url: str, passwords: dict[str, str]) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        for name, password in passwords.items():
            await _give_one(connection, name, password)
    finally:
        await connection.close()


async def _give_one(connection: Any, name: str, password: str) -> None:
    """Names are ours and passwords URL-safe, so quoting them is enough."""
    known = await connection.fetchval("select 1 from pg_roles where rolname = $1", name)
    verb = "alter" if known else "create"
    await connection.execute(f"{verb} role \"{name}\" login password '{password}'")
    if not await connection.fetchval("select 1 from pg_database where datname = $1", name):
        await connection.execute(f'create database "{name}" owner "{name}"')
    await connection.execute(f'revoke all on database "{name}" from public')
