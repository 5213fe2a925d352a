"""The commonest request of the Open Inference Protocol, from bytes to values.

JSON without outputs or parameters: one matrix of all columns, or a tensor for each. As with rows
as objects, whatever is not plainly right is left to the careful way.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from services.serving.prediction.decoding import (
    ENTITY,
    KINDS,
    UNSET,
    Decoder,
    Values,
    may_hold_more,
)

MOST_ID: Final = 1_000
_DATATYPES: Final = {
    "number": frozenset({"FP64", "FP32"}),
    "boolean": frozenset({"BOOL"}),
    "text": frozenset({"BYTES"}),
    "entity": frozenset({"BYTES", "INT64"}),
}
_FIELDS: Final = 4


class _Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    shape: list[int]
    datatype: Literal["FP64", "FP32", "BOOL", "BYTES", "INT64"]
    data: msgspec.Raw


class _Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: list[_Input]
    id: str | msgspec.UnsetType = UNSET


def _lists_of(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Decoders of flat values and of nested ones."""
    flat: Any = list[kind]
    nested: Any = list[flat]
    return msgspec.json.Decoder(flat).decode, msgspec.json.Decoder(nested).decode


_DECODERS: Final = {kind: _lists_of(form) for kind, form in {**KINDS, "entity": ENTITY}.items()}
_request: Final = msgspec.json.Decoder(_Request).decode


class _LooksOdd(Exception):
    """Somebody has to look closer."""


def read_tensors(
    decoder: Decoder, body: bytes, rows_limit: int
) -> tuple[list[Values], str | None] | None:
    """The values of all rows, and the id of the request; None where somebody has to look closer."""
    if may_hold_more(body):
        return None
    try:
        asked = _request(body)
        rows = _rows(decoder, asked.inputs, rows_limit)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _LooksOdd):
        return None
    told = None if asked.id is UNSET else asked.id
    colons = 1 + (told is not None) + _FIELDS * len(asked.inputs)
    is_plain = body.count(b":") == colons and (told is None or len(told) <= MOST_ID)
    return (rows, told) if is_plain else None


def _rows(decoder: Decoder, inputs: Sequence[_Input], rows_limit: int) -> list[Values]:
    if not inputs or not inputs[0].shape or not 1 <= inputs[0].shape[0] <= rows_limit:
        raise _LooksOdd
    kinds = _kinds_of(decoder)
    count = inputs[0].shape[0]
    if len(inputs) == 1 and inputs[0].name not in kinds:
        return _of_matrix(decoder, inputs[0], count)
    found: dict[str, Sequence[Any]] = {}
    for tensor in inputs:
        if tensor.shape[:1] != [count]:
            raise _LooksOdd
        told = _columns(decoder, tensor, kinds.get(tensor.name), count)
        if found.keys() & told.keys():
            raise _LooksOdd
        found |= told
    if not all(name in found for name, _ in decoder.columns[: decoder.required]):
        raise _LooksOdd
    missing = [UNSET] * count
    return list(zip(*(found.get(name, missing) for name in kinds), strict=True))


def _columns(
    decoder: Decoder, tensor: _Input, kind: str | None, count: int
) -> dict[str, Sequence[Any]]:
    """The column of a tensor, or all columns of a matrix."""
    if kind is not None:
        return {tensor.name: _values(tensor, kind, 1, count)}
    flat = _numbers(decoder, tensor, count)
    names = [name for name, _ in decoder.columns[: decoder.required]]
    return {name: flat[place :: len(names)] for place, name in enumerate(names)}


def _kinds_of(decoder: Decoder) -> dict[str, str]:
    """What may stand in a row, in its order."""
    kinds = dict(decoder.columns)
    if decoder.has_own_entity:
        kinds[str(decoder.entity_name)] = "entity"
    return kinds


def _of_matrix(decoder: Decoder, tensor: _Input, count: int) -> list[Values]:
    """Rows where one tensor is all there is."""
    width = decoder.required
    flat = _numbers(decoder, tensor, count)
    rest = (UNSET,) * (decoder.row_width - width)
    return [(*flat[start : start + width], *rest) for start in range(0, len(flat), width)]


def _numbers(decoder: Decoder, tensor: _Input, count: int) -> list[Any]:
    """All columns in one tensor, whose name is no column's."""
    is_numeric = all(kind == "number" for _, kind in decoder.columns[: decoder.required])
    if not is_numeric or len(tensor.shape) != 2:
        raise _LooksOdd
    return _values(tensor, "number", decoder.required, count)


def _values(tensor: _Input, kind: str, width: int, count: int) -> list[Any]:
    """The values of a tensor, flat; there are as many as its shape says."""
    shape = tensor.shape
    is_shaped = (len(shape) == 1 and width == 1) or (len(shape) == 2 and shape[1] == width)
    if not is_shaped or not tensor.name or tensor.datatype not in _DATATYPES[kind]:
        raise _LooksOdd
    flat, nested = _DECODERS[kind]
    if bytes(tensor.data).startswith(b"[["):
        lines = nested(tensor.data)
        values = [value for line in lines for value in line if len(line) == width]
        if len(lines) != count:
            raise _LooksOdd
    else:
        values = flat(tensor.data)
    if len(values) != width * count or not _is_told(tensor, values):
        raise _LooksOdd
    return values


def _is_told(tensor: _Input, values: Sequence[Any]) -> bool:
    """Whether entities are of the type that the tensor says; other kinds decide it themselves."""
    if tensor.datatype == "INT64":
        return all(value is None or type(value) is int for value in values)
    return tensor.datatype != "BYTES" or all(v is None or type(v) is str for v in values)
