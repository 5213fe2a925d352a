"""The tensors of the Open Inference Protocol: their datatypes, as JSON and as bytes.

Bytes are little-endian and row-major. An element of `BYTES` is its length in four bytes and then
its own bytes; here it is text in UTF-8.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from services.serving.prediction.forms import MOST_COLUMNS
from services.serving.prediction.reading import check_count, wrong
from shared.errors import Fault, InvalidInput

MOST_FAULTS: Final = 50
_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Datatype:
    """One of the protocol's.

    Attributes:
        code: its letter in `struct`; None for elements of their own length.
        kind: of Python's values.
        least, most: what fits, for numbers.
    """

    code: str | None
    kind: type
    least: float = 0
    most: float = 0

    @property
    def size(self) -> int:
        """Bytes of an element; 0 where each has its own length."""
        return 0 if self.code is None else struct.calcsize(f"<{self.code}")

    def fits(self, value: Any) -> bool:
        """Whether a value of JSON can be one of these; null is a missing one."""
        if value is None:
            return True
        if self.kind is bool or self.kind is str:
            return isinstance(value, self.kind)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.kind is int and not isinstance(value, int):
            return False
        return self.least <= value <= self.most


def _whole(code: str, bits: int, *, signed: bool) -> Datatype:
    least = -(2 ** (bits - 1)) if signed else 0
    most = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    return Datatype(code=code, kind=int, least=least, most=most)


def _real(code: str, most: float) -> Datatype:
    return Datatype(code=code, kind=float, least=-most, most=most)


DATATYPES: Final[Mapping[str, Datatype]] = {
    "BOOL": Datatype(code="?", kind=bool),
    "UINT8": _whole("B", 8, signed=False),
    "UINT16": _whole("H", 16, signed=False),
    "UINT32": _whole("I", 32, signed=False),
    "UINT64": _whole("Q", 64, signed=False),
    "INT8": _whole("b", 8, signed=True),
    "INT16": _whole("h", 16, signed=True),
    "INT32": _whole("i", 32, signed=True),
    "INT64": _whole("q", 64, signed=True),
    "FP16": _real("e", 65_504.0),
    "FP32": _real("f", 3.4028234663852886e38),
    "FP64": _real("d", 1.7976931348623157e308),
    "BYTES": Datatype(code=None, kind=str),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """So many rows with so many values each."""

    rows: int
    width: int
    is_flat: bool

    @property
    def elements(self) -> int:
        """How many values there are."""
        return self.rows * self.width


def shape_of(given: Any, pointer: str, rows_limit: int) -> Shape:
    """A shape of one or two dimensions.

    Raises:
        InvalidInput: it is none.
        TooLarge: it has more rows than allowed.
    """
    if not isinstance(given, list) or not 1 <= len(given) <= 2:
        wrong(pointer, "one or two dimensions are due", "[rows] or [rows, values]")
    for position, size in enumerate(given):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            wrong(f"{pointer}/{position}", "a dimension is a whole number from 1")
    width = given[1] if len(given) == 2 else 1
    check_count(given[0], rows_limit)
    if width > MOST_COLUMNS:
        wrong(f"{pointer}/1", f"a row has at most {MOST_COLUMNS} values")
    return Shape(rows=given[0], width=width, is_flat=len(given) == 1)


def from_json(data: Any, datatype: Datatype, shape: Shape, pointer: str) -> list[Any]:
    """The values of a tensor that is written in JSON, nested as its shape or flat.

    Raises:
        InvalidInput: there are more or fewer than the shape says, or of another type.
    """
    if not isinstance(data, list):
        wrong(pointer, "a list of values is due")
    values = _flattened(data, shape, pointer)
    if len(values) != shape.elements:
        wrong(pointer, f"{len(values)} values, the shape says {shape.elements}")
    unfit = (position for position, value in enumerate(values) if not datatype.fits(value))
    faults = [
        Fault(f"{pointer}/{position}", "this value does not fit the datatype", "or send null")
        for position in islice(unfit, MOST_FAULTS)
    ]
    if faults:
        raise InvalidInput("Values do not fit the datatype of their tensor.", faults)
    return values


def _flattened(data: list[Any], shape: Shape, pointer: str) -> list[Any]:
    if not data or not isinstance(data[0], list):
        return data
    if len(data) != shape.rows:
        wrong(pointer, f"{len(data)} rows, the shape says {shape.rows}")
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != shape.width:
            wrong(f"{pointer}/{index}", f"a list of {shape.width} values is due")
    return [value for row in data for value in row]


def from_bytes(data: bytes, datatype: Datatype, shape: Shape, pointer: str) -> list[Any]:
    """The values of a tensor that comes as bytes.

    Raises:
        InvalidInput: the bytes are more or fewer than the shape says, or none of this type.
    """
    if datatype.code is None:
        return list(_texts(data, shape.elements, pointer))
    due = shape.elements * datatype.size
    if len(data) != due:
        wrong(pointer, f"{len(data)} bytes, the shape says {due}")
    if datatype.kind is bool and data.strip(b"\x00\x01"):
        wrong(pointer, "a byte of BOOL is 0 or 1")
    return list(struct.unpack(f"<{shape.elements}{datatype.code}", data))


def _texts(data: bytes, count: int, pointer: str) -> Iterator[str]:
    start = 0
    for position in range(count):
        begin = start + _LENGTH_BYTES
        length = int.from_bytes(data[start:begin], "little")
        if begin > len(data) or length > len(data) - begin:
            wrong(pointer, f"element {position} ends beyond the bytes of the tensor")
        start = begin + length
        try:
            yield data[begin:start].decode()
        except UnicodeDecodeError:
            wrong(pointer, f"element {position} is not UTF-8")
    if start != len(data):
        wrong(pointer, f"{len(data) - start} bytes are left after {count} elements")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An output. Its values are flat, row by row."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]

    def plain(self) -> dict[str, Any]:
        """As JSON, with its values."""
        return self._described() | {"data": self.values}

    def binary(self) -> tuple[dict[str, Any], bytes]:
        """As JSON without its values, and these as bytes."""
        data = to_bytes(DATATYPES[self.datatype], self.values)
        return self._described() | {"parameters": {"binary_data_size": len(data)}}, data

    def _described(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape}


def to_bytes(datatype: Datatype, values: Sequence[Any]) -> bytes:
    """Values as the bytes of a tensor."""
    if datatype.code is not None:
        return struct.pack(f"<{len(values)}{datatype.code}", *values)
    encoded = [str(value).encode() for value in values]
    return b"".join(len(one).to_bytes(_LENGTH_BYTES, "little") + one for one in encoded)
