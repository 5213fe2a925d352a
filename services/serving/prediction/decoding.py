"""The rows of the commonest request, from bytes to values in one pass by the columns' own types.

What is not plainly right is left to the careful way, which knows how to say where a fault is. So
nothing here says more than "these are the values" or "look closer": a body with an escape or a
colon within a text, with a name twice, with a value of another kind.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Annotated, Any, Final

import msgspec

from services.serving.prediction.rows import ROW_BYTES_LIMIT, TEXT_LIMIT, Schema

Values = tuple[Any, ...]
"""The values of a row in the order of the columns, and then its entity, where that is no column."""
MOST_COLUMNS: Final = 500
_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Text = Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_LIMIT)]
_KINDS: Final[dict[str, Any]] = {
    "number": float | None,
    "boolean": bool | None,
    "text": _Text | None,
}
Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


class Decoder:
    """Reads rows of the same columns.

    Attributes:
        width: how many columns there are.
        has_entity: whether a row may name an entity beside its columns.
    """

    def __init__(self, columns: tuple[tuple[str, str], ...], entity: str | None) -> None:
        self.width = len(columns)
        self.has_entity = entity is not None
        fields: list[Any] = [(f"c{i}", _KINDS[kind]) for i, (_, kind) in enumerate(columns)]
        names = {f"c{i}": name for i, (name, _) in enumerate(columns)}
        if entity is not None:
            told = _Whole | _Name | None | msgspec.UnsetType
            fields.append(("entity", told, msgspec.UNSET))
            names["entity"] = entity
        row: Any = msgspec.defstruct(
            "Row", fields, rename=names, forbid_unknown_fields=True, gc=False, frozen=True
        )
        request = msgspec.defstruct(
            "Request", [("rows", list[row])], forbid_unknown_fields=True, gc=False
        )
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(request).decode

    def read(self, body: bytes, rows_limit: int) -> list[Values] | None:
        """The values of all rows; None where somebody has to look closer."""
        if len(body) > ROW_BYTES_LIMIT or b"\\" in body:
            return None
        try:
            rows = self._decode(body).rows
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        values: list[Values] = list(map(msgspec.structs.astuple, rows))
        if not 1 <= len(values) <= rows_limit:
            return None
        # Every name is followed by a colon; more colons than names: a name came twice.
        return values if body.count(b":") == self._names(values) else None

    def _names(self, values: Sequence[Values]) -> int:
        told = 1 + self.width * len(values)
        if not self.has_entity:
            return told
        return told + len(values) - [row[-1] for row in values].count(msgspec.UNSET)

    def entity(self, row: Values) -> str | None:
        """Whom a row is about, if it says so beside its columns."""
        told = row[-1]
        return None if told is None or told is msgspec.UNSET else str(told)


@lru_cache(maxsize=1024)
def _decoder(columns: tuple[tuple[str, str], ...], entity: str | None) -> Decoder:
    return Decoder(columns, entity)


def decoder_of(schema: Schema) -> Decoder | None:
    """What reads rows of this schema; models of the same columns share one.

    None where rows may hold more than the champion's columns, or too little is known of them.
    """
    kinds = {column.name: column.kind for column in schema.columns}
    if not schema.closed or schema.others or not 1 <= len(kinds) <= MOST_COLUMNS:
        return None
    if schema.entity is not None and kinds.get(schema.entity) == "number":
        return None  # as an entity, 3 and 3.0 are two; as a number they are one
    return _decoder(tuple(kinds.items()), None if schema.entity in kinds else schema.entity)


def picker(positions: Sequence[int]) -> Pick:
    """A function from a row to its values at these places."""
    if len(positions) == 1:
        only = positions[0]
        return lambda row: (row[only],)
    return itemgetter(*positions)
