"""Short histories as a row of bars in text."""

from collections.abc import Sequence
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"
_NONE: Final = "·"


def spark(values: Sequence[float | None]) -> str:
    """One bar per value by its size, the largest one full; `·` where nothing is known."""
    sizes = [abs(value) for value in values if value is not None]
    largest = max(sizes, default=0.0)
    return "".join(_bar(value, largest) for value in values)


def _bar(value: float | None, largest: float) -> str:
    if value is None:
        return _NONE
    share = abs(value) / largest if largest > 0 else 0.0
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]
