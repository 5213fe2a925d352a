"""The commonest requests of MLflow's scoring protocol, from bytes to values.

JSON of one form without parameters, its columns in the model's own order. As with rows as objects,
whatever is not plainly right is left to the careful way.
"""

from collections.abc import Callable
from functools import lru_cache
from types import GenericAlias
from typing import Any, Final

import msgspec

from services.serving.prediction.decoding import KINDS, UNSET, Decoder, Values, may_hold_more

_PLAIN: Final[dict[str, Any]] = {"forbid_unknown_fields": True, "gc": False}


class Frames:
    """Reads the frames of rows of the same columns."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        told = decoder.columns[: decoder.required]
        self._names = [name for name, _ in told]
        self._rest = (UNSET,) * (decoder.row_width - decoder.required)
        line: Any = GenericAlias(tuple, tuple(KINDS[kind] for _, kind in told))
        lines: Any = list[line]
        split = msgspec.defstruct(
            "Split",
            [("columns", list[str]), ("data", lines), ("index", _may_be(list[int] | None), UNSET)],
            **_PLAIN,
        )
        forms = {
            "dataframe_split": split,
            "dataframe_records": decoder.rows,
            "inputs": lines,
            "instances": lines,
        }
        fields = [(name, _may_be(form), UNSET) for name, form in forms.items()]
        frame = msgspec.defstruct("Frame", fields, **_PLAIN)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(frame).decode

    def read(self, body: bytes, rows_limit: int) -> list[Values] | None:
        """The values of all rows; None where somebody has to look closer."""
        if may_hold_more(body):
            return None
        try:
            frame = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        given = [form for form in msgspec.structs.astuple(frame) if form is not UNSET]
        if len(given) != 1:
            return None
        rows, names = self._rows(given[0], is_objects=frame.dataframe_records is not UNSET)
        is_plain = 1 <= len(rows) <= rows_limit and body.count(b":") == 1 + names
        return rows if is_plain else None

    def _rows(self, form: Any, *, is_objects: bool) -> tuple[list[Values], int]:
        """The rows, and how many names they told; no rows where somebody has to look closer."""
        if is_objects:
            values: list[Values] = list(map(msgspec.structs.astuple, form))
            return values, self._decoder.names_in(values)
        if isinstance(form, list):
            return self._widened(form), 0
        index = form.index
        is_even = not index or index is UNSET or len(index) == len(form.data)
        if form.columns != self._names or not is_even or index == []:
            return [], 0
        return self._widened(form.data), 2 + (index is not UNSET)

    def _widened(self, lines: list[Values]) -> list[Values]:
        return [(*line, *self._rest) for line in lines] if self._rest else lines


def _may_be(form: Any) -> Any:
    return form | msgspec.UnsetType


@lru_cache(maxsize=256)
def _frames(decoder: Decoder) -> Frames:
    return Frames(decoder)


def read_plain_frame(decoder: Decoder, body: bytes, rows_limit: int) -> list[Values] | None:
    """The values of all rows; None where somebody has to look closer."""
    return _frames(decoder).read(body, rows_limit)
