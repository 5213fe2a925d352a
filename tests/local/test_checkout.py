"""What a checkout holds for a newcomer: the command, and dataset versions to publish."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.demo.data import Series, day, write_csv
from local.paths import CHECKOUT


def test_the_command_of_a_checkout_runs_from_any_folder(tmp_path: Path) -> None:
    home = tmp_path / "a checkout"
    programs = home / ".venv" / "bin"
    programs.mkdir(parents=True)
    for part in ("client", "shared"):
        (home / part).symlink_to(CHECKOUT / part)
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    shutil.copy(CHECKOUT / "local" / "tidewheel.sh", programs / "tidewheel")
    for program in programs.iterdir():
        program.chmod(0o755)

    done = subprocess.run(
        [programs / "tidewheel", "check", CHECKOUT / "local" / "data" / "water-flow.yaml"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "the specification is right\n")


@pytest.mark.parametrize("last", [10, 17])
def test_the_versions_to_publish_are_made_of_the_series(tmp_path: Path, last: int) -> None:
    made = write_csv(tmp_path / "made.csv", Series.read().rows_until(day(4, last)))

    committed = CHECKOUT / "local" / "data" / f"until-{last}-april.csv"

    assert committed.read_text().splitlines() == made.read_text().splitlines()
