"""Which rows are meant: `season == 'winter' and load > 80`, `country in ['de', 'fr']`.

A small grammar over columns, never evaluated as code: comparisons of a column with a number, a text
or a truth value, joined by `and`, `or` and `not`. A column whose name is no plain word stands in
backquotes. A missing value fulfils no comparison but `column == none`.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]

MOST_CHARACTERS: Final = 500
_FORM: Final = "write it like `season == 'winter' and load > 80`"
_QUOTED: Final = re.compile(r"`([^`]+)`")
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """A condition on a row, and the columns that it reads."""

    text: str
    columns: frozenset[str]
    tree: ast.expr
    names: Mapping[str, str]
    """Column behind each placeholder for a quoted name."""

    def mask(self, columns: Columns) -> Mask:
        """The rows that fulfil it, shape (n,).

        Args:
            columns: float64 with NaN for missing, or objects with None for missing, shape (n,).

        Raises:
            ValueError: a column is not there, or is compared with something of another kind.
        """
        return _mask(self.tree, columns, self.names)


def read_predicate(text: str) -> Predicate:
    """A condition from its text.

    Raises:
        ValueError: it holds anything but the grammar above; says what and how to write it.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a condition has at most {MOST_CHARACTERS} characters")
    names: dict[str, str] = {}

    def placeholder(found: re.Match[str]) -> str:
        name = f"_quoted_{len(names)}"
        names[name] = found[1]
        return name

    try:
        tree = ast.parse(_QUOTED.sub(placeholder, text.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no condition; {_FORM}") from error
    columns: set[str] = set()
    _check(tree, columns, names, text)
    return Predicate(text=text, columns=frozenset(columns), tree=tree, names=names)


def _check(node: ast.expr, columns: set[str], names: Mapping[str, str], text: str) -> None:
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                _check(value, columns, names, text)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check(operand, columns, names, text)
        case ast.Compare(left=ast.Name(id=name), ops=[ast.In() | ast.NotIn()], comparators=[many]):
            columns.add(names.get(name, name))
            _literals(many, text)
        case ast.Compare(left=left, ops=ops, comparators=others) if _known(ops):
            for side in (left, *others):
                _check_side(side, columns, names, text)
            if not any(isinstance(side, ast.Name) for side in (left, *others)):
                raise ValueError(f"{text!r} compares no column; {_FORM}")
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is no comparison; {_FORM}")


def _known(operators: list[ast.cmpop]) -> bool:
    return all(type(found) in _COMPARISONS for found in operators)


def _check_side(node: ast.expr, columns: set[str], names: Mapping[str, str], text: str) -> None:
    if isinstance(node, ast.Name) and node.id not in ("none", "true", "false"):
        columns.add(names.get(node.id, node.id))
    else:
        _literal(node, text)


def _literals(node: ast.expr, text: str) -> list[Any]:
    if not isinstance(node, ast.List | ast.Tuple) or not node.elts:
        raise ValueError(f"`in` needs a list in {text!r}, like country in ['de', 'fr']")
    return [_literal(item, text) for item in node.elts]


def _literal(node: ast.expr, text: str) -> Any:
    words = {"none": None, "true": True, "false": False}
    match node:
        case ast.Name(id=name) if name in words:
            return words[name]
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case _:
            raise ValueError(f"{ast.unparse(node)!r} in {text!r} is no plain value; {_FORM}")


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
            for value in _literals(many, ""):
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
    if isinstance(node, ast.Name) and node.id not in ("none", "true", "false"):
        name = names.get(node.id, node.id)
        if name not in columns:
            raise ValueError(f"there is no column {name!r}")
        return columns[name]
    return _literal(node, "")


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
