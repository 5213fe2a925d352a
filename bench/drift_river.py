"""River's ADWIN and Page-Hinkley on the windows of the mixed world, in their own environment."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench import peers
from bench.drift_worlds import DRIFTS, NUMBERS, Columns, Mixed
from bench.simulation import chance

PIN: Final = "river==0.26.1"
BEFORE: Final = 2000
"""Rows that a detector learns from; one update takes 70 microseconds."""
_WANTED: Final = ("mean_0_2_sd", "scale_1_2")
_SECONDS: Final = 1500
"""On one busy core, for the largest size."""


def run(seed: int, windows: int, trials: int, rows: int) -> dict[str, dict[str, float]] | None:
    """Shares of windows with a detection, clean and drifted; None without river.

    Args:
        windows: clean ones, in one stream.
        trials: single drifted windows, each after the reference.
    """
    python = peers.interpreter("river", [PIN])
    if python is None:
        return None
    draw = chance(seed, "river")
    world = Mixed.drawn(draw)
    arrays = {
        "before": _numbers(world.rows(draw, BEFORE)),
        "clean": np.stack([_numbers(world.rows(draw, rows)) for _ in range(windows)]),
    }
    for name in _WANTED:
        for trial in range(trials):
            arrays[f"{name}:{trial}"] = _numbers(DRIFTS[name](draw, world, trial, rows))[None]
    counts = peers.ask(python, "river_rules.py", arrays, seconds=_SECONDS)
    if counts is None:
        return None
    return {
        rule: {"clean": found["clean"] / windows}
        | {name: sum(found[f"{name}:{i}"] for i in range(trials)) / trials for name in _WANTED}
        for rule, found in counts.items()
    }


def _numbers(columns: Columns) -> NDArray[np.float64]:
    return np.column_stack(columns[:NUMBERS])
