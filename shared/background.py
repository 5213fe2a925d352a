"""What is usual for a model's columns, as an explanation needs it; small, beside the model file.

Every value comes from the training rows. A version without this file is explained against the
middle of the ranges in its manifest, and says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from shared.errors import Unprocessable
from shared.manifest import Column

BACKGROUND_FILE: Final = "background.json"
FORMAT: Final = "tidewheel/background/v1"
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


def _rough_profile(column: Column) -> Profile:
    if column.kind == "text":
        share = 1 / max(len(column.categories), 1)
        levels = tuple((level, share) for level in column.categories)
        return Profile(name=column.name, is_text=True, levels=levels)
    if column.minimum is None or column.maximum is None:
        return Profile(name=column.name, missing=1.0)
    middle = column.minimum / 2 + column.maximum / 2
    return Profile(name=column.name, mean=middle, quantiles=(column.minimum, column.maximum))


def _read_profile(plain: Mapping[str, Any]) -> Profile:
    return Profile(
        name=str(plain["name"]),
        is_text=bool(plain["is_text"]),
        mean=None if plain["mean"] is None else float(plain["mean"]),
        missing=float(plain["missing"]),
        quantiles=tuple(float(value) for value in plain["quantiles"]),
        levels=tuple((level, float(share)) for level, share in plain["levels"]),
    )
