"""The real tools of Prometheus and Alertmanager, or a word on why a test is skipped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ops.running import missing

needs_tools = pytest.mark.skipif(
    bool(missing()),
    reason=f"{', '.join(missing())} not installed; as root `make system-tools` installs them",
)


def run(tool: str, *arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool, *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
