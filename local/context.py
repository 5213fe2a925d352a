"""The file by which the `tidewheel` command and people's scripts find a running stack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from local.private import write_private


def write_context(
    file: Path,
    *,
    services: Mapping[str, str],
    admin: Mapping[str, str],
    kafka: str,
    artifacts: str,
    keys_file: Path,
    key: str,
) -> None:
    """Readable by its owner only, because it holds the admin's key."""
    write_private(
        file,
        {
            "name": "local",
            "services": dict(services),
            "admin": dict(admin),
            "kafka": kafka,
            "artifacts": artifacts,
            "keys_file": str(keys_file),
            "key": key,
        },
    )
