"""Imputers and encoders in double precision, over numbers and texts alike.

skl2onnx writes them in single precision and does not tell a refusal from an answer. Here a value
that scikit-learn would refuse becomes one that is not finite, which no later step makes finite.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx.common.data_types import StringTensorType

from services.trainer.compiling.nodes import CannotCompile, Nodes
from shared.onnx_models import MISSING_TEXT


def is_text(operator: Any) -> bool:
    """Whether an operator sees texts.

    Raises:
        CannotCompile: it sees texts and numbers at once.
    """
    kinds = {isinstance(variable.type, StringTensorType) for variable in operator.inputs}
    if len(kinds) != 1:
        raise CannotCompile("an encoder sees texts and numbers at once; give each one of its own")
    return kinds.pop()


# --- imputing -------------------------------------------------------------------------------


def imputer(scope: Any, operator: Any, container: Any) -> None:
    """`SimpleImputer`."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    matrix = nodes.matrix()
    missing, fills = _missing(nodes, matrix, model, is_text=is_text(operator))
    kept = kept_columns(model)
    filled = nodes.add("Where", missing, fills, matrix)
    if len(kept) < len(model.statistics_):
        filled = nodes.add("Gather", filled, nodes.constant(kept), axis=1)
    if model.add_indicator:
        shown = nodes.constant(np.asarray(model.indicator_.features_, dtype=np.int64))
        flags = nodes.add("Gather", missing, shown, axis=1)
        as_numbers = nodes.add("Cast", flags, to=TensorProto.DOUBLE)
        filled = nodes.add("Concat", filled, as_numbers, axis=1)
    nodes.give(filled)


def _missing(nodes: Nodes, matrix: str, model: Any, *, is_text: bool) -> tuple[str, str]:
    """Where values are missing, and what takes their place."""
    if is_text:
        if model.add_indicator:
            raise CannotCompile("an imputer of texts that also tells where they were missing")
        sought = MISSING_TEXT if model.missing_values is None else model.missing_values
        if not isinstance(sought, str):  # NaN never equals the None of a missing text
            return _nowhere(nodes, matrix, model)
        fills = [MISSING_TEXT if value is None else value for value in model.statistics_]
        return nodes.add("Equal", matrix, nodes.constant(np.array([[sought]]))), nodes.constant(
            np.array([fills])
        )
    numbers = np.asarray(model.statistics_, dtype=np.float64)
    row = nodes.constant(np.where(np.isnan(numbers), 0.0, numbers)[None, :])
    if _is_nan(model.missing_values):
        return nodes.add("IsNaN", matrix), row
    sought = nodes.constant(np.array([[float(model.missing_values)]]))
    return nodes.add("Equal", matrix, sought), row


def _nowhere(nodes: Nodes, matrix: str, model: Any) -> tuple[str, str]:
    same = nodes.add("Equal", matrix, matrix)
    return nodes.add("Not", same), nodes.constant(np.array([[""] * len(model.statistics_)]))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))


def kept_columns(model: Any) -> NDArray[np.int64]:
    """The columns that an imputer gives; one that never had a value is dropped."""
    statistics = np.asarray(model.statistics_)
    if model.keep_empty_features or model.strategy == "constant":
        return np.arange(len(statistics))
    lost = [_is_nan(value) for value in statistics.tolist()]
    return np.flatnonzero(~np.array(lost, dtype=bool))


# --- encoding -------------------------------------------------------------------------------


