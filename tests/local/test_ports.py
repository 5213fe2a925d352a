from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from local.ports import HOST, free_ports, is_free, settle

pytestmark = pytest.mark.enable_socket


def test_a_default_that_is_free_is_taken(tmp_path: Path) -> None:
    defaults = free_ports(["registry", "kafka"])

    assert settle(tmp_path / "ports.json", defaults) == defaults


def test_a_port_in_use_is_replaced_by_a_free_one_which_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    with socket.create_server((HOST, 0)) as stranger:
        taken = stranger.getsockname()[1]
        chosen = settle(file, {"registry": taken})["registry"]

    again = settle(file, {"registry": taken})["registry"]

    assert chosen != taken
    assert again == chosen


def test_a_listening_port_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as stranger:
        port = stranger.getsockname()[1]

        assert not is_free(port)


def test_free_ports_are_all_different() -> None:
    ports = free_ports(str(number) for number in range(50))

    assert len(set(ports.values())) == 50


def test_a_damaged_file_of_ports_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    file.write_text("{half")
    defaults = free_ports(["registry"])

    settle(file, defaults)

    assert json.loads(file.read_text()) == defaults
