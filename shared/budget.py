"""How the level of one window is parted over scales, families, features and tests.

The parts add up to one, so that a window without any change is called drifted with a probability
of at most the level, all tests together (Bonferroni).
"""

from collections.abc import Sequence
from typing import Final

ALPHA: Final = 5e-4
"""The default level of a window."""

SCALES: Final = (1, 2, 4, 8, 16)
"""Windows that are taken together, the newest ones."""
FIRST: Final = 0.5
"""The part of one window by itself; the others share the rest evenly."""

EACH: Final = 0.6
PAIRS: Final = 0.3
TOGETHER: Final = 0.1
"""Features by themselves, pairs of numbers, and all numbers at once."""

NUMBER: Final = {
    "location": 0.40,
    "scale": 0.25,
    "shape": 0.10,
    "fine shape": 0.05,
    "missing": 0.10,
    "below": 0.05,
    "above": 0.05,
}
CATEGORY: Final = {"shape": 0.40, "level": 0.20, "unseen": 0.30, "missing": 0.10}


def scale_parts(scales: Sequence[int]) -> list[float]:
    """The part of each scale; what scales leave that cannot be tested is for the first one."""
    other = (1 - FIRST) / (len(SCALES) - 1)
    return [other if scale > 1 else 1 - other * (len(scales) - 1) for scale in scales]


def family_parts(pairs: int) -> tuple[float, float, float]:
    """The part of each family; without pairs features have it all."""
    return (EACH, PAIRS, TOGETHER) if pairs else (1.0, 0.0, 0.0)
