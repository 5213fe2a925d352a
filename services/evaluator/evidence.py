"""What a verdict is computed from: outcomes and all answers, row by row, in one file.

A verdict is a function of this, of its rules and of what was known before. Models are not needed
again, nor the packages of the user's own metrics: their losses are part of it.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import TypeAdapter

from shared.errors import Unprocessable
from shared.events import Check
from shared.losses import Label

FORMAT: Final = "tidewheel/evidence/v2"
MOST_BYTES: Final = 2**31
"""Unpacked. A larger file is refused before any of it is unpacked."""

Predictor = Literal["candidate", "champion", "anchor", "baseline"]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Held-out rows in the order of decision (time, then hash), and what was said about them.

    Attributes:
        ordered: whether rows follow each other in time and may depend on their neighbours.
        y: outcomes, shape (n,): float64 for regression, objects (labels) for classification.
        row_hashes: uint64, shape (n,), no two alike.
        times: microseconds since 1970 (UTC), shape (n,).
        entities: a code per row, shape (n,); rows of one code depend on each other.
        classes: by predictor, labels in the order of its probabilities; empty for regression.
        answers: by predictor, shape (n,) for regression, else probabilities (n, classes).
        slices: by the name that gates and slices use, which rows belong to it.
        found: by its condition, parts of the rows that were looked for automatically.
        own_losses: by predictor and `package.module:function`, one loss per row, shape (n,).
        checks: what must hold of the candidate besides, already looked at.
    """

    task: Literal["regression", "classification"]
    ordered: bool
    y: NDArray[Any]
    row_hashes: NDArray[np.uint64]
    times: NDArray[np.int64] | None = None
    entities: NDArray[np.int64] | None = None
    classes: Mapping[str, tuple[Label, ...]] = field(default_factory=dict)
    answers: Mapping[str, Floats]
    slices: Mapping[str, Mask] = field(default_factory=dict)
    found: Mapping[str, Mask] = field(default_factory=dict)
    own_losses: Mapping[tuple[str, str], Floats] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    def order(self) -> NDArray[np.intp]:
        """The order of decision, whatever order the rows are in: by time, ties by hash."""
        keys: list[NDArray[Any]] = [self.row_hashes]
        if self.times is not None:
            keys.append(self.times)
        return np.lexsort(keys)

    def taken(self, rows: NDArray[Any]) -> "Evidence":
        """Only these rows (places or a mask), in this order."""
        return Evidence(
            task=self.task,
            ordered=self.ordered,
            y=self.y[rows],
            row_hashes=self.row_hashes[rows],
            times=None if self.times is None else self.times[rows],
            entities=None if self.entities is None else self.entities[rows],
            classes=self.classes,
            answers={name: values[rows] for name, values in self.answers.items()},
            slices={name: mask[rows] for name, mask in self.slices.items()},
            found={name: mask[rows] for name, mask in self.found.items()},
            own_losses={key: losses[rows] for key, losses in self.own_losses.items()},
            checks=self.checks,
        )

    def to_bytes(self) -> bytes:
        """One npz file without pickled objects; the same evidence gives the same bytes.

        Numbers are little-endian float64, labels are codes into the header's list.
        """
        arrays: dict[str, NDArray[Any]] = {"row_hashes": self.row_hashes.astype("<u8")}
        labels: list[Label] = []
        if self.task == "regression":
            arrays["y"] = np.asarray(self.y, dtype="<f8")
        else:
            labels = sorted({*self.y.tolist()}, key=lambda label: (type(label).__name__, label))
            place = {label: code for code, label in enumerate(labels)}
            arrays["y"] = np.array([place[label] for label in self.y.tolist()], dtype="<i4")
        for name, codes in (("times", self.times), ("entities", self.entities)):
            if codes is not None:
                arrays[name] = codes.astype("<i8")
        for name, values in self.answers.items():
            arrays[f"answers_{name}"] = values.astype("<f8")
        arrays |= _numbered("slice", self.slices) | _numbered("found", self.found)
        for place_of, losses in enumerate(_by_key(self.own_losses).values()):
            arrays[f"own_{place_of}"] = losses.astype("<f8")
        text = orjson.dumps(asdict(self._header(labels)), option=orjson.OPT_SORT_KEYS)
        arrays["header"] = np.frombuffer(text, dtype=np.uint8)
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **dict(sorted(arrays.items())))
        return file.getvalue()

    def _header(self, labels: Sequence[Label]) -> "_Header":
        return _Header(
            task=self.task,
            ordered=self.ordered,
            labels=list(labels),
            classes={name: list(found) for name, found in self.classes.items()},
            slices=sorted(self.slices),
            found=sorted(self.found),
            own=[list(key) for key in _by_key(self.own_losses)],
            checks=list(self.checks),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What the arrays mean."""

    format: Literal["tidewheel/evidence/v2"] = FORMAT
    task: Literal["regression", "classification"]
    ordered: bool
    labels: list[float | str | bool]
    classes: dict[str, list[float | str | bool]]
    slices: list[str]
    found: list[str]
    own: list[list[str]]
    checks: list[Check]


_HEADER: Final = TypeAdapter(_Header)


def read_evidence(data: bytes) -> Evidence:
    """Evidence from its bytes.

    Raises:
        Unprocessable: the bytes are no such file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(member.file_size for member in packed.infolist()) > MOST_BYTES:
                raise Unprocessable("the evidence is too large to be unpacked")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _unpacked(_HEADER.validate_json(arrays["header"].tobytes()), arrays)
    except (ValueError, KeyError, IndexError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise Unprocessable(f"this is no evidence: {_line(error)}") from error


def _unpacked(header: _Header, arrays: Mapping[str, NDArray[Any]]) -> Evidence:
    rows = len(arrays["y"])
    prefix = "answers_"
    return Evidence(
        task=header.task,
        ordered=header.ordered,
        y=_outcomes(header, arrays["y"]),
        row_hashes=arrays["row_hashes"].astype(np.uint64),
        times=_codes(arrays.get("times")),
        entities=_codes(arrays.get("entities")),
        classes={name: tuple(labels) for name, labels in header.classes.items()},
        answers={
            name.removeprefix(prefix): values.astype(np.float64)
            for name, values in arrays.items()
            if name.startswith(prefix)
        },
        slices=_masks("slice", header.slices, arrays, rows),
        found=_masks("found", header.found, arrays, rows),
        own_losses={
            (predictor, metric): arrays[f"own_{place}"].astype(np.float64)
            for place, (predictor, metric) in enumerate(header.own)
        },
        checks=tuple(header.checks),
    )


def _outcomes(header: _Header, stored: NDArray[Any]) -> NDArray[Any]:
    if header.task == "regression":
        return stored.astype(np.float64)
    if len(stored) and not 0 <= stored.min() <= stored.max() < len(header.labels):
        raise ValueError("an outcome is a label that is not there")
    labels = np.empty(len(header.labels), dtype=object)
    labels[:] = header.labels
    found: NDArray[Any] = labels[stored]
    return found


def _codes(stored: NDArray[Any] | None) -> NDArray[np.int64] | None:
    return None if stored is None else stored.astype(np.int64)


def _numbered(kind: str, masks: Mapping[str, Mask]) -> dict[str, NDArray[Any]]:
    """Masks by their place among the sorted names, which may be any text; eight rows a byte."""
    return {f"{kind}_{place}": np.packbits(masks[name]) for place, name in enumerate(sorted(masks))}


def _masks(
    kind: str, names: Sequence[str], arrays: Mapping[str, NDArray[Any]], rows: int
) -> dict[str, Mask]:
    return {
        name: np.unpackbits(arrays[f"{kind}_{place}"], count=rows).astype(np.bool_)
        for place, name in enumerate(names)
    }


def _by_key(losses: Mapping[tuple[str, str], Floats]) -> dict[tuple[str, str], Floats]:
    return {key: losses[key] for key in sorted(losses)}


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
