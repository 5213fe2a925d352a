"""API keys of a local stack: made at random, kept as hashes where the services look."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

from local.private import read_private, write_private

ROLES = (
    "admin",
    "viewer",
    "producer",
    "predictor",
    "data_scientist",
    "approver",
    "operator",
    "auditor",
)


def new_key() -> str:
    return "tw_" + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def settle_keys(plain_file: Path, hashed_file: Path) -> dict[str, str]:
    """One key per role: those of last time, and new ones where there were none."""
    known = read_private(plain_file)
    keys = {role: known.get(role) or new_key() for role in ROLES}
    if keys != known:
        write_private(plain_file, keys)
    wanted = {"keys": [_entry(role, key) for role, key in keys.items()]}
    if _content(hashed_file) != wanted:
        write_private(hashed_file, wanted)
    return keys


def _entry(role: str, key: str) -> dict[str, object]:
    return {
        "id": f"local-{role}",
        "hash": hashed(key),
        "roles": [role],
        "teams": ["*"],
        "principal": f"local-{role}",
    }


def _content(file: Path) -> object:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
