"""Secrets made here at random and kept in files that only their owner reads."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_private(file: Path, content: object) -> None:
    """Replace the file in one step; it is never readable by others, not even for a moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(content, out, indent=2)
        out.write("\n")
    draft.replace(file)


def read_private(file: Path) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        return {}
