"""Decoded rows as the inputs of a compiled model, by one copy, and its numbers as answers."""

from collections.abc import Sequence
from importlib import import_module
from math import isfinite
from typing import Any, Final

from services.serving.prediction.decoding import UNSET, Decoder, Pick, Values, picker
from shared.manifest import Manifest

Answers = tuple[list[Any], list[list[float]] | None]
"""A value for each row and, for classification, the shares of the classes."""
LARGEST_WHOLE: Final = 2.0**63


class Layout:
    """Where the values of a row stand in the inputs of one model.

    numpy comes with the first model that is asked.

    Attributes:
        features: a row's values in the order of the model's columns; None where they are the row.
    """

    def __init__(self, manifest: Manifest, decoder: Decoder) -> None:
        self._numpy: Any = import_module("numpy")
        self._manifest = manifest
        places = {name: place for place, (name, _) in enumerate(decoder.columns)}
        columns = manifest.columns
        self.features = _picked([places[column.name] for column in columns], decoder.row_width)
        texts = [places[column.name] for column in columns if column.kind == "text"]
        numbers = [places[column.name] for column in columns if column.kind != "text"]
        beyond = [place for place in (*numbers, *texts) if place >= decoder.required]
        self._optional = picker(beyond) if beyond else None
        self._has_numbers = bool(numbers)
        self._numbers = _picked(numbers, decoder.row_width)
        self._texts = picker(texts) if texts else None
        onnx_models: Any = import_module("shared.onnx_models") if texts else None
        self._missing = onnx_models.MISSING_TEXT if texts else ""

    def inputs(self, rows: Sequence[Values]) -> tuple[Any, Any] | None:
        """Numbers, shape (rows, numbers), and texts, shape (rows, texts); None without any.

        Nothing at all where a number is so large that it might be a whole one beyond 64 bits, or
        where a row does not name what this model needs beyond the others.
        """
        if self._optional is not None and any(UNSET in self._optional(row) for row in rows):
            return None
        texts = None if self._texts is None else self._named(rows, self._texts)
        if not self._has_numbers:
            return None, texts
        if self._numbers is not None:
            rows = list(map(self._numbers, rows))
        numbers = self._numpy.array(rows, dtype=float)
        return None if (abs(numbers) >= LARGEST_WHOLE).any() else (numbers, texts)

    def _named(self, rows: Sequence[Values], pick: Pick) -> Any:
        given = [[self._missing if t is None else t for t in pick(row)] for row in rows]
        return self._numpy.array(given, dtype=object)

    def answers(self, found: Any) -> Answers | None:
        """Numbers of shape (rows, answers) as answers; None where one may not be given."""
        manifest = self._manifest
        if manifest.task == "regression":
            values: list[float] = found[:, 0].tolist()
            return (values, None) if self._may_be_given(values) else None
        shares: list[list[float]] = found.tolist()
        classes = manifest.classes
        return [classes[row.index(max(row))] for row in shares], shares

    def _may_be_given(self, values: list[float]) -> bool:
        bounds = self._manifest.bounds
        if not all(map(isfinite, values)):
            return False
        return bounds is None or (bounds[0] <= min(values) and max(values) <= bounds[1])


def _picked(places: Sequence[int], width: int) -> Pick | None:
    """What takes these places of a row; None where they are the whole row."""
    return None if list(places) == list(range(width)) or not places else picker(places)


def layout_of(manifest: Manifest, decoder: Decoder) -> Layout | None:
    """Where the values of rows stand for this version; None where it sees them otherwise."""
    kinds = dict(decoder.columns)
    fits = all(kinds.get(column.name) == column.kind for column in manifest.columns)
    return Layout(manifest, decoder) if fits and manifest.columns else None
