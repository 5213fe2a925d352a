"""Common drift rules on the same windows: tests per column, distances, always and never.

Evidently's are its own tests with its own defaults. River's detectors run in an environment of
their own (`drift_river`), because they pin what they need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
_MOST_LEVELS: Final = 20
"""Levels above which a category is left out of the gentler PSI rule."""
_DECILES: Final = np.linspace(0.1, 0.9, 9)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that judge windows against the rows of one reference."""

    reference: Columns
    known: tuple[Counter[Any] | Floats, ...]

    @classmethod
    def of(cls, reference: Columns) -> Rules:
        known = (
            Counter(c.tolist()) if c.dtype == object else np.sort(c[np.isfinite(c)])
            for c in reference
        )
        return cls(reference, tuple(known))

    def judge(self, rows: Columns, *, evidently: bool = True) -> dict[str, bool]:
        """What each rule says of a window."""
        p = min(self._p_values(rows))
        wide, few = self._psi(rows)
        found = self._evidently(rows) if evidently else [False]
        return {
            "evidently_any": any(found),
            "evidently_dataset": bool(np.mean(found) >= 0.5),
            "ks_0_05_any": p < 0.05,
            "ks_bonferroni_0_05": p < 0.05 / len(rows),
            "ks_bonferroni_0_001": p < 0.001 / len(rows),
            "psi_0_1": max(wide) >= 0.1,
            "psi_0_1_few_levels": max(few) >= 0.1,
            "always": True,
            "never": False,
        }

    def _p_values(self, rows: Columns) -> list[float]:
        """Kolmogorov and Smirnov per number, chi square per category."""
        return [
            _chi_square(known, Counter(mine.tolist()))
            if isinstance(known, Counter)
            else _smirnov(known, np.sort(mine[np.isfinite(mine)]))
            for known, mine in zip(self.known, rows, strict=True)
        ]

    def _psi(self, rows: Columns) -> tuple[list[float], list[float]]:
        """Of all columns, and without categories of many levels."""
        found = [_psi(*_shares(known, mine)) for known, mine in zip(self.known, rows, strict=True)]
        few = [
            value
            for value, known in zip(found, self.known, strict=True)
            if not isinstance(known, Counter) or len(known) <= _MOST_LEVELS
        ]
        return found, few

    def _evidently(self, rows: Columns) -> list[bool]:
        found = []
        for known, mine in zip(self.reference, rows, strict=True):
            kind = ColumnType.Categorical if known.dtype == object else ColumnType.Numerical
            before, after = pd.Series(known).dropna(), pd.Series(mine).dropna()
            test: Any = get_stattest(before, after, kind, None)
            found.append(bool(test(before, after, kind, None).drifted))
        return found


def _smirnov(before: Floats, after: Floats) -> float:
    both = np.concatenate([before, after])
    apart = np.searchsorted(before, both, side="right") / len(before) - (
        np.searchsorted(after, both, side="right") / len(after)
    )
    size = len(before) * len(after) / (len(before) + len(after))
    return float(kolmogorov(np.sqrt(size) * np.abs(apart).max()))


def _chi_square(before: Counter[Any], after: Counter[Any]) -> float:
    levels = sorted({*before, *after})
    table = np.array([[part[level] for level in levels] for part in (before, after)])
    expected = table.sum(axis=0) * table.sum(axis=1, keepdims=True) / table.sum()
    return float(chi2.sf(np.sum(np.square(table - expected) / expected), len(levels) - 1))


def _shares(known: Counter[Any] | Floats, mine: NDArray[Any]) -> tuple[Floats, Floats]:
    if isinstance(known, Counter):
        after = Counter(mine.tolist())
        levels = sorted({*known, *after})
        before, here = (np.array([part[v] for v in levels]) for part in (known, after))
    else:
        edges = np.unique(np.quantile(known, _DECILES))
        before, here = (
            np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1)
            for part in (known, mine[np.isfinite(mine)])
        )
    return before / before.sum(), here / max(int(here.sum()), 1)


def _psi(before: Floats, after: Floats) -> float:
    before, after = np.maximum(before, 1e-4), np.maximum(after, 1e-4)
    return float(np.sum((after - before) * np.log(after / before)))


def tally(rules: Rules, windows: Sequence[Columns], *, evidently: bool = True) -> Counter[str]:
    """How many of these windows each rule calls drifted."""
    found: Counter[str] = Counter()
    for rows in windows:
        found.update(
            {n: int(is_drift) for n, is_drift in rules.judge(rows, evidently=evidently).items()}
        )
    return found
