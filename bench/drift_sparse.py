"""Clean windows of columns that say something in few rows: flags, zeros with exceptions, gaps.

Ten sparse numbers, some of them moved by one Gaussian copula, beside four normal ones. How sparse
numbers move together rests on a handful of rows, which a test must know.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np
from scipy.special import ndtri

from bench.drift_figures import clean_figures
from bench.drift_runs import HELD_OUT, REFERENCE, WINDOW, Tally, follow
from bench.drift_worlds import Columns, Floats, model_of, numeric_rows, windows_of
from bench.simulation import chance, print_table, screen
from services.drift_monitor.detection import ALPHA

SHARES: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Of the rows in which a sparse number says something; a model has one of them."""
WORLDS: Final = ("flags", "flags_that_move_together", "zero_inflated", "often_missing", "mixture")
_SPARSE: Final = 10
_NORMAL: Final = 4
_TOGETHER: Final = 0.5
"""Variance that sparse numbers share where they move together."""


def sparse_figures(
    pool: ProcessPoolExecutor, models: int, windows: int, seed: int
) -> dict[str, Any]:
    """False alarms of all these worlds together, and of each."""
    found: dict[str, list[Tally]] = {}
    for name in WORLDS:
        make = partial(sparse, seed, name, windows=windows, alpha=ALPHA)
        found[name] = list(pool.map(make, range(models)))
        screen.print(f"sparse columns, {name}: {models} models")
    rows = [
        {
            "world": name,
            "clean windows": sum(t.windows for t in tallies),
            "alarms": sum(t.warnings for t in tallies),
            "critical": sum(t.critical for t in tallies),
        }
        for name, tallies in found.items()
    ]
    print_table("sparse columns", rows)
    alarms = {f"sparse_{row['world']}_alarms": row["alarms"] for row in rows}
    everything = [one for tallies in found.values() for one in tallies]
    return {**clean_figures(everything, "sparse_"), **alarms}


def sparse(seed: int, name: str, number: int, windows: int, alpha: float) -> Tally:
    """One model whose clean windows follow its reference."""
    draw = chance(seed, "sparse", name, number)
    share = SHARES[number % len(SHARES)]
    sizes = (REFERENCE, HELD_OUT // 4, windows * WINDOW)
    train, held, later = (_rows(draw, name, share, rows) for rows in sizes)
    return follow(model_of(train, held, WINDOW), windows_of(later, WINDOW), alpha)


def _rows(draw: np.random.Generator, name: str, share: float, count: int) -> Columns:
    normal = draw.normal(size=(count, _NORMAL))
    latent = draw.normal(size=(count, _SPARSE))
    if name == "flags_that_move_together":
        common = draw.normal(size=(count, 1))
        latent = np.sqrt(_TOGETHER) * common + np.sqrt(1 - _TOGETHER) * latent
    return numeric_rows(np.hstack([_sparse(draw, name, share, latent), normal]))


def _sparse(draw: np.random.Generator, name: str, share: float, latent: Floats) -> Floats:
    says = latent > -ndtri(share)
    match name:
        case "zero_inflated":
            found: Floats = np.where(says, draw.lognormal(size=latent.shape), 0.0)
        case "often_missing":
            found = np.where(says, draw.normal(size=latent.shape), np.nan)
        case "mixture":
            found = says.astype(np.float64)
            found[:, ::3] = np.where(says, latent, 0.0)[:, ::3]
            found[:, 1::3] = np.where(draw.random(latent.shape) < share, latent, np.nan)[:, 1::3]
        case _:
            found = says.astype(np.float64)
    return found
