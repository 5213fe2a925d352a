"""Kafka and PostgreSQL under one supervisor: what the services stand on, and what tests start."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self

from local import broker, database, unprivileged
from local.binaries import system_binaries, wheel_binaries
from local.broker import Broker
from local.database import PostgresServer
from local.errors import StateLost
from local.jars import cache_folder, kafka_jars
from local.paths import Places
from local.ports import free_ports
from local.private import read_private, write_private
from local.process import Account, end_leftovers
from local.supervisor import Report, Supervisor

_PORTS = ("kafka", "kafka-controller", "postgres")
_HOPELESS_AFTER_DEATHS = 5


class Infrastructure:
    """A broker and a database in one folder, restarted when they die, gone with their owner.

    `with Infrastructure(folder) as infrastructure:` starts both in parallel and waits until
    both answer. All methods block; they may be called from a thread or inside an event loop.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ports: Mapping[str, int] | None = None,
        durable: bool = True,
        system_postgres: bool = False,
    ) -> None:
        self.places = Places(folder)
        self._ports = dict(ports) if ports else free_ports(_PORTS)
        self._durable = durable
        self._system_postgres = system_postgres
        self._supervisor: Supervisor | None = None
        self._broker: Broker | None = None
        self._server: PostgresServer | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kafka(self) -> str:
        """Where Kafka clients connect first: host and port."""
        return self.broker.bootstrap

    @property
    def broker(self) -> Broker:
        assert self._broker, "not started"  # noqa: S101
        return self._broker

    @property
    def database(self) -> PostgresServer:
        assert self._server, "not started"  # noqa: S101
        return self._server

    @property
    def supervisor(self) -> Supervisor:
        assert self._supervisor, "not started"  # noqa: S101
        return self._supervisor

    def postgres_url(self, database: str = "postgres") -> str:
        """As the superuser; services get roles of their own."""
        return self.database.url(database)

    def start(self) -> Self:
        self.places.create()
        end_leftovers(self.places.part_pids)
        with ThreadPoolExecutor(max_workers=2) as pool:
            preparing = (pool.submit(self._prepare_broker), pool.submit(self._prepare_database))
            self._broker, self._server = preparing[0].result(), preparing[1].result()
        programs = [self._broker.program(), self._server.program()]
        self._supervisor = Supervisor(programs, pid_folder=self.places.part_pids)
        try:
            self.start_parts(database.NAME, broker.NAME)
        except BaseException:
            self.close()
            raise
        return self

    def start_parts(self, *names: str) -> None:
        self.supervisor.start(*names)
        waits: dict[str, Broker | PostgresServer] = {
            broker.NAME: self.broker,
            database.NAME: self.database,
        }
        for name in names:
            waits[name].wait_until_ready(partial(self._holds, name))

    def start_broker(self) -> None:
        self.start_parts(broker.NAME)

    def stop_broker(self) -> None:
        self.supervisor.stop(broker.NAME)

    def restart_broker(self) -> None:
        self.stop_broker()
        self.start_broker()

    def kill_broker(self) -> None:
        """Kill -9, and back again."""
        self.supervisor.kill(broker.NAME)
        self.start_broker()

    def start_postgres(self) -> None:
        self.start_parts(database.NAME)

    def stop_postgres(self) -> None:
        self.supervisor.stop(database.NAME)

    def kill_postgres(self) -> None:
        """Kill -9 of the whole database, and back again."""
        self.supervisor.kill(database.NAME)
        self.start_postgres()

    def create_database(self, name: str, template: str | None = None) -> str:
        """A new database; its URL."""
        self.database.create_database(name, template=template)
        return self.postgres_url(name)

    def drop_database(self, name: str) -> None:
        self.database.drop_database(name)

    def report(self) -> list[Report]:
        """How both stand now; nothing before they were started."""
        return self._supervisor.report() if self._supervisor else []

    def close(self, *, at_once: bool = False) -> None:
        """End both; `at_once` leaves unwritten what they have in memory."""
        if self._supervisor:
            self._supervisor.close(at_once=at_once)
            self._supervisor = None

    def delete(self) -> None:
        """End both and delete all their data, also what lies outside the folder."""
        self.close(at_once=True)
        self.places.delete()

    def _holds(self, name: str) -> bool:
        """A database whose killed predecessor still lets go of its memory needs some tries."""
        return self.supervisor.quick_deaths(name) < _HOPELESS_AFTER_DEATHS

    def _prepare_broker(self) -> Broker:
        prepared = Broker(
            folder=self.places.kafka,
            jars=kafka_jars(cache_folder(self.places.folder / "cache")),
            port=self._ports["kafka"],
            controller_port=self._ports["kafka-controller"],
            log=self.places.log(broker.NAME),
        )
        prepared.prepare()
        return prepared

    def _prepare_database(self) -> PostgresServer:
        account = unprivileged.account()
        folder = self.places.settle_postgres(account)
        prepared = PostgresServer(
            folder=folder,
            binaries=self._binaries(account),
            port=self._ports["postgres"],
            password=self._superuser_password(),
            account=account,
            log=self.places.log(database.NAME),
            durable=self._durable,
        )
        prepared.prepare()
        return prepared

    def _binaries(self, account: Account | None) -> Path:
        if self._system_postgres:
            return system_binaries()
        return wheel_binaries(self.places.copied_binaries, account)

    def _superuser_password(self) -> str:
        known = read_private(self.places.passwords)
        if "postgres" not in known:
            if (self.places.postgres / "data" / "PG_VERSION").exists():
                raise StateLost(self.places.folder)
            known["postgres"] = secrets.token_urlsafe(24)
            write_private(self.places.passwords, known)
        return known["postgres"]
