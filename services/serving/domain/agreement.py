"""Whether two versions said the same about one row."""

from math import sqrt
from typing import Final

from services.serving.domain.versions import Value
from shared.manifest import Manifest

PART_OF_THE_ERROR: Final = 0.1
PART_OF_THE_ANSWER: Final = 0.01


def tolerance_of(manifest: Manifest | None) -> float | None:
    """How far apart two numbers may lie: a tenth of the champion's error on its held-out rows.

    Its mean absolute error, or else its root mean squared one; None where the manifest has neither.
    Classes are the same or not.
    """
    if manifest is not None and manifest.task == "classification":
        return 0.0
    metrics = {} if manifest is None else manifest.metrics
    if "mae" in metrics:
        return PART_OF_THE_ERROR * metrics["mae"]
    if "rmse" in metrics:
        return PART_OF_THE_ERROR * metrics["rmse"]
    if "mse" in metrics:
        return PART_OF_THE_ERROR * sqrt(metrics["mse"])
    return None


def disagree(seen: Value, unseen: Value, tolerance: float | None) -> bool:
    """Whether these are two classes, or numbers further apart than the tolerance.

    Without a tolerance numbers may differ by a hundredth of the answer that was seen.
    """
    if not _is_number(seen) or not _is_number(unseen):
        return seen != unseen
    allowed = PART_OF_THE_ANSWER * abs(float(seen)) if tolerance is None else tolerance
    return not abs(float(seen) - float(unseen)) <= allowed


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
