"""What a service's HTTP door needs in a test: a file of keys, one per role, and settings."""

from __future__ import annotations

import json
from pathlib import Path

from shared.access import Role, hash_of
from shared.settings import ServiceSettings


def door_settings(folder: Path) -> ServiceSettings:
    """Settings whose keys are `tw_<role>`, each held by `the-<role>`; nothing is listened on."""
    keys = folder / "keys.json"
    entries = [
        {"id": role, "hash": hash_of(f"tw_{role}"), "roles": [role], "principal": f"the-{role}"}
        for role in Role
    ]
    keys.write_text(json.dumps({"keys": entries}))
    return ServiceSettings(
        kafka="127.0.0.1:1",
        artifacts=f"file://{folder}",
        port=0,
        admin_port=0,
        keys_file=str(keys),
    )
