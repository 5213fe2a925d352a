"""Where a value lies among those of training."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.background import Profile

Status = Literal["usual", "unusual", "outside", "missing", "unseen", "unknown"]
USUAL: Final = (0.1, 0.9)
"""Between these quantiles a number is usual."""
RARE: Final = 0.02
"""A category with a smaller share of the training rows is unusual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one value lies.

    Attributes:
        status: `outside` is below the least or above the greatest number of training, `unseen` a
            category that training did not have; `unknown` where nothing is known of the column.
        quantile: of a number, 0 to 1.
        usual: the range of the middle four fifths, of numbers.
        share: of the training rows that had this very value; None where that is not told.
        missing: share of the training rows without a value.
    """

    status: Status
    missing: float
    quantile: float | None = None
    usual: tuple[float, float] | None = None
    share: float | None = None


def place_of(value: Any, profile: Profile) -> Place:
    """Where a value lies by the profile of its column; None is missing."""
    if value is None:
        return Place(status="missing", missing=profile.missing, usual=_usual(profile.quantiles))
    shares = dict(profile.levels)
    if isinstance(value, str):
        return _place_of_text(shares.get(value), profile)
    if not profile.quantiles:
        return Place(status="unknown", missing=profile.missing)
    share = shares.get(float(value), 0.0) if shares else None
    return _place_of_number(float(value), profile, share)


def _place_of_text(share: float | None, profile: Profile) -> Place:
    if share is None:
        return Place(status="unseen", missing=profile.missing)
    status: Status = "unusual" if share < RARE else "usual"
    return Place(status=status, missing=profile.missing, share=share)


def _place_of_number(value: float, profile: Profile, share: float | None) -> Place:
    quantiles = profile.quantiles
    usual = _usual(quantiles)
    status: Status = "outside"
    if quantiles[0] <= value <= quantiles[-1]:
        is_usual = usual is None or usual[0] <= value <= usual[1]
        status = "usual" if is_usual else "unusual"
    return Place(
        status=status,
        missing=profile.missing,
        quantile=quantile_of(value, quantiles),
        usual=usual,
        share=share,
    )


def _usual(quantiles: Sequence[float]) -> tuple[float, float] | None:
    if not quantiles:
        return None
    return value_at(USUAL[0], quantiles), value_at(USUAL[1], quantiles)


def value_at(share: float, quantiles: Sequence[float]) -> float:
    """The number at a quantile, between equally spaced known ones."""
    place = share * (len(quantiles) - 1)
    low = min(int(place), len(quantiles) - 1)
    high = min(low + 1, len(quantiles) - 1)
    part = place - low
    return quantiles[low] * (1 - part) + quantiles[high] * part


def quantile_of(value: float, quantiles: Sequence[float]) -> float:
    """The quantile of a number, 0 to 1; in the middle of those that are this very number."""
    steps = len(quantiles) - 1
    low, high = bisect_left(quantiles, value), bisect_right(quantiles, value)
    if low == 0 and high == 0:
        return 0.0
    if low > steps:
        return 1.0
    if high > low:
        return (low + high - 1) / 2 / max(steps, 1)
    part = (value - quantiles[low - 1]) / (quantiles[low] - quantiles[low - 1])
    return (low - 1 + part) / steps
