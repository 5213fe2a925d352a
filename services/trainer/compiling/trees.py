"""Trees as one `TreeEnsemble` node in double precision.

skl2onnx writes trees in single precision, which moves splits; and it cannot read the nodes of
histogram gradient boosting. Leaves are added up in scikit-learn's own order, from its own start,
so that sums are the same to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble._iforest import _average_path_length

from services.trainer.compiling.nodes import CannotCompile, Nodes, tensor

MOST_NODES: Final = 1_500_000
_LEAST_EQUAL, _MEMBER = 0, 6
_NO_NUMBER: Final = np.array([np.nan])


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """One tree that adds to one target.

    Attributes:
        left, right: index of the child; what a leaf has there does not matter.
        missing_left: whether a missing value goes left.
        members: where a split asks for a set of values instead of a threshold, by node.
        values: of each node; only those of leaves are used.
    """

    is_leaf: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    values: NDArray[np.float64]
    target: int = 0
    members: dict[int, NDArray[np.float64]]


def constant_tree(value: float, target: int = 0) -> Grown:
    """A single leaf."""
    none = np.zeros(1, dtype=np.int64)
    return Grown(
        is_leaf=np.ones(1, dtype=bool),
        left=none,
        right=none,
        feature=none,
        threshold=np.zeros(1),
        missing_left=np.zeros(1, dtype=bool),
        values=np.array([value], dtype=np.float64),
        target=target,
        members={},
    )


def of_decision_tree(
    tree: Any, values: NDArray[np.float64], target: int = 0, features: Any = None
) -> Grown:
    """A decision tree of scikit-learn; `features` names its columns if it sees only some."""
    feature = np.asarray(tree.feature, dtype=np.int64)
    is_leaf = np.asarray(tree.children_left) == -1
    if features is not None:
        feature = np.where(is_leaf, 0, np.asarray(features)[np.where(is_leaf, 0, feature)])
    return Grown(
        is_leaf=is_leaf,
        left=np.asarray(tree.children_left, dtype=np.int64),
        right=np.asarray(tree.children_right, dtype=np.int64),
        feature=feature,
        threshold=np.asarray(tree.threshold, dtype=np.float64),
        missing_left=np.asarray(tree.missing_go_to_left).astype(bool),
        values=np.asarray(values, dtype=np.float64),
        target=target,
        members={},
    )


def ensemble(nodes: Nodes, matrix: str, trees: Sequence[Grown], targets: int) -> str:
    """The sums of all trees, shape (n, targets).

    Raises:
        CannotCompile: there are too many nodes.
    """
    if sum(len(tree.is_leaf) for tree in trees) > MOST_NODES:
        raise CannotCompile(f"its trees have more than {MOST_NODES} nodes")
    parts: dict[str, list[NDArray[Any]]] = {}
    inner = leaves = 0
    for tree in trees:
        laid = _laid_out(tree, inner, leaves)
        for name, values in laid.items():
            parts.setdefault(name, []).append(values)
        inner += len(laid["nodes_featureids"])
        leaves += len(laid["leaf_weights"])
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    members = joined.pop("membership_values")
    if len(members):
        joined["membership_values"] = members
    attributes = {
        name: tensor(name, values) if values.dtype != np.int64 else values.tolist()
        for name, values in joined.items()
    }
    fixed = {"n_targets": targets, "aggregate_function": 1, "post_transform": 0}
    return nodes.add_ml("TreeEnsemble", matrix, **attributes, **fixed)


def _laid_out(tree: Grown, inner: int, leaves: int) -> dict[str, NDArray[Any]]:
    """A tree as attributes; its splits and leaves are numbered from here on."""
    splits, ends = np.flatnonzero(~tree.is_leaf), np.flatnonzero(tree.is_leaf)
    found: dict[str, NDArray[Any]] = {
        "leaf_targetids": np.full(len(ends), tree.target, dtype=np.int64),
        "leaf_weights": tree.values[ends],
        "tree_roots": np.array([inner], dtype=np.int64),
    }
    if not len(splits):  # a split whose sides are the same leaf
        return (
            found
            | _split_columns(*(np.array([0]),) * 6, np.zeros(1), [])
            | {
                "nodes_truenodeids": np.array([leaves]),
                "nodes_falsenodeids": np.array([leaves]),
                "nodes_trueleafs": np.array([1]),
                "nodes_falseleafs": np.array([1]),
            }
        )
    place = np.empty(len(tree.is_leaf), dtype=np.int64)
    place[splits] = inner + np.arange(len(splits))
    place[ends] = leaves + np.arange(len(ends))
    left, right = tree.left[splits], tree.right[splits]
    modes = np.zeros(len(splits), dtype=np.uint8)
    sets = []
    for index, node in enumerate(splits.tolist()):
        if tree.members and node in tree.members:
            modes[index] = _MEMBER
            sets.append(np.concatenate([tree.members[node], _NO_NUMBER]))
    return found | _split_columns(
        tree.feature[splits],
        place[left],
        place[right],
        tree.is_leaf[left].astype(np.int64),
        tree.is_leaf[right].astype(np.int64),
        tree.missing_left[splits].astype(np.int64),
        tree.threshold[splits],
        sets,
        modes,
    )


def _split_columns(
    feature: NDArray[Any],
    true: NDArray[Any],
    false: NDArray[Any],
    true_leaf: NDArray[Any],
    false_leaf: NDArray[Any],
    missing: NDArray[Any],
    threshold: NDArray[np.float64],
    sets: list[NDArray[np.float64]],
    modes: NDArray[np.uint8] | None = None,
) -> dict[str, NDArray[Any]]:
    return {
        "nodes_featureids": feature,
        "nodes_truenodeids": true,
        "nodes_falsenodeids": false,
        "nodes_trueleafs": true_leaf,
        "nodes_falseleafs": false_leaf,
        "nodes_missing_value_tracks_true": missing,
        "nodes_splits": threshold,
        "nodes_modes": np.zeros(len(feature), dtype=np.uint8) if modes is None else modes,
        "membership_values": np.concatenate(sets) if sets else np.empty(0),
    }


# --- forests and single trees -----------------------------------------------------------------


def forest_regressor(scope: Any, operator: Any, container: Any) -> None:
    """Decision tree, random forest, extra trees."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    members = _members(model)
    trees = [of_decision_tree(m.tree_, m.tree_.value[:, 0, 0]) for m in members]
    seen, penalty = _seen(nodes, takes_missing=_takes_missing(members[0]))
    mean = _mean(nodes, ensemble(nodes, seen, trees, 1), len(members))
    nodes.give(nodes.add("Add", mean, penalty))


