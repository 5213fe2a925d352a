"""What the simulations share: chance by name, rates with their intervals, tables, one JSON line."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

screen = Console(stderr=True, width=None if sys.stderr.isatty() else 150)
"""Progress and everything for people; the standard output is for programs."""

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something happened, with its Clopper-Pearson interval at 95 %.

    Source: Clopper and Pearson (1934), Biometrika 26(4).
    """

    hits: int
    runs: int

    @property
    def share(self) -> float:
        return self.hits / self.runs if self.runs else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        tail = (1 - _CONFIDENCE) / 2
        missed = self.runs - self.hits
        low = float(beta.ppf(tail, self.hits, missed + 1)) if self.hits else 0.0
        high = float(beta.ppf(1 - tail, self.hits + 1, missed)) if missed else 1.0
        return low, high

    def is_at_most(self, limit: float) -> bool:
        """Whether the runs do not speak against a promise of at most this."""
        return self.interval[0] <= limit

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.3f} [{low:.3f}, {high:.3f}]"


def figures_of(name: str, rate: Rate) -> dict[str, Any]:
    """A rate and its interval, as named figures."""
    low, high = rate.interval
    return {name: round(rate.share, 4), f"{name}_interval": [round(low, 4), round(high, 4)]}


def chance(*names: object) -> np.random.Generator:
    """Numbers that depend on the names alone, not on what was drawn before."""
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def median(values: Sequence[float]) -> float | None:
    """The middle one; None without any."""
    return float(np.median(values)) if len(values) else None


def print_environment(seed: int, **sizes: object) -> dict[str, Any]:
    """Print what a run depends on, and give it back for the JSON line."""
    facts = {
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "scikit_learn": version("scikit-learn"),
        "scipy": version("scipy"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "seed": seed,
        **sizes,
    }
    screen.print(", ".join(f"{name} {value}" for name, value in facts.items()), highlight=False)
    return facts


def print_table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows under the names of their first one's columns."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for name in rows[0]:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*[_cell(row.get(name)) for name in rows[0]])
    screen.print(shown)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def print_json(figures: Mapping[str, Any]) -> None:
    """The last line of a benchmark."""
    print(json.dumps(figures), flush=True)
