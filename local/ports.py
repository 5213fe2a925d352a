"""Which loopback port each part listens on: a fixed default, another if taken, then kept."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

HOST = "127.0.0.1"

DEFAULTS: Mapping[str, int] = {
    "registry": 7001,
    "trainer": 7002,
    "evaluator": 7003,
    "deployer": 7004,
    "serving": 7005,
    "drift_monitor": 7006,
    "registry-admin": 7101,
    "trainer-admin": 7102,
    "evaluator-admin": 7103,
    "deployer-admin": 7104,
    "serving-admin": 7105,
    "drift_monitor-admin": 7106,
    "kafka": 7092,
    "kafka-controller": 7093,
    "postgres": 7432,
}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that linger from an earlier run are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A free port for each name, all different."""
    wanted = list(names)
    probes = [socket.socket() for _ in wanted]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return {name: probe.getsockname()[1] for name, probe in zip(wanted, probes, strict=True)}
    finally:
        for probe in probes:
            probe.close()


def settle(file: Path, defaults: Mapping[str, int] = DEFAULTS) -> dict[str, int]:
    """The ports of this stack: as last time, else the default, else a free one; written down."""
    preferred = {**defaults, **_remembered(file)}
    kept = {name: preferred[name] for name in defaults if is_free(preferred[name])}
    settled = {**free_ports(name for name in defaults if name not in kept), **kept}
    file.write_text(json.dumps({name: settled[name] for name in defaults}, indent=2) + "\n")
    return settled


def _remembered(file: Path) -> dict[str, int]:
    try:
        return {str(name): int(port) for name, port in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}