def forest_classifier(scope: Any, operator: Any, container: Any) -> None:
    """The same; a leaf adds to one target only, so each class has trees of its own."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    members, count = _members(model), len(model.classes_)
    targets = [1] if count == 2 else range(count)
    trees = [
        of_decision_tree(m.tree_, m.tree_.value[:, 0, label], target)
        for m in members
        for target, label in enumerate(targets)
    ]
    seen, penalty = _seen(nodes, takes_missing=_takes_missing(members[0]))
    shares = _mean(nodes, ensemble(nodes, seen, trees, len(targets)), len(members))
    _give_shares(nodes, nodes.two_sides(shares) if count == 2 else shares, penalty)


def _members(model: Any) -> list[Any]:
    if getattr(model, "n_outputs_", 1) != 1:
        raise CannotCompile("it answers several things at once")
    return list(getattr(model, "estimators_", [model]))


def _takes_missing(tree: Any) -> bool:
    return bool(tree._support_missing_values(np.zeros((1, 1))))  # noqa: SLF001 - no public way


def _seen(nodes: Nodes, *, takes_missing: bool) -> tuple[str, str]:
    seen = nodes.as_float32(nodes.matrix())
    return seen, nodes.penalty(seen, takes_missing=takes_missing)


def _mean(nodes: Nodes, total: str, count: int) -> str:
    return total if count == 1 else nodes.add("Div", total, nodes.constant(np.array(float(count))))


def _give_shares(nodes: Nodes, shares: str, penalty: str) -> None:
    shares = nodes.add("Add", shares, penalty)
    nodes.give(nodes.labels(shares), shares)


# --- boosting -------------------------------------------------------------------------------


def boosting_regressor(scope: Any, operator: Any, container: Any) -> None:
    """Gradient boosting."""
    nodes = Nodes(scope, operator, container)
    raw, penalty = _boosted(nodes, operator.raw_operator)
    nodes.give(nodes.add("Add", raw, penalty))


def boosting_classifier(scope: Any, operator: Any, container: Any) -> None:
    """Gradient boosting, from raw sums to shares."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    raw, penalty = _boosted(nodes, model)
    _give_shares(nodes, _shares(nodes, raw, model), penalty)


