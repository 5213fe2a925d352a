"""A request of the Open Inference Protocol as rows.

Each column is an input of its own, of shape [n] or [n, 1]. Where all columns are numbers, one input
of shape [n, columns] may hold them all in the model's order, under a name that is no column's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.serving.prediction.forms import (
    MOST_COLUMNS,
    Batch,
    Columns,
    Place,
    rows_of_columns,
)
from services.serving.prediction.reading import MalformedJson, as_pointer, read_json, wrong
from services.serving.prediction.rows import Schema
from services.serving.prediction.tensors import (
    DATATYPES,
    Shape,
    from_bytes,
    from_json,
    shape_of,
)

_TOP: Final = frozenset({"id", "parameters", "inputs", "outputs", "model_name", "model_version"})
_INPUT: Final = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT: Final = frozenset({"name", "parameters"})
_NOT_OFFERED: Final = ("shared_memory_region", "classification")
_MOST_OUTPUTS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What was asked.

    Attributes:
        id: as the caller gave it; it is given back.
        wanted: names of outputs and whether each is wanted as bytes; None for all there are.
        is_binary: whether outputs that nobody named are wanted as bytes.
    """

    id: str | None
    batch: Batch
    wanted: Mapping[str, bool] | None
    is_binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    name: str
    shape: Shape
    values: Sequence[Any]
    pointer: str

    def place(self, first: int = 0) -> Place:
        return Place(f"{self.pointer}/data", self.shape.width, first)


def read_inference(body: bytes, json_bytes: str, schema: Schema, rows_limit: int) -> Inference:
    """A request from its bytes.

    Args:
        json_bytes: what the header says about where the JSON ends; empty where all is JSON.

    Raises:
        MalformedJson: the header is wrong, or there is no JSON.
        InvalidInput: it is no request of the protocol, or none about such rows.
        TooLarge: there are more rows than allowed.
    """
    head, tail = _parted(body, json_bytes)
    document = read_json(head)
    if not isinstance(document, dict):
        wrong("", "the body is no object", 'send {"inputs": […]}')
    _check_known(document, _TOP, "")
    parameters = _parameters(document, "")
    batch = _batch(_inputs(document.get("inputs"), tail, rows_limit), schema)
    is_binary = parameters.get("binary_data_output", False) is True
    return Inference(
        id=_id(document.get("id")),
        batch=batch,
        wanted=_wanted(document.get("outputs"), is_binary=is_binary),
        is_binary=is_binary,
    )


def _parted(body: bytes, json_bytes: str) -> tuple[bytes, bytes]:
    if not json_bytes:
        return body, b""
    is_number = json_bytes.isascii() and json_bytes.isdigit() and len(json_bytes) < 12
    if not is_number or int(json_bytes) > len(body):
        raise MalformedJson(
            "Inference-Header-Content-Length is the number of bytes of the JSON at the beginning."
        )
    return body[: int(json_bytes)], body[int(json_bytes) :]


def _check_known(found: Mapping[str, Any], known: frozenset[str], pointer: str) -> None:
    for name in found:
        if name not in known:
            wrong(f"{pointer}/{as_pointer(name)}", "this field is not known", "leave it out")


def _id(given: Any) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or len(given) > 1_000 or not _is_unicode(given):
        wrong("/id", "a text of at most 1000 characters is due")
    return given


