"""Which answers may be given; the same for one request and for a whole file."""

from collections.abc import Sequence
from math import isfinite

from shared.manifest import Manifest


def is_usable(
    value: float | str | bool, probabilities: Sequence[float] | None, manifest: Manifest
) -> bool:
    """Whether an answer may be given: finite, and within the bounds that the specification sets."""
    if probabilities is not None and not all(map(isfinite, probabilities)):
        return False
    if manifest.task == "classification":
        return not isinstance(value, float) or isfinite(value)
    number = float(value)
    if not isfinite(number):
        return False
    return manifest.bounds is None or manifest.bounds[0] <= number <= manifest.bounds[1]
