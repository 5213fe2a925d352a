"""The rows that fulfil a condition of `shared.predicates`."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.predicates import Predicate, is_column, literal, literals

Mask = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]

_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def mask_of(predicate: Predicate, columns: Columns) -> Mask:
    """The rows that fulfil it, shape (n,).

    Args:
        columns: float64 with NaN for missing, or objects with None for missing, shape (n,).

    Raises:
        ValueError: a column is not there, or is compared with something of another kind.
    """
    return _mask(predicate.tree, columns, predicate.names)


def _mask(node: ast.expr, columns: Columns, names: Mapping[str, str]) -> Mask:
    match node:
        case ast.BoolOp(op=joined, values=values):
            masks = [_mask(value, columns, names) for value in values]
            join = np.logical_and if isinstance(joined, ast.And) else np.logical_or
            found: Mask = join.reduce(masks)
            return found
        case ast.UnaryOp(operand=operand):
            return ~_mask(operand, columns, names)
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[many]):
            values_of = _values(left, columns, names)
            inside = np.zeros(len(values_of), dtype=np.bool_)
            for value in literals(many, ""):
                inside |= _compared(ast.Eq(), values_of, value)
            return inside if isinstance(op, ast.In) else ~inside & ~_missing(values_of)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_values(side, columns, names) for side in (left, *others)]
            pairs = zip(sides, ops, sides[1:], strict=False)
            held: Mask = np.logical_and.reduce([_compared(op, a, b) for a, op, b in pairs])
            return held
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is no comparison")


def _values(node: ast.expr, columns: Columns, names: Mapping[str, str]) -> Any:
    if isinstance(node, ast.Name) and is_column(node):
        name = names.get(node.id, node.id)
        if name not in columns:
            raise ValueError(f"there is no column {name!r}")
        return columns[name]
    return literal(node, "")


def _missing(values: Any) -> Mask:
    if not isinstance(values, np.ndarray):
        raise ValueError("a plain value cannot be missing")
    if values.dtype == object:
        return np.array([value is None for value in values], dtype=np.bool_)
    return np.isnan(values.astype(np.float64))


def _compared(op: ast.cmpop, one: Any, other: Any) -> Mask:
    """Both sides may be columns; a missing value only equals `none`."""
    for value, column in ((one, other), (other, one)):
        if value is None:
            absent = _missing(column)
            return absent if isinstance(op, ast.Eq) else ~absent
    compare = _COMPARISONS[type(op)]
    present = np.array(True)
    for side in (one, other):
        if isinstance(side, np.ndarray):
            present = present & ~_missing(side)
    try:
        result = _each(compare, one, other, present)
    except TypeError as error:
        raise ValueError("a column is compared with a value of another kind") from error
    found: Mask = result & present
    return found


def _each(compare: Callable[[Any, Any], Any], one: Any, other: Any, present: Mask) -> Mask:
    sides = [side for side in (one, other) if isinstance(side, np.ndarray)]
    if any(side.dtype == object for side in sides):
        count = len(sides[0])
        first, second = (_as_list(side, count) for side in (one, other))
        rows = zip(first, second, present.tolist(), strict=True)
        return np.array([bool(here and compare(a, b)) for a, b, here in rows], dtype=np.bool_)
    if isinstance(one, str) or isinstance(other, str):
        raise ValueError("a column of numbers is compared with a text")
    with np.errstate(invalid="ignore"):
        return np.asarray(compare(one, other), dtype=np.bool_)


def _as_list(side: Any, count: int) -> list[Any]:
    return side.tolist() if isinstance(side, np.ndarray) else [side] * count
