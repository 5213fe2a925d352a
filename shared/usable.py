"""Which answers may be given, and what can come of them; the same rule at every door."""

from collections.abc import Sequence
from math import isfinite

from shared.manifest import Manifest

Label = float | str | bool


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


def can_come_true(value: Label, classes: Sequence[Label]) -> bool:
    """Whether a model can be told that this came true: a level that it has never seen can, too.

    Args:
        classes: of the model; none for regression, which takes finite numbers. Where a class is a
            text, texts can come true; where one is a number, finite numbers and booleans; where
            all are booleans, these and the numbers 0 and 1, because 1 and true are one label.
    """
    if isinstance(value, str):
        return any(isinstance(label, str) for label in classes)
    if not _is_finite(value):
        return False
    if not classes:
        return not isinstance(value, bool)
    if value in (0, 1):
        return not all(isinstance(label, str) for label in classes)
    return any(not isinstance(label, str | bool) for label in classes)


def _is_finite(value: float) -> bool:
    """Whether it is a number with an end; a whole one that no float can hold counts as endless."""
    try:
        return isfinite(value)
    except OverflowError:
        return False
