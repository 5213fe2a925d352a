"""Intervals as small bars in text."""

from collections.abc import Mapping
from typing import Any, Final

_WIDTH: Final = 25
_BODY, _ESTIMATE, _ZERO, _MARGIN, _EMPTY = "─", "●", "│", "┊", "·"


def bar(
    estimate: float | None,
    lower: float | None,
    upper: float | None,
    *,
    margin: float = 0.0,
    width: int = _WIDTH,
) -> str:
    """An interval on a line; to the right of `│` is better, `┊` is what may be lost.

    An end that is not known is open and runs to the edge; without an estimate there is no bar.
    """
    if estimate is None:
        return ""
    places = [0.0, estimate, *(end for end in (lower, upper) if end is not None)]
    places += [-margin] if margin > 0 else []
    low, high = min(places), max(places)
    pad = (high - low) * 0.08 or 1.0
    low, high = low - pad, high + pad

    def cell(value: float) -> int:
        return min(width - 1, max(0, int((value - low) / (high - low) * width)))

    first = 0 if lower is None else cell(lower)
    last = width - 1 if upper is None else cell(upper)
    cells = [_BODY if first <= place <= last else _EMPTY for place in range(width)]
    if margin > 0:
        cells[cell(-margin)] = _MARGIN
    cells[cell(0.0)] = _ZERO
    cells[cell(estimate)] = _ESTIMATE
    return "".join(cells)


def of_gate(gate: Mapping[str, Any]) -> str:
    """The bar of a gate or slice, or nothing where there are no figures."""
    return bar(
        gate.get("estimate"),
        gate.get("lower"),
        gate.get("upper"),
        margin=float(gate.get("margin") or 0.0),
    )
