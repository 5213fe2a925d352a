"""Whether a window of rows still looks like the reference: tests on counts, each with its level.

The level `alpha` is the probability that a window without any change is called drifted, all tests
of all features together (Bonferroni). A warning says that something is statistically real; critical
says that the effect is shown to be larger than its tolerance.
"""

from dataclasses import dataclass
from typing import Final, Literal

from services.drift_monitor.detection.features import Feature, Severity, worst
from services.drift_monitor.detection.words import in_words
from shared.events import FeatureDrift
from shared.reference import ANSWER, SCORE, Reference
from shared.sketch import Cells, Counts, NumberCells

__all__ = ["ALPHA", "Comparison", "Mode", "Severity", "compare", "in_words"]

ALPHA: Final = 5e-4
MOST_FEATURES: Final = 50
"""So many of the features are named in an event, the worst ones."""
_HALF: Final = 0.5
_NOT_A_CHANCE: Final = 0.0

Mode = Literal["block", "independent", "insufficient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One window against the reference.

    Attributes:
        features: worst first; `p_value` counts all tests and features, so it is held against
            `alpha` as it stands.
        detail: the same in words.
    """

    severity: Severity | None
    alpha: float
    mode: Mode
    features: tuple[FeatureDrift, ...]
    detail: str


def compare(reference: Reference, counts: Counts, *, alpha: float = ALPHA) -> Comparison:
    """Test a closed window.

    Args:
        counts: of the window, in the reference's layout.
        alpha: probability of calling an unchanged window drifted.
    """
    windows = reference.layout.split(counts)
    rows = int(windows[0].sum()) if windows else 0
    scale = reference.scale_for(rows)
    if scale is None or not rows:
        return _without_calibration(reference, windows, rows, alpha)
    found = []
    untested = []
    for cell, window, known, factors in zip(
        reference.layout.features, windows, reference.counts, scale.factors, strict=True
    ):
        if factors is None:
            untested.append(cell.name)
        else:
            share = alpha / len(windows)
            found.append(
                worst(
                    Feature(
                        cells=cell, counts=window, reference=known, factors=factors, share=share
                    ),
                    alpha,
                )
            )
    mode: Mode = "block" if scale.blocks else "independent"
    return _concluded(
        found,
        alpha,
        mode,
        _basis(mode, scale.blocks, scale.length, untested),
    )


def _without_calibration(
    reference: Reference, windows: list[Counts], rows: int, alpha: float
) -> Comparison:
    """Nothing is guessed: only a feature that is mostly missing or out of range is called so."""
    found = [
        _mostly_outside(cell, window, known, rows)
        for cell, window, known in zip(
            reference.layout.features, windows, reference.counts, strict=True
        )
        # The few held-out rows span a narrow range: answers leave it without any change.
        if cell.name not in (ANSWER, SCORE)
    ]
    why = reference.reason or (
        f"{reference.rows} training rows are too few to know how much windows of {rows} rows "
        "vary by chance"
    )
    return _concluded(found, alpha, "insufficient", f"not tested: {why}")


def _mostly_outside(
    cell: Cells, window: Counts, known: Counts, rows: int
) -> tuple[FeatureDrift, Severity | None]:
    strange = [-1, 0, -2] if isinstance(cell, NumberCells) else [-1, -2]
    share = float(window[strange].sum()) / max(rows, 1)
    usual = float(known[strange].sum()) / max(int(known.sum()), 1)
    is_most = share - usual > _HALF
    drift = FeatureDrift(
        feature=cell.name,
        test="mostly_outside",
        statistic=share,
        p_value=_NOT_A_CHANCE if is_most else 1.0,
        effect=share - usual,
    )
    return drift, "warning" if is_most else None


def _basis(mode: Mode, blocks: int, length: int, untested: list[str]) -> str:
    words = (
        f"calibrated on {blocks} blocks of {length} rows"
        if mode == "block"
        else "rows taken as independent"
    )
    return f"{words}; too few rows to test {', '.join(untested)}" if untested else words


def _concluded(
    found: list[tuple[FeatureDrift, Severity | None]], alpha: float, mode: Mode, basis: str
) -> Comparison:
    ordered = sorted(found, key=lambda one: (one[0].p_value, -abs(one[0].effect)))
    drifted = [one for one in ordered if one[1] is not None]
    severity: Severity | None = None
    if drifted:
        severity = "critical" if any(one[1] == "critical" for one in drifted) else "warning"
    said = f"{len(drifted)} of {len(found)} features differ" if drifted else "like the reference"
    if mode == "insufficient" and not drifted:
        said = "no verdict"
    worst = f"; worst: {in_words(drifted[0][0])}" if drifted else ""
    return Comparison(
        severity=severity,
        alpha=alpha,
        mode=mode,
        features=tuple(drift for drift, _ in ordered[:MOST_FEATURES]),
        detail=f"{said}{worst}; {basis}; alpha {alpha:g}",
    )
