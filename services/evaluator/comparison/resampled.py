"""From draws to intervals: pivots, corrections for bias and skew, and what few rows make up."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.evaluator.comparison.intervals import Accelerated, Interval, Student, Studentised
from services.evaluator.evidence import Floats
from services.evaluator.metrics import Finish, Insufficient, Measure
from shared.probability import normal_quantile

_WILD_SHARE: Final = 0.01
_TRACE: Final = 2.0**-34

Key = tuple[str, str, bytes]
"""Predictor, metric and the mask of a part of the rows."""
_Resampled = TypeVar("_Resampled", Student, Studentised)


def accelerated(
    estimate: float, jackknifed: Floats, drawn: Floats, *, rows: int, units: int, detail: str
) -> Interval:
    """BCa bounds from draws and from what the metric is without each group of units.

    Raises:
        Insufficient: the metric does not exist on these rows, or not without one of the groups.
    """
    if not math.isfinite(estimate) or not np.isfinite(jackknifed).all():
        raise Insufficient("too few rows of a class, or outcomes that are all alike")
    if np.ptp(drawn) == 0:
        return Student(
            estimate=estimate, se=0.0, rows=rows, units=units, test="bca", detail=detail, df=1.0
        )
    return Accelerated(
        estimate=estimate,
        se=_spread(drawn),
        rows=rows,
        units=units,
        test="bca",
        detail=detail,
        draws=len(drawn),
        drawn=np.sort(drawn),
        bias=_bias(drawn, estimate),
        skew=_skew(jackknifed),
        df=len(jackknifed) - 1,
    )


def _spread(drawn: Floats) -> float:
    mean = math.fsum(drawn) / len(drawn)
    return math.sqrt(math.fsum(np.square(drawn - mean)) / (len(drawn) - 1))


def _bias(drawn: Floats, estimate: float) -> float:
    below = float(np.sum(drawn < estimate)) + float(np.sum(drawn == estimate)) / 2
    share = min(max(below, 0.5), len(drawn) - 0.5) / len(drawn)
    return float(f"{normal_quantile(share):.12g}")


def _skew(jackknifed: Floats) -> float:
    away = math.fsum(jackknifed) / len(jackknifed) - jackknifed
    squares = math.fsum(np.square(away))
    if squares == 0:
        return 0.0
    return math.fsum(away * away * away) / (6 * squares * math.sqrt(squares))


def left_out(
    measures: Sequence[tuple[Key, Measure]],
    other: str | float,
    groups: NDArray[np.intp],
    count: int,
) -> tuple[float, Floats]:
    """The difference on all rows, and without each group, shape (groups,)."""
    everything = np.ones((1, len(groups)))
    whole = difference([part.of_weights(everything) for _, part in measures], other)
    without = difference([part.without(groups, count) for _, part in measures], other)
    return float(whole[0]), without


def difference(values: Sequence[Floats], other: str | float) -> Floats:
    """Loss of the other (or the limit) less that of the candidate, which comes first."""
    return (float(other) if len(values) == 1 else values[1]) - values[0]


def pivots_of(largest: float) -> Finish:
    """From sums of c, c2, n (and cn, n2 where units have many rows) to t*.

    c is a unit's sum less the estimate for as many rows, so that its sum is the resampled
    difference's distance from the estimate.

    Args:
        largest: of c2; less than a trace of it is no spread but rounding.
    """

    def finish(sums: Floats) -> Floats:
        c, squares, n = sums[:, 0], sums[:, 1], sums[:, 2]
        cross, size = (sums[:, 3], sums[:, 4]) if sums.shape[1] > 3 else (c, n)
        shift = c / n
        spread = squares - 2 * shift * cross + np.square(shift) * size
        spread = np.where(spread > largest * _TRACE, spread, np.nan)
        return shift / (np.sqrt(spread) / n)

    return finish


def with_wild_rows(found: _Resampled, d: Floats) -> _Resampled:
    """Say how much of all differences few rows make up: one wild row can decide."""
    size = np.abs(d)
    total = math.fsum(size)
    if total == 0:
        return found
    top = max(1, math.ceil(_WILD_SHARE * len(d)))
    share = math.fsum(np.partition(size, len(d) - top)[-top:]) / total
    said = f"{found.detail}; the top {top} of {len(d)} rows carry {share:.0%} of all differences"
    return replace(found, detail=said)
