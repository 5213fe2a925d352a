"""Linear classifiers, whose last step would make a refused row look like an answer."""

from typing import Any

import numpy as np

from services.trainer.compiling.nodes import Nodes


def logistic(scope: Any, operator: Any, container: Any) -> None:
    """Logistic regression: shares of the classes."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    matrix = nodes.matrix()
    scores = _scores(nodes, matrix, model)
    if len(model.classes_) == 2:
        shares = nodes.two_sides(nodes.add("Sigmoid", scores))
    else:
        shares = nodes.add("Softmax", scores, axis=1)
    shares = nodes.add("Add", shares, nodes.penalty(matrix, takes_missing=False))
    nodes.give(nodes.labels(shares), shares)


def certain(scope: Any, operator: Any, container: Any) -> None:
    """Linear classifiers that only name a label: nearly all of the share is that one's."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    matrix, count = nodes.matrix(), len(model.classes_)
    scores = _scores(nodes, matrix, model)
    if count == 2:
        is_second = nodes.add("Greater", scores, nodes.constant(np.array(0.0)))
        sides = nodes.constant(np.array([[1]])), nodes.constant(np.array([[0]]))
        label = nodes.add("Where", is_second, *sides)
    else:
        label = nodes.add("ArgMax", scores, axis=1, keepdims=1)
    named = nodes.add("Equal", label, nodes.constant(np.arange(count)[None, :]))
    high, low = nodes.constant(np.array(0.999)), nodes.constant(np.array(0.001 / (count - 1)))
    shares = nodes.add("Where", named, high, low)
    shares = nodes.add("Add", shares, nodes.penalty(matrix, takes_missing=False))
    nodes.give(nodes.labels(shares), shares)


def _scores(nodes: Nodes, matrix: str, model: Any) -> str:
    weights = np.asarray(model.coef_, dtype=np.float64).T.reshape(model.n_features_in_, -1)
    offsets = np.asarray(model.intercept_, dtype=np.float64).reshape(1, -1)
    product = nodes.add("MatMul", matrix, nodes.constant(weights))
    return nodes.add("Add", product, nodes.constant(offsets))
