"""Keys are found by their hash, and the file may change while everything runs."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.access import Keys, Principal, Role, act, hash_of, read_keys, see
from shared.errors import NotFound, NotPermitted


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


NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "lets_in"),
    [
        ({}, True),
        ({"expires": "2026-05-04T12:00:01Z"}, True),
        ({"expires": "2026-05-04T14:00:00+02:00"}, False),
        ({"expires": "2025-01-01T00:00:00Z"}, False),
        ({"revoked": False}, True),
        ({"revoked": True}, False),
        ({"revoked": "yes"}, False),
    ],
)
def test_an_expired_or_revoked_key_lets_nobody_in(
    tmp_path: Path, change: dict[str, Any], lets_in: bool
) -> None:
    write(tmp_path / "keys", an_entry("tw_a") | change)
    keys = Keys(tmp_path / "keys", now=lambda: NOON)

    assert (keys.principal("tw_a") is not None) is lets_in
    assert (keys.named("vera") is not None) is lets_in


def test_a_moment_without_its_offset_is_an_error() -> None:
    entry = an_entry("tw_a", expires="2026-05-04T12:00:00")

    with pytest.raises(ValueError, match="offset"):
        read_keys(json.dumps({"keys": [entry]}).encode())


@pytest.mark.parametrize(
    "entry",
    [
        {"roles": "viewer"},
        {"roles": ["viewer"], "teams": "pumps"},
        {"roles": ["viewer"], "grants": [{"team": "pumps"}]},
        {"grants": [{"team": "pumps", "roles": ["king"]}]},
    ],
)
def test_an_entry_that_could_be_misread_is_an_error(entry: dict[str, Any]) -> None:
    whole = {"id": "k", "hash": hash_of("x"), "principal": "vera"} | entry

    with pytest.raises(ValueError, match=r".+"):
        read_keys(json.dumps({"keys": [whole]}).encode())


def a_principal(**grants: set[Role]) -> Principal:
    teams = {team.replace("_", "-"): frozenset(roles) for team, roles in grants.items()}
    return Principal(name="vera", key="k", grants=teams)


def test_a_role_counts_in_its_team_alone() -> None:
    vera = a_principal(pumps={Role.OPERATOR}, fans={Role.VIEWER})
    operators = frozenset({Role.OPERATOR})

    assert vera.may(operators)
    assert vera.may_in("pumps", operators)
    assert not vera.may_in("fans", operators)
    assert vera.may_see("fans")
    assert not vera.may_see("valves")
    assert vera.visible == ["fans", "pumps"]


def test_an_admin_of_a_team_is_nobody_elsewhere() -> None:
    vera = a_principal(pumps={Role.ADMIN})

    assert vera.may_in("pumps", frozenset({Role.APPROVER}))
    assert not vera.may_see("fans")


def test_roles_for_every_team_are_held_in_each() -> None:
    vera = Principal(name="vera", key="k", grants={"*": frozenset({Role.VIEWER})})

    assert vera.may_see("anything")
    assert vera.may_see("")
    assert vera.visible is None
    assert not vera.may_in("anything", frozenset({Role.OPERATOR}))


def test_what_no_team_owns_is_seen_by_those_of_every_team_alone() -> None:
    assert not a_principal(pumps={Role.ADMIN}).may_see("")
    assert not a_principal(pumps={Role.ADMIN}).may_see("*")


def test_a_foreign_thing_and_no_thing_are_refused_alike() -> None:
    vera, operators = a_principal(pumps={Role.VIEWER}), frozenset({Role.OPERATOR})

    for owner in (None, "fans", ""):
        with pytest.raises(NotFound, match="no such model"):
            see(vera, owner, "There is no such model.")
        with pytest.raises(NotFound, match="no such model"):
            act(vera, owner, operators, "There is no such model.")
    see(vera, "pumps")
    with pytest.raises(NotPermitted, match="In team pumps this needs the role operator"):
        act(vera, "pumps", operators)


def test_a_name_has_what_all_its_keys_and_its_person_grant(tmp_path: Path) -> None:
    document = {
        "keys": [
            an_entry("tw_a", roles=["producer"], teams=["pumps"]),
            an_entry("tw_b", roles=["admin"], revoked=True),
        ],
        "people": [
            {
                "subject": "v@example.org",
                "principal": "vera",
                "grants": [{"team": "pumps", "roles": ["approver"]}],
            }
        ],
    }
    (tmp_path / "keys").write_text(json.dumps(document))
    keys = Keys(tmp_path / "keys")

    vera = keys.named("vera")

    assert vera is not None
    assert vera.grants == {"pumps": frozenset({Role.PRODUCER, Role.APPROVER})}
    assert keys.named("ada") is None
    assert keys.person("v@example.org") is not None
    assert keys.person("vera") is None
