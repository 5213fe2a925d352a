"""Cells in which answers are counted by their time, the same for every replica and reader."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

EDGES_SECONDS: Final = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    2.0,
    5.0,
    10.0,
)
"""Upper edges, each part of its cell; one more cell holds everything above the last."""

CELLS: Final = len(EDGES_SECONDS) + 1


def cell_of(seconds: float) -> int:
    """The cell that an answer after so many seconds is counted in."""
    return bisect_left(EDGES_SECONDS, seconds)


def slower_than(counts: Sequence[int], seconds: float) -> int:
    """Answers that surely took longer: those in cells that begin at `seconds` or above.

    Exact when `seconds` is an edge; between two edges the answers of that cell are not counted.
    """
    return sum(counts[bisect_left(EDGES_SECONDS, seconds) + 1 :])


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Upper edge of the cell that holds this share of the answers; None without answers.

    Answers above the last edge are reported as infinity.
    """
    wanted = share * sum(counts)
    if wanted <= 0:
        return None
    seen = 0
    for edge, count in zip(EDGES_SECONDS, counts, strict=False):
        seen += count
        if seen >= wanted:
            return edge
    return float("inf")
