"""What was usual in the training rows, for the explanations of a version (`shared.background`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.background import FORMAT, Profile
from shared.manifest import Column

STEPS: Final = 20
"""A number is told by so many steps between its least and its greatest value."""
MOST_LEVELS: Final = 100
MOST_ROWS: Final = 64
MOST_VALUES: Final = 20_000
"""Of the sample; wide tables have fewer rows in it, but never fewer than eight."""


def build_background(
    columns: Sequence[Column], train: Mapping[str, NDArray[Any]], *, seed: int
) -> bytes:
    """The file of a version; the same bytes for the same input.

    Args:
        columns: features in the order of the matrix.
        train: values of the training rows by column: float64 with NaN, or objects with None.
        seed: of the sample.
    """
    profiles = [_profile(column, train[column.name]) for column in columns]
    document = {
        "format": FORMAT,
        "profiles": [asdict(profile) for profile in profiles],
        "rows": _sample([train[column.name] for column in columns], seed),
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _profile(column: Column, values: NDArray[Any]) -> Profile:
    if column.kind == "text":
        return _text_profile(column.name, values.tolist())
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Profile(name=column.name, missing=1.0)
    seen, counts = np.unique(finite, return_counts=True)
    order = np.lexsort((seen, -counts)).tolist() if len(seen) <= MOST_LEVELS else []
    return Profile(
        name=column.name,
        mean=float(finite.mean()),
        missing=1 - len(finite) / len(values),
        quantiles=tuple(np.quantile(finite, np.linspace(0, 1, STEPS + 1)).tolist()),
        levels=tuple((float(seen[i]), float(counts[i]) / len(values)) for i in order),
    )


def _text_profile(name: str, values: Sequence[str | None]) -> Profile:
    counts = Counter(value for value in values if value is not None)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_LEVELS]
    rows = max(len(values), 1)
    return Profile(
        name=name,
        is_text=True,
        missing=1 - counts.total() / rows,
        levels=tuple((level, count / rows) for level, count in ranked),
    )


def _sample(values: Sequence[NDArray[Any]], seed: int) -> list[list[Any]]:
    if not values:
        return []
    rows = len(values[0])
    size = min(rows, MOST_ROWS, max(8, MOST_VALUES // len(values)))
    chosen = np.sort(np.random.default_rng(seed).choice(rows, size=size, replace=False))
    return [list(row) for row in zip(*(v[chosen].tolist() for v in values), strict=True)]
