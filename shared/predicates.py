"""Which rows are meant: `season == 'winter' and load > 80`, `country in ['de', 'fr']`.

A small grammar over columns, never evaluated as code: comparisons of a column with a number, a text
or a truth value, joined by `and`, `or` and `not`. A column whose name is no plain word stands in
backquotes. A missing value fulfils no comparison but `column == none`.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST_CHARACTERS: Final = 500
_FORM: Final = "write it like `season == 'winter' and load > 80`"
_QUOTED: Final = re.compile(r"`([^`]+)`")
_COMPARISONS: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_WORDS: Final[Mapping[str, Any]] = {"none": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """A condition on a row, and the columns that it reads."""

    text: str
    columns: frozenset[str]
    tree: ast.expr
    names: Mapping[str, str]
    """Column behind each placeholder for a quoted name."""


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


def is_column(node: ast.expr) -> bool:
    """Whether a side of a comparison names a column."""
    return isinstance(node, ast.Name) and node.id not in _WORDS


def _check(node: ast.expr, columns: set[str], names: Mapping[str, str], text: str) -> None:
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                _check(value, columns, names, text)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check(operand, columns, names, text)
        case ast.Compare(left=ast.Name(id=name), ops=[ast.In() | ast.NotIn()], comparators=[many]):
            columns.add(names.get(name, name))
            literals(many, text)
        case ast.Compare(left=left, ops=ops, comparators=others) if _known(ops):
            for side in (left, *others):
                _check_side(side, columns, names, text)
            if not any(isinstance(side, ast.Name) for side in (left, *others)):
                raise ValueError(f"{text!r} compares no column; {_FORM}")
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is no comparison; {_FORM}")


def _known(operators: list[ast.cmpop]) -> bool:
    return all(isinstance(found, _COMPARISONS) for found in operators)


def _check_side(node: ast.expr, columns: set[str], names: Mapping[str, str], text: str) -> None:
    if isinstance(node, ast.Name) and is_column(node):
        columns.add(names.get(node.id, node.id))
    else:
        literal(node, text)


def literals(node: ast.expr, text: str) -> list[Any]:
    """The plain values of a list."""
    if not isinstance(node, ast.List | ast.Tuple) or not node.elts:
        raise ValueError(f"`in` needs a list in {text!r}, like country in ['de', 'fr']")
    return [literal(item, text) for item in node.elts]


def literal(node: ast.expr, text: str) -> Any:
    """The plain value that stands here."""
    match node:
        case ast.Name(id=name) if name in _WORDS:
            return _WORDS[name]
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case _:
            raise ValueError(f"{ast.unparse(node)!r} in {text!r} is no plain value; {_FORM}")
