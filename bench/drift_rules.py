"""Common drift rules on the same windows: tests per column, distances, always and never.

Evidently's are its own tests with its own defaults. River's detectors run in an environment of
their own (`drift_river`), because they pin what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from numpy.typing import NDArray
from scipy.special import kolmogorov
from scipy.stats import chi2

from bench.drift_worlds import Columns

Floats = NDArray[np.float64]
Rule = Callable[[Columns], bool]

_MOST_OF_PSI: Final = 20
"""Levels above which a category is left out of the gentler PSI rule."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that judge windows against the rows of one reference."""

    reference: Columns

    def all(self) -> dict[str, Rule]:
        """By name."""
        return {
            "evidently_any": lambda rows: any(self._evidently(rows)),
            "evidently_dataset": lambda rows: bool(np.mean(self._evidently(rows)) >= 0.5),
            "ks_0_05_any": lambda rows: min(self.p_values(rows)) < 0.05,
            "ks_bonferroni_0_05": lambda rows: min(self.p_values(rows)) < 0.05 / len(rows),
            "ks_bonferroni_0_001": lambda rows: min(self.p_values(rows)) < 0.001 / len(rows),
            "psi_0_1": lambda rows: max(self._psi(rows)) >= 0.1,
            "psi_0_1_few_levels": lambda rows: max(self._psi(rows, few=True)) >= 0.1,
            "always": lambda _: True,
            "never": lambda _: False,
        }

    def p_values(self, rows: Columns) -> list[float]:
        """Kolmogorov and Smirnov per number, chi square per category."""
        return [
            _chi_square(known, mine) if known.dtype == object else _smirnov(known, mine)
            for known, mine in zip(self.reference, rows, strict=True)
        ]

    def _psi(self, rows: Columns, *, few: bool = False) -> list[float]:
        return [
            _psi(known, mine)
            for known, mine in zip(self.reference, rows, strict=True)
            if not (few and known.dtype == object and len(set(known.tolist())) > _MOST_OF_PSI)
        ]

    def _evidently(self, rows: Columns) -> list[bool]:
        found = []
        for known, mine in zip(self.reference, rows, strict=True):
            kind = ColumnType.Categorical if known.dtype == object else ColumnType.Numerical
            before, after = pd.Series(known).dropna(), pd.Series(mine).dropna()
            test: Any = get_stattest(before, after, kind)
            found.append(bool(test(before, after, kind, None).drifted))
        return found


def _smirnov(known: Floats, mine: Floats) -> float:
    before, after = (np.sort(part[np.isfinite(part)]) for part in (known, mine))
    both = np.concatenate([before, after])
    apart = np.searchsorted(before, both, side="right") / len(before) - (
        np.searchsorted(after, both, side="right") / len(after)
    )
    size = len(before) * len(after) / (len(before) + len(after))
    return float(kolmogorov(np.sqrt(size) * np.abs(apart).max()))


def _chi_square(known: NDArray[Any], mine: NDArray[Any]) -> float:
    levels = sorted({*known.tolist(), *mine.tolist()})
    table = np.array([[np.sum(part == level) for level in levels] for part in (known, mine)])
    expected = table.sum(axis=0) * table.sum(axis=1, keepdims=True) / table.sum()
    return float(chi2.sf(np.sum(np.square(table - expected) / expected), len(levels) - 1))


def _psi(known: NDArray[Any], mine: NDArray[Any]) -> float:
    if known.dtype == object:
        levels = sorted({*known.tolist(), *mine.tolist()})
        shares = [np.array([np.mean(part == v) for v in levels]) for part in (known, mine)]
    else:
        edges = np.unique(np.nanquantile(known, np.linspace(0.1, 0.9, 9)))
        places = [np.searchsorted(edges, part[~np.isnan(part)]) for part in (known, mine)]
        shares = [np.bincount(p, minlength=len(edges) + 1) / max(len(p), 1) for p in places]
    before, after = (np.maximum(share, 1e-4) for share in shares)
    return float(np.sum((after - before) * np.log(after / before)))


def tally(rules: dict[str, Rule], windows: Sequence[Columns]) -> dict[str, int]:
    """How many of these windows each rule calls drifted."""
    return {name: sum(rule(rows) for rows in windows) for name, rule in rules.items()}
