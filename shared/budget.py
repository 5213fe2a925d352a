"""How the level of one window is parted over scales, families, features and tests.

The parts add up to one, so that a window without any change is called drifted with a probability
of at most the level, all tests together (Bonferroni).
"""

from collections.abc import Sequence
from typing import Final, Literal

ALPHA: Final = 5e-4
"""The default level of a window."""

SCALES: Final = {1: 0.28, 2: 0.04, 4: 0.34, 8: 0.08, 16: 0.26}
"""Windows that are taken together, the newest ones, and the part of each."""

EACH: Final = 0.88
PAIRS: Final = 0.07
TOGETHER: Final = 0.05
"""Features by themselves, pairs of numbers, and all numbers at once."""

NumberTest = Literal["location", "scale", "shape", "fine shape", "missing", "below", "above"]
CategoryTest = Literal["shape", "level", "unseen", "missing"]

NUMBER: Final[dict[NumberTest, float]] = {
    "location": 0.70,
    "scale": 0.09,
    "shape": 0.04,
    "fine shape": 0.02,
    "missing": 0.05,
    "below": 0.05,
    "above": 0.05,
}
CATEGORY: Final[dict[CategoryTest, float]] = {
    "shape": 0.40,
    "level": 0.20,
    "unseen": 0.30,
    "missing": 0.10,
}


def scale_parts(scales: Sequence[int]) -> list[float]:
    """The part of each scale; what scales leave that cannot be tested is for the first one."""
    left = 1 - sum(SCALES[scale] for scale in scales)
    return [SCALES[scale] + (left if scale == 1 else 0.0) for scale in scales]


def family_parts(pairs: int) -> tuple[float, float, float]:
    """The part of each family; without pairs features have it all."""
    return (EACH, PAIRS, TOGETHER) if pairs else (1.0, 0.0, 0.0)
