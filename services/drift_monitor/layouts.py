"""The cells of a version in few bytes: what counting needs of a profile, and nothing else of it.

A profile has hundreds of kilobytes; to go on after a start takes the edges, levels and scores of
thousands of versions, and them only.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson

from shared.errors import Unprocessable
from shared.joint import Basis
from shared.sketch import CategoryCells, Cells, Layout, NumberCells

_FORM: Final = b"L1"
_SIZE: Final = struct.Struct("<I")


def pack_layout(layout: Layout) -> bytes:
    """A layout as bytes: a header of names and sizes, then all edges, then all scores."""
    basis = layout.basis
    header = orjson.dumps(
        {
            "features": [_header_of(cells) for cells in layout.features],
            "basis": basis
            and {
                "features": basis.features,
                "sizes": [len(scores) for scores in basis.scores],
                "width": basis.width,
                "seed": basis.seed,
            },
        }
    )
    edges = [e for cells in layout.features if isinstance(cells, NumberCells) for e in cells.edges]
    scores = [score for some in basis.scores for score in some] if basis else []
    return b"".join(
        [
            _FORM,
            _SIZE.pack(len(header)),
            header,
            np.array(edges, dtype="<f8").tobytes(),
            np.array(scores, dtype="<i2").tobytes(),
        ]
    )


def read_layout(data: bytes) -> Layout:
    """The layout that was packed.

    Raises:
        Unprocessable: the bytes are no layout of this form.
    """
    if data[:2] != _FORM:
        raise Unprocessable("these bytes are no layout of this form")
    (size,) = _SIZE.unpack_from(data, 2)
    start = 2 + _SIZE.size
    header = orjson.loads(data[start : start + size])
    total = sum(len_ for _, len_ in header["features"] if isinstance(len_, int))
    edges = np.frombuffer(data, dtype="<f8", count=total, offset=start + size).tolist()
    basis = header["basis"] and _basis(header["basis"], data[start + size + 8 * total :])
    return Layout(features=tuple(_cells(header["features"], edges)), basis=basis)


def _header_of(cells: Cells) -> tuple[str, Any]:
    if isinstance(cells, NumberCells):
        return cells.name, len(cells.edges)
    return cells.name, list(cells.levels)


def _cells(headers: list[Any], edges: list[float]) -> Iterator[Cells]:
    start = 0
    for name, what in headers:
        if isinstance(what, int):
            yield NumberCells(name=name, edges=tuple(edges[start : start + what]))
            start += what
        else:
            yield CategoryCells(name=name, levels=tuple(what))


def _basis(header: dict[str, Any], data: bytes) -> Basis:
    scores = np.frombuffer(data, dtype="<i2").tolist()
    ends = np.cumsum([0, *header["sizes"]]).tolist()
    return Basis(
        features=tuple(header["features"]),
        scores=tuple(
            tuple(scores[start:end]) for start, end in zip(ends[:-1], ends[1:], strict=True)
        ),
        width=header["width"],
        seed=header["seed"],
    )