def one_hot(scope: Any, operator: Any, container: Any) -> None:
    """`OneHotEncoder`: one column of 0 and 1 per category."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    is_strict = model.handle_unknown == "error"
    matrix, text = nodes.matrix(), is_text(operator)
    parts = []
    for index, categories in enumerate(model.categories_):
        hits = _hits(nodes, _column(nodes, matrix, index), categories, text=text)
        if is_strict:
            hits = _refusing(nodes, hits)
        kept = kept_categories(model, index)
        if len(kept) < len(categories):
            hits = nodes.add("Gather", hits, nodes.constant(kept), axis=1)
        if len(kept):
            parts.append(hits)
    nodes.give(parts[0] if len(parts) == 1 else nodes.add("Concat", *parts, axis=1))


def kept_categories(model: Any, index: int) -> NDArray[np.int64]:
    """The categories of a column that have a column of their own.

    Raises:
        CannotCompile: rare categories are taken together.
    """
    if getattr(model, "_infrequent_enabled", False):
        raise CannotCompile("an encoder that takes rare categories together")
    dropped = None if model.drop_idx_ is None else model.drop_idx_[index]
    return np.array([i for i in range(len(model.categories_[index])) if i != dropped], np.int64)


def ordinal(scope: Any, operator: Any, container: Any) -> None:
    """`OrdinalEncoder`: the place of each category in its list."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    if getattr(model, "_infrequent_enabled", False):
        raise CannotCompile("an encoder that takes rare categories together")
    is_strict = model.handle_unknown == "error"
    matrix, text = nodes.matrix(), is_text(operator)
    parts = []
    for index, categories in enumerate(model.categories_):
        hits = _hits(nodes, _column(nodes, matrix, index), categories, text=text)
        codes = np.arange(float(len(categories)))
        place = nodes.add("MatMul", hits, nodes.constant(codes[:, None]))
        known = nodes.add("ReduceSum", hits, nodes.constant(np.array([1])), keepdims=1)
        otherwise = np.inf if is_strict else float(model.unknown_value)
        place = _where_known(nodes, known, place, otherwise)
        parts.append(_with_missing_code(nodes, place, hits, categories, model))
    nodes.give(parts[0] if len(parts) == 1 else nodes.add("Concat", *parts, axis=1))


def _where_known(nodes: Nodes, known: str, place: str, otherwise: float) -> str:
    is_known = nodes.add("Greater", known, nodes.constant(np.array(0.5)))
    return nodes.add("Where", is_known, place, nodes.constant(np.array([[otherwise]])))


def _with_missing_code(nodes: Nodes, place: str, hits: str, categories: Any, model: Any) -> str:
    gaps = [
        i for i, value in enumerate(categories.tolist()) if _is_nan(value)
    ]  # None is a category
    if not gaps:
        return place
    flag = nodes.add("Gather", hits, nodes.constant(np.array(gaps)), axis=1)
    code = nodes.constant(np.array([[float(model.encoded_missing_value)]]))
    is_missing = nodes.add("Greater", flag, nodes.constant(np.array(0.5)))
    return nodes.add("Where", is_missing, code, place)


def _column(nodes: Nodes, matrix: str, index: int) -> str:
    return nodes.add("Gather", matrix, nodes.constant(np.array([index])), axis=1)


def _hits(nodes: Nodes, column: str, categories: Any, *, text: bool) -> str:
    """1 where the value is that category, shape (n, categories)."""
    values = categories.tolist()
    if text:
        named = [MISSING_TEXT if value is None else value for value in values]
        if MISSING_TEXT in values:
            raise CannotCompile("a category is the character that stands for a missing text")
        if not all(isinstance(value, str) for value in named):
            raise CannotCompile("categories of several kinds in one column")
        places = nodes.add_ml(
            "LabelEncoder",
            column,
            keys_strings=[value.encode() for value in named],
            values_int64s=list(range(len(named))),
            default_int64=-1,
        )
        same = nodes.add("Equal", places, nodes.constant(np.arange(len(named))[None, :]))
        return nodes.add("Cast", same, to=TensorProto.DOUBLE)
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    same = nodes.add("Equal", column, nodes.constant(numbers[None, :]))
    if np.isnan(numbers).any():
        is_missing = nodes.add("IsNaN", column)
        same = nodes.add(
            "Or", same, nodes.add("And", is_missing, nodes.constant(np.isnan(numbers)[None, :]))
        )
    return nodes.add("Cast", same, to=TensorProto.DOUBLE)


def _refusing(nodes: Nodes, hits: str) -> str:
    """The same; infinite in rows where no category is hit."""
    known = nodes.add("ReduceSum", hits, nodes.constant(np.array([1])), keepdims=1)
    return nodes.add("Div", hits, known)  # 0 / 0
