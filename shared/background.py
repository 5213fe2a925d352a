"""What is usual for a model's columns, as an explanation needs it; small, beside the model file.

Every value comes from the training rows. A version without this file is explained against the
middle of the ranges in its manifest, and says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.errors import Unprocessable
from shared.manifest import Column

BACKGROUND_FILE: Final = "background.json"
FORMAT: Final = "tidewheel/background/v1"
STEPS: Final = 20
"""A number is told by so many steps between its least and its greatest value."""
MOST_LEVELS: Final = 100
MOST_ROWS: Final = 64
MOST_VALUES: Final = 20_000
"""Of the sample; wide tables have fewer rows in it, but never fewer than eight."""

Level = float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What was usual in one column.

    Attributes:
        mean: of the values that are there; None for text, or where none was.
        missing: share of the rows without a value.
        quantiles: of numbers, at 0, 1/20, … 1; empty for text.
        is_text: whether its missing value is None, and not NaN.
        levels: values with their shares of all rows, most frequent first: at most 100 of a text,
            and all of a number that has no more than 100.
    """

    name: str
    is_text: bool = False
    mean: float | None = None
    missing: float = 0.0
    quantiles: tuple[float, ...] = ()
    levels: tuple[tuple[Level, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What explanations compare a row with.

    Attributes:
        profiles: in the order of the columns.
        rows: training rows drawn at random, in the order of the columns, None for missing.
        is_rough: nothing is known but the ranges in the manifest.
    """

    profiles: tuple[Profile, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_rough: bool = False


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


def read_background(data: bytes) -> Background:
    """A background from its bytes.

    Raises:
        Unprocessable: the bytes are no background of this format.
    """
    try:
        plain = orjson.loads(data)
        if plain["format"] != FORMAT:
            raise Unprocessable(f"a background of format {plain['format']!r} is not known here")
        return Background(
            profiles=tuple(_read_profile(found) for found in plain["profiles"]),
            rows=tuple(tuple(row) for row in plain["rows"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Unprocessable(f"this is no background: {error!r}") from error


def rough_background(columns: Sequence[Column]) -> Background:
    """The middle of what a manifest says, for versions that have no such file."""
    profiles = tuple(_rough_profile(column) for column in columns)
    middle = tuple(p.levels[0][0] if p.levels else p.mean for p in profiles)
    return Background(profiles=profiles, rows=(middle,), is_rough=True)


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


def _rough_profile(column: Column) -> Profile:
    if column.kind == "text":
        share = 1 / max(len(column.categories), 1)
        levels = tuple((level, share) for level in column.categories)
        return Profile(name=column.name, is_text=True, levels=levels)
    if column.minimum is None or column.maximum is None:
        return Profile(name=column.name, missing=1.0)
    middle = column.minimum / 2 + column.maximum / 2
    return Profile(name=column.name, mean=middle, quantiles=(column.minimum, column.maximum))


def _sample(values: Sequence[NDArray[Any]], seed: int) -> list[list[Any]]:
    if not values:
        return []
    rows = len(values[0])
    size = min(rows, MOST_ROWS, max(8, MOST_VALUES // len(values)))
    chosen = np.sort(np.random.default_rng(seed).choice(rows, size=size, replace=False))
    return [list(row) for row in zip(*(v[chosen].tolist() for v in values), strict=True)]


def _read_profile(plain: Mapping[str, Any]) -> Profile:
    return Profile(
        name=str(plain["name"]),
        is_text=bool(plain["is_text"]),
        mean=None if plain["mean"] is None else float(plain["mean"]),
        missing=float(plain["missing"]),
        quantiles=tuple(float(value) for value in plain["quantiles"]),
        levels=tuple((level, float(share)) for level, share in plain["levels"]),
    )
