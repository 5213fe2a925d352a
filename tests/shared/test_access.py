"""Keys are found by their hash, and the file may change while everything runs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from shared.access import Keys, Role, hash_of, read_keys


def an_entry(key: str, **other: Any) -> dict[str, Any]:
    return {"id": "k", "hash": hash_of(key), "roles": ["viewer"], "principal": "vera"} | other


def write(path: Path, *entries: dict[str, Any]) -> None:
    path.write_text(json.dumps({"keys": list(entries)}))


def test_a_key_names_its_principal_and_roles(tmp_path: Path) -> None:
    write(tmp_path / "keys", an_entry("tw_a", roles=["producer", "viewer"], teams=["pumps"]))

    principal = Keys(tmp_path / "keys").principal("tw_a")

    assert principal is not None
    assert principal.name == "vera"
    assert principal.may(frozenset({Role.PRODUCER}))
    assert not principal.may(frozenset({Role.OPERATOR}))
    assert principal.teams == {"pumps"}


def test_without_a_file_nobody_is_let_in(tmp_path: Path) -> None:
    assert Keys(tmp_path / "none").principal("tw_a") is None


def test_a_changed_file_counts_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    seconds = iter(range(0, 1000, 10))
    path = tmp_path / "keys"
    write(path, an_entry("tw_a"))
    keys = Keys(path, lambda: float(next(seconds)))
    assert keys.principal("tw_a")

    write(path, an_entry("tw_b"))
    os.utime(path, ns=(1, 1))
    assert keys.principal("tw_b")
    assert keys.principal("tw_a") is None

    path.write_text("{half")
    os.utime(path, ns=(2, 2))
    assert keys.principal("tw_b")


@pytest.mark.parametrize(
    "document",
    [b"[]", b"{}", b'{"keys": [{}]}', b'{"keys": [{"hash": "x", "roles": ["king"]}]}', b"{"],
)
def test_a_file_of_another_form_is_an_error(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_keys(document)
