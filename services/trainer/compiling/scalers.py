"""Scalers with the very operations of scikit-learn, in its order.

A product with a reciprocal is not the quotient to the last bit, and that bit decides at a split
that lies on a value of the training rows.
"""

from typing import Any

import numpy as np

from services.trainer.compiling.nodes import Nodes


def standard(scope: Any, operator: Any, container: Any) -> None:
    """`StandardScaler`: less the mean, by the deviation."""
    model = operator.raw_operator
    _moved(Nodes(scope, operator, container), model.mean_ if model.with_mean else None, model)


def robust(scope: Any, operator: Any, container: Any) -> None:
    """`RobustScaler`: less the centre, by the range."""
    model = operator.raw_operator
    _moved(Nodes(scope, operator, container), model.center_, model)


def largest(scope: Any, operator: Any, container: Any) -> None:
    """`MaxAbsScaler`: by the largest."""
    _moved(Nodes(scope, operator, container), None, operator.raw_operator)


def _moved(nodes: Nodes, centre: Any, model: Any) -> None:
    value = nodes.matrix()
    if centre is not None:
        value = nodes.add("Sub", value, _row(nodes, centre))
    if model.scale_ is not None:
        value = nodes.add("Div", value, _row(nodes, model.scale_))
    if getattr(model, "clip", False):
        value = _between(nodes, value, -1.0, 1.0)
    nodes.give(value)


def ranged(scope: Any, operator: Any, container: Any) -> None:
    """`MinMaxScaler`: into a range."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    value = nodes.add("Mul", nodes.matrix(), _row(nodes, model.scale_))
    value = nodes.add("Add", value, _row(nodes, model.min_))
    if model.clip:
        value = _between(nodes, value, *map(float, model.feature_range))
    nodes.give(value)


def _row(nodes: Nodes, values: Any) -> str:
    return nodes.constant(np.asarray(values, dtype=np.float64)[None, :])


def _between(nodes: Nodes, value: str, low: float, high: float) -> str:
    """Clipped; what is no number stays none."""
    least, most = nodes.constant(np.array([[low]])), nodes.constant(np.array([[high]]))
    value = nodes.add("Where", nodes.add("Less", value, least), least, value)
    return nodes.add("Where", nodes.add("Greater", value, most), most, value)