def _boosted(nodes: Nodes, model: Any) -> tuple[str, str]:
    if model.init_ != "zero" and not isinstance(model.init_, DummyClassifier | DummyRegressor):
        raise CannotCompile("it starts from another estimator")
    targets = model.estimators_.shape[1]
    some_row = np.zeros((1, model.n_features_in_), dtype=np.float32)
    start = model._raw_predict_init(some_row)[0]  # noqa: SLF001 - there is no public way to it
    trees = [constant_tree(float(value), target) for target, value in enumerate(start)]
    trees += [
        of_decision_tree(m.tree_, model.learning_rate * m.tree_.value[:, 0, 0], target)
        for stage in model.estimators_
        for target, m in enumerate(stage)
    ]
    seen, penalty = _seen(nodes, takes_missing=False)
    return ensemble(nodes, seen, trees, targets), penalty


def _shares(nodes: Nodes, raw: str, model: Any) -> str:
    match type(model._loss.link).__name__:  # noqa: SLF001 - there is no public way to it
        case "LogitLink":
            return nodes.two_sides(nodes.add("Sigmoid", raw))
        case "HalfLogitLink":
            doubled = nodes.add("Mul", raw, nodes.constant(np.array(2.0)))
            return nodes.two_sides(nodes.add("Sigmoid", doubled))
        case "MultinomialLogit":
            return nodes.add("Softmax", raw, axis=1)
        case other:
            raise CannotCompile(f"its link {other} is not known")


def histogram_regressor(scope: Any, operator: Any, container: Any) -> None:
    """Histogram gradient boosting, with missing values and sets of categories."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    raw, penalty = _histogram(nodes, model)
    match type(model._loss.link).__name__:  # noqa: SLF001 - there is no public way to it
        case "IdentityLink":
            value = raw
        case "LogLink":
            value = nodes.add("Exp", raw)
        case other:
            raise CannotCompile(f"its link {other} is not known")
    nodes.give(nodes.add("Add", value, penalty))


def histogram_classifier(scope: Any, operator: Any, container: Any) -> None:
    """The same, from raw sums to shares."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    raw, penalty = _histogram(nodes, model)
    _give_shares(nodes, _shares(nodes, raw, model), penalty)


def _histogram(nodes: Nodes, model: Any) -> tuple[str, str]:
    targets = model.n_trees_per_iteration_
    start = np.asarray(model._baseline_prediction).ravel()  # noqa: SLF001 - no public way
    trees = [constant_tree(float(value), target) for target, value in enumerate(start)]
    order, categories = _histogram_columns(model)
    for stage in model._predictors:  # noqa: SLF001 - there is no public way to it
        for target, predictor in enumerate(stage):
            trees.append(_of_predictor(predictor, order, categories, target))
    matrix = nodes.matrix()
    penalty = nodes.penalty(matrix, takes_missing=True)
    return ensemble(nodes, matrix, trees, targets), penalty


