"""Predictors without machine learning: fitted by the trainer, judged by the evaluator, served last.

A fitted rule is plain JSON and can be answered from the columns of a request alone.
"""

import ast
import operator
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

from shared.errors import Unprocessable
from shared.events import Json
from shared.spec import Baseline

Value = float | str | bool

_OPERATORS: Final[Mapping[type[ast.AST], Callable[..., float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def fit_rule(baseline: Baseline, targets: Sequence[Value]) -> Json:
    """The rule with what it takes from the training rows.

    Args:
        baseline: from the specification.
        targets: outcomes of the training rows, at least one.

    Raises:
        Unprocessable: the rule does not fit the targets.
    """
    match baseline.rule:
        case "mean" | "median":
            middle = statistics.fmean if baseline.rule == "mean" else statistics.median
            return {"rule": "constant", "value": float(middle([float(y) for y in targets]))}
        case "majority":
            counts = Counter(targets)
            shares = [[label, count / len(targets)] for label, count in counts.most_common()]
            return {"rule": "majority", "shares": shares}
        case "constant":
            return {"rule": "constant", "value": baseline.value}
        case "column" | "last_value" | "seasonal_naive":
            # One rule once it is fitted: the request names the value, whatever people call it.
            spare = _middle_or_mode(targets)
            return {"rule": "column", "column": baseline.column, "otherwise": spare}
        case "expression":
            parse_expression(baseline.expression or "")
            spare = _middle_or_mode(targets)
            return {
                "rule": "expression",
                "expression": baseline.expression,
                "otherwise": spare,
            }


def _middle_or_mode(targets: Sequence[Value]) -> Value:
    if all(isinstance(y, float | int) and not isinstance(y, bool) for y in targets):
        return float(statistics.median([float(y) for y in targets]))
    return Counter(targets).most_common(1)[0][0]


def answer(rule: Json, row: Mapping[str, Any]) -> Value:
    """What the rule says about one row.

    Where the row lacks what the rule needs, the median (or the most frequent label) of the
    training rows answers, so that the last rung always does.
    """
    match rule["rule"]:
        case "constant":
            value: Value = rule["value"]
        case "majority":
            value = rule["shares"][0][0]
        case "column":
            value = _usable(row.get(rule["column"]), rule["otherwise"])
        case "expression":
            value = _usable(_evaluated(rule["expression"], row), rule["otherwise"])
        case unknown:
            raise Unprocessable(f"baseline rule {unknown!r} is not known here")
    return value


def probabilities(rule: Json, classes: Sequence[Value]) -> list[float]:
    """The rule's probabilities of the classes, for the classification metrics.

    A rule that names one class gives it all but a thousandth, so that log loss stays finite.
    """
    if rule["rule"] == "majority":
        shares = {_key(label): share for label, share in rule["shares"]}
        return [shares.get(_key(label), 0.0) for label in classes]
    chosen = _key(answer(rule, {}))
    return one_hot(chosen, classes)


def one_hot(chosen: str, classes: Sequence[Value]) -> list[float]:
    """Nearly certain of one class; the thousandth that is left is shared by the others."""
    others = max(len(classes) - 1, 1)
    return [0.999 if _key(label) == chosen else 0.001 / others for label in classes]


def _key(label: Value) -> str:
    return str(label)


def _usable(value: Any, otherwise: Value) -> Value:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and isfinite(value):
        return float(value)
    return otherwise


def parse_expression(text: str) -> ast.expr:
    """The tree of an arithmetic expression over columns.

    Raises:
        ValueError: it holds anything but numbers, column names, + - * / and brackets.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, RecursionError) as error:
        raise ValueError(f"{text!r} is no arithmetic expression") from error
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ValueError(
                f"{type(node).__name__} is not allowed in {text!r}; use numbers, columns, + - * /"
            )
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float):
            raise ValueError(f"{node.value!r} in {text!r} is no number")
    return tree


_ALLOWED: Final = (
    ast.BinOp,
    ast.UnaryOp,
    ast.Name,
    ast.Load,
    ast.Constant,
    *_OPERATORS,
)


def columns_of(expression: str) -> frozenset[str]:
    """The columns that an expression needs."""
    tree = parse_expression(expression)
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _evaluated(expression: str, row: Mapping[str, Any]) -> float | None:
    try:
        return _value(parse_expression(expression), row)
    except (TypeError, ValueError, KeyError, ZeroDivisionError, OverflowError):
        return None


def _value(node: ast.expr, row: Mapping[str, Any]) -> float:
    match node:
        case ast.Constant(value=value):
            return float(value)  # type: ignore[arg-type] # parse_expression lets only numbers in
        case ast.Name(id=name):
            return float(row[name])
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, row), _value(right, row))
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_value(operand, row))
        case _:
            raise TypeError(type(node).__name__)
