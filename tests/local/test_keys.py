from __future__ import annotations

import json
import re
import stat
from pathlib import Path

from local.keys import ROLES, hashed, settle_keys
from shared.access import Keys, Role
from shared.signing import read_signers, read_signing_key


def test_every_role_gets_a_key_of_its_own(tmp_path: Path) -> None:
    keys = settle_keys(tmp_path / "plain.json", tmp_path / "hashed.json")

    assert set(ROLES) == {str(role) for role in Role}
    assert len(set(keys.values())) == len(ROLES)
    assert all(re.fullmatch(r"tw_[A-Za-z0-9_-]{43}", key) for key in keys.values())


def test_the_services_read_what_was_written(tmp_path: Path) -> None:
    keys = settle_keys(tmp_path / "plain.json", tmp_path / "hashed.json")

    found = Keys(tmp_path / "hashed.json").principal(keys["approver"])

    assert found is not None
    assert found.grants == {"*": frozenset({Role.APPROVER})}


def test_the_file_for_the_services_holds_no_key(tmp_path: Path) -> None:
    keys = settle_keys(tmp_path / "plain.json", tmp_path / "hashed.json")

    written = (tmp_path / "hashed.json").read_text()

    assert not any(key in written for key in keys.values())


def test_both_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    files = [tmp_path / "plain.json", tmp_path / "hashed.json"]

    settle_keys(*files)

    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]


def test_keys_are_kept_and_missing_ones_added(tmp_path: Path) -> None:
    plain, hashed_file = tmp_path / "plain.json", tmp_path / "hashed.json"
    first = settle_keys(plain, hashed_file)
    plain.write_text(json.dumps({"admin": first["admin"]}))

    second = settle_keys(plain, hashed_file)

    assert second["admin"] == first["admin"]
    assert second["viewer"] != first["viewer"]
    assert hashed(second["viewer"]) in hashed_file.read_text()


def test_the_registry_gets_a_signing_key_whose_public_half_is_listed(tmp_path: Path) -> None:
    plain, hashed_file, signing = (tmp_path / n for n in ("plain.json", "hashed.json", "sign.json"))

    settle_keys(plain, hashed_file, signing)
    settle_keys(plain, hashed_file, signing)

    key = read_signing_key(signing.read_bytes())
    known = read_signers(hashed_file.read_bytes())
    assert stat.S_IMODE(signing.stat().st_mode) == 0o600
    assert list(known) == [key.id]
    assert known[key.id].public == key.public
    assert known[key.id].signer.speaks_for("anybody")
    assert json.loads(signing.read_text())["private_key"] not in hashed_file.read_text()


def test_what_others_added_to_the_file_of_hashes_stays(tmp_path: Path) -> None:
    plain, hashed_file = tmp_path / "plain.json", tmp_path / "hashed.json"
    settle_keys(plain, hashed_file)
    file = json.loads(hashed_file.read_text())
    vera = {"id": "vera", "hash": hashed("tw_v"), "roles": ["viewer"], "principal": "vera"}
    person = {"subject": "v", "principal": "vera", "grants": [{"team": "a", "roles": ["viewer"]}]}
    hashed_file.write_text(json.dumps(file | {"keys": [*file["keys"], vera], "people": [person]}))

    settle_keys(plain, hashed_file)

    keys = Keys(hashed_file)
    assert keys.principal("tw_v") is not None
    assert keys.person("v") is not None
