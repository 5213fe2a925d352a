"""Labels as names, and the first rows that a version is asked about."""

from collections.abc import Sequence

import orjson

from services.serving.prediction.reading import Row
from shared.manifest import Column


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
