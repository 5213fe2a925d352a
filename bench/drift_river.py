"""River's ADWIN and Page-Hinkley on the windows of the mixed world, in their own environment."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from bench.drift_worlds import DRIFTS, NUMBERS, Columns, Mixed
from bench.simulation import chance, screen
from local.paths import CHECKOUT

PIN: Final = "river==0.26.1"
FOLDER: Final = CHECKOUT / ".venv-bench" / "river"
PROGRAM: Final = Path(__file__).parent / "drift_peers" / "river_rules.py"
BEFORE: Final = 2000
"""Rows that a detector learns from; one update takes 70 microseconds."""
_SECONDS: Final = 400


def run(seed: int, windows: int, trials: int, rows: int) -> dict[str, dict[str, float]] | None:
    """Shares of windows with a detection, clean and drifted; None without river.

    Args:
        windows: clean ones, in one stream.
        trials: single drifted windows, each after the reference.
    """
    python = _python()
    if python is None:
        return None
    draw = chance(seed, "river")
    world = Mixed.drawn(draw)
    wanted = ("mean_0_2_sd", "scale_1_2")
    streams = {"clean": np.stack([_numbers(world.rows(draw, rows)) for _ in range(windows)])}
    for name in wanted:
        for trial in range(trials):
            drifted = _numbers(DRIFTS[name](draw, world, trial, rows))
            streams[f"{name}:{trial}"] = drifted[None]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "streams.npz"
        np.savez(path, before=_numbers(world.rows(draw, BEFORE)), **streams)  # type: ignore[arg-type]  # names are free
        command = [str(python), str(PROGRAM), str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    if done.returncode:
        screen.print(f"river failed: {done.stderr[-300:]}")
        return None
    counts = json.loads(done.stdout)
    return {
        rule: {"clean": found["clean"] / windows}
        | {name: sum(found[f"{name}:{i}"] for i in range(trials)) / trials for name in wanted}
        for rule, found in counts.items()
    }


def _numbers(columns: Columns) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.column_stack(columns[:NUMBERS])


def _python() -> Path | None:
    """The interpreter with river; made when it is missing, None where it cannot be had."""
    python = FOLDER / "bin" / "python"
    made = FOLDER / "pins"
    if made.exists() and made.read_text() == PIN:
        return python
    uv = str(CHECKOUT / ".venv/bin/uv")
    base = str(CHECKOUT / ".venv/bin/python")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", base, str(FOLDER)],
        [uv, "pip", "install", "--quiet", "--python", str(python), PIN],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            screen.print(f"river is not installed: {done.stderr.strip()[-200:]}")
            return None
    made.write_text(PIN)
    return python
