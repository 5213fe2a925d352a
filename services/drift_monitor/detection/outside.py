"""What can be said without knowing chance: a feature that is mostly gone, out of range or new."""

from typing import Final

from services.drift_monitor.detection.finding import Finding
from shared.reference import ANSWER, SCORE, Reference
from shared.sketch import Cells, Counts, NumberCells, Sketch

_HALF: Final = 0.5


def outside_findings(reference: Reference, window: Sketch, alpha: float) -> list[Finding]:
    """One finding per column; only rows that are mostly missing or never seen are a drift."""
    parts = reference.layout.split(window.counts)
    return [
        _mostly_outside(cell, counts, known, window.rows, alpha)
        for cell, counts, known in zip(
            reference.layout.features, parts, reference.counts, strict=True
        )
        # The few held-out rows span a narrow range: answers leave it without any change.
        if cell.name not in (ANSWER, SCORE)
    ]


def _mostly_outside(cell: Cells, window: Counts, known: Counts, rows: int, alpha: float) -> Finding:
    strange = [-1, 0, -2] if isinstance(cell, NumberCells) else [-1, -2]
    share = float(window[strange].sum()) / max(rows, 1)
    usual = float(known[strange].sum()) / max(int(known.sum()), 1)
    return Finding(
        feature=cell.name,
        test="mostly_outside",
        statistic=share,
        p=0.0 if share - usual > _HALF else 1.0,
        level=alpha,
        effect=share - usual,
        scale=1,
    )
