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

Values = Sequence[Any]
"""The values of a row in the order of the columns, and then its entity, where that is no column.
`UNSET` stands for what the row does not name."""
UNSET: Final = msgspec.UNSET
MOST_COLUMNS: Final = 500
_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Text = Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_LIMIT)]
ENTITY: Final[Any] = _Whole | _Name | None
KINDS: Final[dict[str, Any]] = {
    "number": float | None,
    "boolean": bool | None,
    "text": _Text | None,
}
Pick = Callable[[Sequence[Any]], tuple[Any, ...]]
Kinds = tuple[tuple[str, str], ...]


class Decoder:
    """Reads rows of the same columns.

    Attributes:
        columns: names and kinds of what every row names, then of what it may name.
        required: how many every row names.
        entity_place: where a row says whom it is about; None where it never does.
        row_width: how many values a row has, with an entity that is no column.
        rows: what a list of rows is, each an object of JSON.
    """

    def __init__(self, columns: Kinds, others: Kinds, entity: str | None) -> None:
        self.columns = columns + others
        self.required = len(columns)
        known = [name for name, _ in self.columns]
        self.has_own_entity = entity is not None and entity not in known
        self.row_width = len(known) + self.has_own_entity
        self.entity_place = None if entity is None else [*known, entity].index(entity)
        self.entity_name = entity
        fields: list[Any] = [(f"c{i}", KINDS[kind]) for i, (_, kind) in enumerate(columns)]
        fields += [
            (f"c{i}", KINDS[kind] | msgspec.UnsetType, UNSET)
            for i, (_, kind) in enumerate(others, len(columns))
        ]
        names = {f"c{i}": name for i, name in enumerate(known)}
        if self.has_own_entity:
            fields.append(("entity", ENTITY | msgspec.UnsetType, UNSET))
            names["entity"] = str(entity)
        row: Any = msgspec.defstruct(
            "Row", fields, rename=names, forbid_unknown_fields=True, gc=False, frozen=True
        )
        self.rows: Any = list[row]
        request = msgspec.defstruct(
            "Request", [("rows", self.rows)], forbid_unknown_fields=True, gc=False
        )
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(request).decode

    def read(self, body: bytes, rows_limit: int) -> list[Values] | None:
        """The values of all rows; None where somebody has to look closer."""
        if may_hold_more(body):
            return None
        try:
            rows = self._decode(body).rows
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        values: list[Values] = list(map(msgspec.structs.astuple, rows))
        if not 1 <= len(values) <= rows_limit:
            return None
        return values if body.count(b":") == 1 + self.names_in(values) else None

    def names_in(self, values: Sequence[Values]) -> int:
        """How many names these rows told, each once.

        Every name is followed by a colon; with more colons than names, one came twice.
        """
        most = self.row_width * len(values)
        if self.row_width == self.required:
            return most
        return most - sum([row.count(UNSET) for row in values])

    def entities(self, rows: Sequence[Values]) -> list[str | None]:
        """Whom each row is about, if it says so."""
        place = self.entity_place
        if place is None:
            return [None] * len(rows)
        named = [row[place] for row in rows]
        return [None if name is None or name is UNSET else str(name) for name in named]


def may_hold_more(body: bytes) -> bool:
    """Whether a body is too large, or has an escape: what it then holds takes a closer look."""
    return len(body) > ROW_BYTES_LIMIT or b"\\" in body


@lru_cache(maxsize=1024)
def _decoder(columns: Kinds, others: Kinds, entity: str | None) -> Decoder:
    return Decoder(columns, others, entity)


def decoder_of(schema: Schema) -> Decoder | None:
    """What reads rows of this schema; models of the same columns share one.

    None where too little is known of the columns.
    """
    kinds = {column.name: column.kind for column in schema.columns}
    others = {name: column.kind for name, column in schema.others.items()}
    if not schema.closed or not kinds or len(kinds) + len(others) > MOST_COLUMNS:
        return None
    if schema.entity is not None and (kinds | others).get(schema.entity) == "number":
        return None  # as an entity, 3 and 3.0 are two; as a number they are one
    return _decoder(tuple(kinds.items()), tuple(others.items()), schema.entity)


def picker(positions: Sequence[int]) -> Pick:
    """A function from a row to its values at these places."""
    if len(positions) == 1:
        only = positions[0]
        return lambda row: (row[only],)
    return itemgetter(*positions)
