"""Which held-out rows belong together: declared slices, automatic ones, and entities."""

import keyword
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.evaluator.masks import mask_of
from shared.errors import Unprocessable
from shared.holdout import Holdout
from shared.predicates import MOST_CHARACTERS, read_predicate

Mask = NDArray[np.bool_]

LEAST_ROWS: Final = 50
"""An automatic slice with fewer rows would be the worst one by chance."""
MOST_FOUND: Final = 64
_LEVELS: Final = 8
_FEW_VALUES: Final = 6
"""A number with so few values is read as levels, not cut into quarters."""
_WORDS: Final = frozenset({"none", "true", "false"})


def declared(conditions: Mapping[str, str], held: Holdout) -> dict[str, Mask]:
    """The rows of every slice that gates and slices name.

    Raises:
        Unprocessable: a condition does not fit the columns; says which and why.
    """
    masks = {}
    for name, condition in conditions.items():
        try:
            masks[name] = mask_of(read_predicate(condition), held.values)
        except ValueError as error:
            raise Unprocessable(f"the slice {name!r} cannot be cut: {error}") from error
    return masks


def found(held: Holdout) -> dict[str, Mask]:
    """Slices of one column each, with enough rows: quarters of numbers, frequent levels of text.

    Their names are conditions, so that whoever wants to keep one can put it into a specification.
    """
    masks: dict[str, Mask] = {}
    for column in held.columns:
        for condition in _conditions(_quoted(column.name), held.values[column.name]):
            if len(condition) > MOST_CHARACTERS:
                continue
            mask = mask_of(read_predicate(condition), held.values)
            if LEAST_ROWS <= int(mask.sum()) <= len(held) - LEAST_ROWS:
                masks[condition] = mask
        if len(masks) >= MOST_FOUND:
            break
    return dict(list(masks.items())[:MOST_FOUND])


def _conditions(name: str, values: NDArray[Any]) -> Iterator[str]:
    if values.dtype == object:
        seen = Counter(value for value in values.tolist() if value is not None)
        ranked = sorted(seen.items(), key=lambda item: (-item[1], str(item[0])))
        yield from (f"{name} == {level!r}" for level, _ in ranked[:_LEVELS])
        return
    finite = np.unique(values[np.isfinite(values)])
    if len(finite) <= _FEW_VALUES:
        yield from (f"{name} == {value!r}" for value in finite.tolist())
        return
    known = values[np.isfinite(values)]
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="lower")).tolist()
    yield f"{name} <= {edges[0]!r}"
    for low, high in pairwise(edges):
        yield f"{name} > {low!r} and {name} <= {high!r}"
    yield f"{name} > {edges[-1]!r}"


def _quoted(name: str) -> str:
    plain = name.isidentifier() and not keyword.iskeyword(name) and name not in _WORDS
    return name if plain else f"`{name}`"


def entities(column: str | None, held: Holdout) -> NDArray[np.int64] | None:
    """A code per row, the same for rows of one entity; rows without one stand for themselves.

    Raises:
        Unprocessable: the column is not there.
    """
    if column is None:
        return None
    if column not in held.values:
        raise Unprocessable(f"the held-out rows have no column {column!r} that names entities")
    values = held.values[column].tolist()
    codes: dict[Any, int] = {}
    return np.array(
        [codes.setdefault(_key(value, place), len(codes)) for place, value in enumerate(values)],
        dtype=np.int64,
    )


def _key(value: Any, place: int) -> Any:
    is_missing = value is None or value != value
    return ("missing", place) if is_missing else ("known", value)
