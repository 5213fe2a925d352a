"""API keys of a local stack, and the registry's signing key.

Made at random; where the services look, there are hashes and public keys only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

from local.private import read_private, write_private
from shared.signing import SigningKey

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


def settle_keys(
    plain_file: Path, hashed_file: Path, signing_file: Path | None = None
) -> dict[str, str]:
    """One key per role: those of last time, and new ones where there were none.

    What others added to the file of hashes stays: more keys, people of an issuer, more signers.
    With `signing_file` the registry's key is in it, and its public half among the signers.
    """
    known = read_private(plain_file)
    keys = {role: known.get(role) or new_key() for role in ROLES}
    if keys != known:
        write_private(plain_file, keys)
    before = _content(hashed_file)
    ours = [_entry(role, key) for role, key in keys.items()]
    signers = [] if signing_file is None else [_signer(settle_signing_key(signing_file))]
    wanted = before | {"keys": ours + _others(before.get("keys"), ours)}
    # A signing key that is gone is not trusted any longer.
    strangers = [one for one in _others(before.get("signers"), signers) if not _is_registrys(one)]
    wanted["signers"] = signers + strangers
    if before != wanted:
        write_private(hashed_file, wanted)
    return keys


def settle_signing_key(file: Path) -> dict[str, str]:
    """The key with which the registry signs, made once: `id`, `private_key`, `public_key`."""
    known = read_private(file)
    if not {"id", "private_key", "public_key"} <= set(known):
        made = SigningKey(id=f"registry-{secrets.token_hex(4)}", secret=secrets.token_bytes(32))
        known = {"id": made.id, "private_key": _text(made.secret), "public_key": _text(made.public)}
        write_private(file, known)
    return known


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _signer(key: dict[str, str]) -> dict[str, object]:
    return {
        "id": key["id"],
        "principal": "registry",
        "public_key": key["public_key"],
        "speaks_for": "all",
    }


def _entry(role: str, key: str) -> dict[str, object]:
    return {
        "id": f"local-{role}",
        "hash": hashed(key),
        "roles": [role],
        "teams": ["*"],
        "principal": f"local-{role}",
    }


def _others(entries: Any, ours: list[dict[str, object]]) -> list[Any]:
    """The entries whose ids are not ours."""
    taken = {entry["id"] for entry in ours}
    return [one for one in entries or [] if not isinstance(one, dict) or one.get("id") not in taken]


def _is_registrys(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("principal") == "registry"


def _content(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