def _histogram_columns(model: Any) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Which column each feature of its trees is, and the values behind the codes of the first."""
    if model.is_categorical_ is None:
        return np.arange(model.n_features_in_), []
    chosen = np.asarray(model.is_categorical_, dtype=bool)
    order = np.concatenate([np.flatnonzero(chosen), np.flatnonzero(~chosen)])
    found = model._preprocessor.named_transformers_["encoder"].categories_  # noqa: SLF001 - same
    if any(np.asarray(values).dtype.kind not in "fiub" for values in found):
        raise CannotCompile("its categories are texts; encode them in a step before it")
    return order, [np.asarray(values, dtype=np.float64) for values in found]


def _of_predictor(
    predictor: Any,
    order: NDArray[np.int64],
    categories: list[NDArray[np.float64]],
    target: int,
) -> Grown:
    given = predictor.nodes
    left, right = given["left"].astype(np.int64), given["right"].astype(np.int64)
    is_leaf = given["is_leaf"].astype(bool)
    missing_left = given["missing_go_to_left"].astype(bool)
    feature = given["feature_idx"].astype(np.int64)
    members = {}
    for node in np.flatnonzero((given["is_categorical"] != 0) & ~is_leaf).tolist():
        bits = predictor.raw_left_cat_bitsets[given["bitset_idx"][node]]
        known = categories[feature[node]]
        codes = np.flatnonzero(~np.isnan(known))
        is_left = (bits[codes >> 5] >> (codes & 31).astype(np.uint32)) & 1 == 1
        if missing_left[node]:  # so does what is not known: ask for the other side's set
            left[node], right[node] = right[node], left[node]
            is_left = ~is_left
        missing_left[node] = False
        members[node] = known[codes[is_left]]
    return Grown(
        is_leaf=is_leaf,
        left=left,
        right=right,
        feature=np.where(is_leaf, 0, order[np.where(is_leaf, 0, feature)]),
        threshold=np.where(is_leaf, 0.0, given["num_threshold"]).astype(np.float64),
        missing_left=missing_left,
        values=given["value"].astype(np.float64),
        target=target,
        members=members,
    )


# --- isolation ------------------------------------------------------------------------------


def isolation_forest(scope: Any, operator: Any, container: Any) -> None:
    """Outlier (-1) or not (1), shape (n, 1), and the decision score, shape (n, 1)."""
    nodes, model = Nodes(scope, operator, container), operator.raw_operator
    trees = []
    is_whole = model._max_features == model.n_features_in_  # noqa: SLF001 - no public way to it
    for index, member in enumerate(model.estimators_):
        features = None if is_whole else model.estimators_features_[index]
        # As scikit-learn adds them: depth of the leaf and what a grown tree would go on, less one.
        depths = model._decision_path_lengths[index]  # noqa: SLF001 - there is no public way to it
        values = depths + model._average_path_length_per_tree[index] - 1.0  # noqa: SLF001 - same
        trees.append(of_decision_tree(member.tree_, values, features=features))
    seen = nodes.as_float32(nodes.matrix())
    depth = ensemble(nodes, seen, trees, 1)
    whole = len(trees) * float(_average_path_length([model._max_samples])[0])  # noqa: SLF001 - same
    if whole == 0:
        raise CannotCompile("it was fitted on one row")
    mean = nodes.add("Div", depth, nodes.constant(np.array(-whole)))
    score = nodes.add("Neg", nodes.add("Pow", nodes.constant(np.array([[2.0]])), mean))
    decision = nodes.add("Sub", score, nodes.constant(np.array(float(model.offset_))))
    is_outlier = nodes.add("Less", decision, nodes.constant(np.array(0.0)))
    sides = nodes.constant(np.array([[-1]])), nodes.constant(np.array([[1]]))
    nodes.give(nodes.add("Where", is_outlier, *sides), decision)