def _is_unicode(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


def _parameters(found: Mapping[str, Any], pointer: str) -> Mapping[str, Any]:
    given = found.get("parameters", {})
    if not isinstance(given, dict):
        wrong(f"{pointer}/parameters", "an object is due")
    for name, value in given.items():
        place = f"{pointer}/parameters/{as_pointer(name)}"
        if not isinstance(value, str | int | float | bool):
            wrong(place, "a parameter is a text, a number, true or false")
        if name in _NOT_OFFERED:
            wrong(place, "this extension is not offered here", "send and take tensors themselves")
    return given


def _inputs(given: Any, tail: bytes, rows_limit: int) -> list[_Input]:
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_COLUMNS:
        wrong("/inputs", f"a list of 1 to {MOST_COLUMNS} tensors is due")
    found: list[_Input] = []
    names: set[str] = set()
    for position, one in enumerate(given):
        tensor, tail = _input(one, f"/inputs/{position}", tail, rows_limit)
        if tensor.name in names:
            wrong(f"/inputs/{position}/name", "this name comes twice")
        if tensor.shape.rows != (found or [tensor])[0].shape.rows:
            wrong(f"/inputs/{position}/shape/0", "all tensors have the same number of rows")
        names.add(tensor.name)
        found.append(tensor)
    if tail:
        wrong("/inputs", f"{len(tail)} bytes after the JSON belong to no tensor")
    return found


def _input(one: Any, pointer: str, tail: bytes, rows_limit: int) -> tuple[_Input, bytes]:
    """A tensor, and the bytes that are left for the next ones."""
    if not isinstance(one, dict):
        wrong(pointer, "a tensor is an object")
    _check_known(one, _INPUT, pointer)
    name, kind = one.get("name"), one.get("datatype")
    if not isinstance(name, str) or not name:
        wrong(f"{pointer}/name", "required, a text")
    if not isinstance(kind, str) or kind not in DATATYPES:
        wrong(f"{pointer}/datatype", f"required, one of {', '.join(DATATYPES)}")
    shape = shape_of(one.get("shape"), f"{pointer}/shape", rows_limit)
    size = _parameters(one, pointer).get("binary_data_size")
    if size is None:
        values = from_json(one.get("data"), DATATYPES[kind], shape, f"{pointer}/data")
    else:
        place = f"{pointer}/parameters/binary_data_size"
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(tail):
            wrong(place, "so many bytes do not follow the JSON")
        if "data" in one:
            wrong(f"{pointer}/data", "either this or `binary_data_size`")
        values = from_bytes(tail[:size], DATATYPES[kind], shape, place)
        tail = tail[size:]
    return _Input(name=name, shape=shape, values=values, pointer=pointer), tail


def _batch(tensors: Sequence[_Input], schema: Schema) -> Batch:
    columns: dict[str, Sequence[Any]] = {}
    places: dict[str, Place] = {}
    for tensor in tensors:
        if _is_matrix(tensor, schema):
            for position, column in enumerate(schema.names):
                if column in columns:
                    wrong(f"{tensor.pointer}/name", f"{column} has an input of its own already")
                columns[column] = tensor.values[position :: tensor.shape.width]
                places[column] = tensor.place(position)
            continue
        if tensor.shape.width != 1:
            wrong(f"{tensor.pointer}/shape/1", "one value per row is due in the input of a column")
        if tensor.name in columns:
            wrong(f"{tensor.pointer}/name", "the input of all columns holds this one already")
        columns[tensor.name] = tensor.values
        places[tensor.name] = tensor.place()
    return Batch(rows_of_columns(columns), Columns(places, "/inputs"))


def _is_matrix(tensor: _Input, schema: Schema) -> bool:
    """Whether a tensor holds all columns; then it must be as wide as they are many."""
    if tensor.shape.is_flat or tensor.name in schema.kinds or not is_numeric(schema):
        return False
    if tensor.shape.width != len(schema.names):
        due = f"{len(schema.names)} values per row are due: {', '.join(schema.names)[:500]}"
        wrong(f"{tensor.pointer}/shape/1", due, "or send each column as an input")
    return True


def is_numeric(schema: Schema) -> bool:
    """Whether all columns can stand in one tensor."""
    return bool(schema.columns) and all(c.kind == "number" for c in schema.columns)


def _wanted(given: Any, *, is_binary: bool) -> Mapping[str, bool] | None:
    """Outputs by name; how each is wanted is its own word, else that of the whole request."""
    if given is None or given == []:
        return None
    if not isinstance(given, list) or len(given) > _MOST_OUTPUTS:
        wrong("/outputs", f"a list of at most {_MOST_OUTPUTS} outputs is due")
    wanted: dict[str, bool] = {}
    for position, one in enumerate(given):
        pointer = f"/outputs/{position}"
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            wrong(pointer, "an output is an object with a name")
        _check_known(one, _OUTPUT, pointer)
        if one["name"] in wanted:
            wrong(f"{pointer}/name", "this name comes twice")
        told = _parameters(one, pointer).get("binary_data", is_binary)
        wanted[one["name"]] = told is True
    return wanted
