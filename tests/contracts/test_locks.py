"""The locks hold names, versions and hashes, agree with each other, and name no address."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEMBERS = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))
LOCKS = sorted([*(m / "requirements.lock" for m in MEMBERS), ROOT / "client/requirements.lock"])
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def pins(lock: Path) -> dict[str, str]:
    return dict(PIN.findall(lock.read_text(encoding="utf-8")))


def test_there_are_six_services_and_each_has_a_lock() -> None:
    assert len(MEMBERS) == 6
    assert [lock for lock in LOCKS if not lock.exists()] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.parent.name)
def test_every_pin_equals_the_root_pin(lock: Path) -> None:
    root = pins(ROOT / "constraints.lock")

    assert {name: root.get(name) for name in pins(lock)} == pins(lock)


@pytest.mark.parametrize(
    "path",
    [
        ROOT / "constraints.lock",
        *LOCKS,
        *ROOT.glob("*.toml"),
        *ROOT.glob("[!.]*/**/pyproject.toml"),
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_no_lock_and_no_project_file_names_an_address(path: Path) -> None:
    assert "://" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("lock", [ROOT / "constraints.lock", *LOCKS], ids=lambda p: p.parent.name)
def test_every_pin_has_a_hash(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")

    assert text.count("==") >= 10
    for block in re.split(r"\n(?=[a-z0-9])", text):
        if "==" in block.splitlines()[0]:
            assert "--hash=sha256:" in block, block.splitlines()[0]
