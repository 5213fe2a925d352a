"""Which answers may be given, and the first rows that a version is asked about."""

from collections.abc import Sequence
from math import isfinite

import orjson

from services.serving.prediction.reading import Row
from shared.manifest import Column, Manifest


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


def label_text(label: float | str | bool) -> str:
    """A label as the name of something."""
    return label if isinstance(label, str) else orjson.dumps(label).decode()


def warm_up_rows(columns: Sequence[Column]) -> list[Row]:
    """Two rows from the middle of what training saw, for the first answers of a version."""
    row = {column.name: _middle(column) for column in columns}
    return [row, dict(row)]


def _middle(column: Column) -> float | bool | str | None:
    match column.kind:
        case "boolean":
            return False
        case "text":
            return column.categories[0] if column.categories else None
        case _:
            if column.minimum is None or column.maximum is None:
                return 0.0
            return column.minimum / 2 + column.maximum / 2
