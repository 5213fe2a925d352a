"""A disk without room: a replica starts and answers as before, and says what it could not log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.paths import CHECKOUT
from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from tests.serving.alone import prepare
from tests.serving.building import a_desired, a_version


def answers_without_room(settings: Settings) -> dict[str, Any]:
    """What a process says that begins while no file may grow."""
    told = settings.data.parent / "settings.json"
    told.write_text(settings.model_dump_json(exclude_defaults=True))
    done = subprocess.run(
        [sys.executable, "-m", "tests.serving.full_disk", str(told)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith('{"told"')]
    found: dict[str, Any] = json.loads(line)
    return found


def set_aside(folder: Path) -> list[Path]:
    return list(folder.glob("*.damaged"))


@pytest.mark.parametrize(
    ("lineage", "told", "gaps"),
    [("best_effort", [200, "champion"], 5), ("required", [503, "spool_full"], 0)],
)
async def test_a_replica_that_starts_on_a_full_disk_answers_what_it_may(
    settings: Settings, store: ArtifactStore, lineage: str, told: list[Any], gaps: int
) -> None:
    await prepare(settings, a_desired(1, a_version(store, 1, lineage=lineage)))

    found = answers_without_room(settings)

    assert found == {"told": [told] * 5, "gaps": gaps}
    assert set_aside(settings.data) == []
