from __future__ import annotations

import json
import re
import stat
from pathlib import Path

from local.keys import ROLES, hashed, settle_keys
from shared.access import Role, read_keys


def test_every_role_gets_a_key_of_its_own(tmp_path: Path) -> None:
    keys = settle_keys(tmp_path / "plain.json", tmp_path / "hashed.json")

    assert set(ROLES) == {str(role) for role in Role}
    assert len(set(keys.values())) == len(ROLES)
    assert all(re.fullmatch(r"tw_[A-Za-z0-9_-]{43}", key) for key in keys.values())


def test_the_services_read_what_was_written(tmp_path: Path) -> None:
    keys = settle_keys(tmp_path / "plain.json", tmp_path / "hashed.json")

    principals = read_keys((tmp_path / "hashed.json").read_bytes())

    assert principals[hashed(keys["approver"])].roles == {Role.APPROVER}


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
