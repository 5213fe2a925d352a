"""Decoded rows as the inputs of a compiled model, by one copy, and its numbers as answers."""

from collections.abc import Sequence
from importlib import import_module
from math import isfinite
from typing import Any, Final

from services.serving.prediction.decoding import Pick, Values, picker
from shared.manifest import Column, Manifest

Answers = tuple[list[Any], list[list[float]] | None]
"""A value for each row and, for classification, the shares of the classes."""
LARGEST_WHOLE: Final = 2.0**63


class Layout:
    """Where the values of a row stand in the inputs of one model.

    numpy comes with the first model that is asked.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._numpy: Any = import_module("numpy")
        self._manifest = manifest
        self._numbers = _picked(manifest.columns, is_text=False)
        self._texts = _picked(manifest.columns, is_text=True)
        self._width = len(manifest.columns)
        onnx_models: Any = import_module("shared.onnx_models") if self._texts else None
        self._missing = onnx_models.MISSING_TEXT if self._texts else ""

    def inputs(self, rows: Sequence[Values]) -> tuple[Any, Any] | None:
        """Numbers, shape (rows, numbers), and texts, shape (rows, texts); None without any.

        Nothing at all where a number is so large that it might be a whole one beyond 64 bits.
        """
        texts = None if self._texts is None else self._named(rows, self._texts)
        if self._numbers is None:
            return None, texts
        if texts is not None or len(rows[0]) != self._width:
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


def _picked(columns: Sequence[Column], *, is_text: bool) -> Pick | None:
    places = [i for i, column in enumerate(columns) if (column.kind == "text") is is_text]
    return picker(places) if places else None


def layout_of(manifest: Manifest) -> Layout:
    """Where the values of this version's rows stand."""
    return Layout(manifest)
