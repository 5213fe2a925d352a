"""Whose rights and which folders: as root, below private folders, and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from local import unprivileged
from local.binaries import copy_binaries, wheel_package
from local.errors import WrongDatabaseVersion
from local.jars import cache_folder, kafka_jars
from local.paths import CHECKOUT
from local.process import Account
from local.stack import Infrastructure
from local.unprivileged import can_run
from tests.support.stack import temporary_folder

pytestmark = pytest.mark.real

AS_ROOT = os.geteuid() == 0
LIBRARIES = Path(sysconfig.get_paths()["purelib"])

START = """
import sys
from pathlib import Path
from local.stack import Infrastructure
with Infrastructure(Path(sys.argv[1])) as started:
    started.create_database("mine")
    print("answers at", started.kafka)
"""


@pytest.fixture
def nobody() -> Account:
    account = unprivileged.account()
    if account is None:
        pytest.skip("an ordinary user has no other account")
    return account


def test_below_a_private_folder_the_data_moves_outside_and_is_deleted_with_the_rest(
    nobody: Account, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    infrastructure = Infrastructure(private / "stack", durable=False).start()
    places = infrastructure.places
    try:
        first = infrastructure.create_database("kept")
        infrastructure.close()
        infrastructure.start()
        infrastructure.database.execute("create table fact (id int)", database="kept")

        outside = places.outside()
        owner = places.postgres.resolve().stat().st_uid
    finally:
        infrastructure.delete()

    assert first == infrastructure.postgres_url("kept")
    assert owner == nobody.uid
    assert outside.parts[:4] == ("/", "var", "lib", "tidewheel")
    assert not outside.exists()
    assert not places.folder.exists()


def test_copied_binaries_run_under_the_unprivileged_account(nobody: Account) -> None:
    with temporary_folder() as folder:
        copy_binaries(wheel_package(), folder)

        binary = folder / wheel_package().name / "pginstall18" / "bin" / "postgres"

        assert can_run(binary, nobody)


def test_an_ordinary_user_starts_everything_in_a_folder_of_its_own(nobody: Account) -> None:
    interpreter = _interpreter_for(nobody)
    with temporary_folder() as home:
        _copy_jars(home / ".cache" / "tidewheel")
        _give(home, nobody)

        started = subprocess.run(
            [str(interpreter), "-c", START, str(home / "stack")],
            user=nobody.uid,
            group=nobody.gid,
            extra_groups=[],
            cwd=home,
            env={"HOME": str(home), "PYTHONPATH": f"{CHECKOUT}:{LIBRARIES}", "PATH": os.defpath},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

        assert started.returncode == 0, started.stderr
        assert started.stdout.startswith("answers at 127.0.0.1:")


def test_the_systems_own_database_works_and_is_not_mixed_with_the_other() -> None:
    if shutil.which("postgres") is None:
        pytest.skip("this system has no PostgreSQL of its own")
    with temporary_folder() as folder:
        with Infrastructure(folder / "stack", durable=False, system_postgres=True) as started:
            started.create_database("own")
        other = Infrastructure(folder / "stack", durable=False)

        with pytest.raises(WrongDatabaseVersion, match="use the same as before"):
            other.start()

        other.delete()


def _interpreter_for(account: Account) -> Path:
    """One of this version that the account may run: a virtual environment may be private."""
    name = f"python3.{sys.version_info.minor}"
    for candidate in (Path(sys.executable), Path("/usr/bin") / name):
        if candidate.exists() and can_run(candidate, account):
            return candidate
    pytest.skip(f"user {account.uid} may run no {name} here")


def _copy_jars(cache: Path) -> None:
    jars = kafka_jars(cache_folder(cache))
    shutil.copytree(jars, cache / jars.name)


def _give(folder: Path, account: Account) -> None:
    for one in (folder, *folder.rglob("*")):
        os.chown(one, account.uid, account.gid)
