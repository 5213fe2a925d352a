"""Whether windows of rows still look like the reference: tests on counts, each with its level.

The level `alpha` is the probability that a window without any change is called drifted, all tests
of all features and of all scales together (Bonferroni). A warning says that something is
statistically real; critical says that the effect is shown to be larger than its tolerance.
The verdict depends on stored sketches and the reference alone, so that it can be worked out again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from services.drift_monitor.detection.categories import category_findings
from services.drift_monitor.detection.finding import (
    TOLERATED_SHIFT,
    Finding,
    Severity,
    severity_of,
)
from services.drift_monitor.detection.numbers import number_findings
from services.drift_monitor.detection.outside import outside_findings
from services.drift_monitor.detection.prepared import Prepared, prepared
from services.drift_monitor.detection.scaling import Scales, merged_windows
from services.drift_monitor.detection.together import joint_findings
from services.drift_monitor.detection.words import NOT_TESTED, in_words, reason_of
from shared.budget import ALPHA
from shared.events import FeatureDrift
from shared.reference import Reference
from shared.sketch import Sketch

__all__ = [
    "ALPHA",
    "HISTORY",
    "MOST_FEATURES",
    "TOLERATED_SHIFT",
    "Comparison",
    "Mode",
    "Severity",
    "Tier",
    "compare",
    "in_words",
    "reason_of",
    "severity_of",
]

HISTORY: Final = 16
"""Windows that are looked at together at most, the newest one among them."""
MOST_FEATURES: Final = 50
"""So many of the features are named in an event, the worst ones."""

_SERIOUS: Final[dict[Severity | None, int]] = {"critical": 0, "warning": 1, None: 2}

Mode = Literal["block", "independent", "insufficient"]
Tier = Literal["clean", "warning", "critical", "insufficient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One window, alone and with those before it, against the reference.

    Attributes:
        features: worst first; `p_value` counts all tests, features and scales, so it is held
            against `alpha` as it stands. Pairs of numbers and all numbers at once are among them.
        detail: the same in words.
        scales: the numbers of windows that were taken together and tested.
        family_p: the smallest of the p-values.
    """

    severity: Severity | None
    alpha: float
    mode: Mode
    features: tuple[FeatureDrift, ...]
    detail: str
    scales: tuple[int, ...] = ()
    family_p: float = 1.0

    @property
    def tier(self) -> Tier:
        """One word for the verdict."""
        return self.severity or ("insufficient" if self.mode == "insufficient" else "clean")


def compare(
    reference: Reference,
    history: Sequence[Sketch] | NDArray[np.int64],
    *,
    alpha: float = ALPHA,
    shift: float = TOLERATED_SHIFT,
    season: str = "",
) -> Comparison:
    """Test a closed window, and as many before it as can be tested with it.

    Args:
        history: sketches of closed windows in the reference's layout, the newest one first, of one
            season; or the counts of a single window.
        alpha: probability of calling an unchanged window drifted.
        shift: reference standard deviations that no drift counts as critical below.
        season: of the windows; empty without seasons.
    """
    reference = reference.of_season(season)
    if isinstance(history, np.ndarray):
        history = [reference.layout.of_counts(history)]
    is_known = reference.mode == "independent" or reference.scales
    base = prepared(reference) if is_known else None
    scales = merged_windows(reference, base, history[:HISTORY], alpha) if base else None
    if base is None or scales is None:
        return _without_calibration(reference, history[0], alpha)
    found = [
        *number_findings(base, scales, shift),
        *category_findings(base, scales, shift),
        *joint_findings(base, scales, shift),
    ]
    mode: Mode = "block" if scales.chances[0].blocks else "independent"
    return _concluded(found, alpha, mode, _basis(base, scales), scales.windows)


def _without_calibration(reference: Reference, window: Sketch, alpha: float) -> Comparison:
    """Nothing is guessed: only what is mostly missing or outside anything seen is called so."""
    why = reference.reason or (
        f"{reference.rows} training rows are too few to know how much windows of {window.rows} "
        "rows vary by chance"
    )
    found = outside_findings(reference, window, alpha)
    return _concluded(found, alpha, "insufficient", f"{NOT_TESTED}{why}", ())


def _basis(base: Prepared, scales: Scales) -> str:
    known = scales.chances[0]
    words = (
        f"calibrated on {known.blocks} blocks of {known.length} rows"
        if known.blocks
        else "rows taken as independent"
    )
    untested = [base.names[place] for place in np.flatnonzero(~known.tested)]
    if untested:
        words = f"{words}; too few rows to test {', '.join(untested)}"
    return words


def _concluded(
    found: Sequence[Finding], alpha: float, mode: Mode, basis: str, scales: tuple[int, ...]
) -> Comparison:
    # Of several tests of a feature the most serious one speaks for it, then the most surprising.
    worst: dict[str, Finding] = {}
    ranks = list(map(_rank, found))
    for place in sorted(range(len(found)), key=ranks.__getitem__):
        worst.setdefault(found[place].feature, found[place])
    ordered = list(worst.values())
    severity = ordered[0].severity if ordered else None
    drifted = sum(one.surprise <= 1 for one in ordered) if severity else 0
    said = f"{drifted} of {len(ordered)} features differ" if drifted else "like the reference"
    if mode == "insufficient" and not drifted:
        said = "no verdict"
    features = tuple(one.said(alpha) for one in ordered[:MOST_FEATURES])
    first = f"; worst: {in_words(features[0])}" if drifted else ""
    return Comparison(
        severity=severity,
        alpha=alpha,
        mode=mode,
        features=features,
        detail=f"{said}{first}; {basis}; alpha {alpha:g}",
        scales=scales,
        family_p=min((alpha * one for _, one, _ in ranks if alpha * one <= 1), default=1.0),
    )


def _rank(one: Finding) -> tuple[int, float, float]:
    """Critical ones first, then warnings, then the rest, each from its most surprising one on."""
    surprise = one.surprise
    return _SERIOUS[one.severity if surprise <= 1 else None], surprise, -abs(one.effect)
