"""Fitted trees of scikit-learn as one table of nodes.

Averaging forests are read on the scale of their answer or of their probabilities, boosting on the
scale on which its trees are added: the answer, its logarithm, log-odds, or scores of classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn._loss.link import IdentityLink, LogLink
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from services.serving.explanation.preparing import NotFollowed
from services.serving.explanation.values import Floats, Matrix, Scale

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
_TREES: Final = (DecisionTreeRegressor, DecisionTreeClassifier)
_FORESTS: Final = (
    RandomForestRegressor,
    RandomForestClassifier,
    ExtraTreesRegressor,
    ExtraTreesClassifier,
)
_BOOSTING: Final = (GradientBoostingRegressor, GradientBoostingClassifier)
_HISTOGRAMS: Final = (HistGradientBoostingRegressor, HistGradientBoostingClassifier)
TREE_MODELS: Final = (*_TREES, *_FORESTS, *_BOOSTING, *_HISTOGRAMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Categories:
    """Splits on categories, of histogram gradient boosting alone.

    Attributes:
        nodes: which nodes they are, shape (splits,).
        left: 256 bits per split, in words of 32: the categories that go left.
        known: the same for the categories that training knew.
    """

    nodes: Ints
    left: NDArray[np.uint32]
    known: NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """All trees of a model, node after node; children lie behind their parent.

    Attributes:
        parent: -1 for roots.
        is_left: whether a node is its parent's left child.
        feature: of the split, -1 for leaves.
        cover: weight of the training rows that reached a node.
        values: what a leaf adds, shape (nodes, outputs).
        offset: what is added to the trees, shape (outputs,).
        single: values are compared as 32-bit floats.
    """

    parent: Ints
    is_left: Flags
    feature: Ints
    threshold: Floats
    missing_left: Flags
    cover: Floats
    values: Floats
    offset: Floats
    scale: Scale
    single: bool
    categories: Categories | None = None

    def goes_left(self, row: Floats) -> Flags:
        """For every node, whether this row would go left there; meaningless at leaves."""
        with np.errstate(invalid="ignore", over="ignore"):
            seen = row.astype(np.float32).astype(np.float64) if self.single else row
            value = seen[self.feature]
            left: Flags = np.where(np.isnan(value), self.missing_left, value <= self.threshold)
        if self.categories is not None:
            nodes = self.categories.nodes
            left[nodes] = _chosen_left(self.categories, value[nodes], self.missing_left[nodes])
        return left


def _chosen_left(found: Categories, value: Floats, missing_left: Flags) -> Flags:
    valid = (value >= 0) & (value < 256)
    code = np.where(valid, value, 0).astype(np.int64)
    word, bit = code >> 5, (code & 31).astype(np.uint32)
    each = np.arange(len(code))
    is_left = ((found.left[each, word] >> bit) & 1).astype(bool) & valid
    is_known = ((found.known[each, word] >> bit) & 1).astype(bool) & valid
    chosen: Flags = is_left | (~is_known & missing_left)
    return chosen


def read_forest(model: Any) -> Forest:
    """The trees of a fitted model.

    Raises:
        NotFollowed: its answer is no plain sum of its trees.
    """
    if isinstance(model, _HISTOGRAMS):
        return _histogram_forest(model)
    if isinstance(model, _BOOSTING):
        return _boosted_forest(model)
    return _averaged_forest(model)


def _averaged_forest(model: Any) -> Forest:
    members = [model] if isinstance(model, _TREES) else list(model.estimators_)
    trees = [member.tree_ for member in members]
    if trees[0].n_outputs != 1:
        raise NotFollowed("a forest with several answers")
    values = [tree.value[:, 0, :] / len(trees) for tree in trees]
    is_classifier = hasattr(model, "classes_")
    outputs = values[0].shape[1]
    return _table(trees, values, np.zeros(outputs), "probability" if is_classifier else "answer")


def _boosted_forest(model: Any) -> Forest:
    """Trees in steps of one per output. With exponential loss two outputs are the log-odds."""
    init = model.init_
    if not (isinstance(init, DummyClassifier | DummyRegressor) or init == "zero"):
        raise NotFollowed("gradient boosting that begins with another model")
    outputs = model.estimators_.shape[1]
    factor = 2.0 if model.loss == "exponential" else 1.0
    trees, values = [], []
    for stage in model.estimators_:
        for output, member in enumerate(stage):
            trees.append(member.tree_)
            values.append(np.zeros((member.tree_.node_count, outputs)))
            values[-1][:, output] = factor * model.learning_rate * member.tree_.value[:, 0, 0]
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))  # noqa: SLF001
    return _table(trees, values, factor * start[0].astype(np.float64), _boosted_scale(model))


def _boosted_scale(model: Any) -> Scale:
    if not hasattr(model, "classes_"):
        return "answer"
    return "log_odds" if len(model.classes_) == 2 else "score"


def _table(trees: Sequence[Any], values: Sequence[Floats], offset: Floats, scale: Scale) -> Forest:
    links = [_linked(tree.children_left, tree.children_right) for tree in trees]
    return Forest(
        parent=_stacked([parent for parent, _ in links]),
        is_left=np.concatenate([is_left for _, is_left in links]),
        feature=np.concatenate([np.maximum(tree.feature, -1) for tree in trees]),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        missing_left=np.concatenate([tree.missing_go_to_left for tree in trees]).astype(bool),
        cover=np.concatenate([tree.weighted_n_node_samples for tree in trees]),
        values=np.concatenate(values),
        offset=offset,
        scale=scale,
        single=True,
    )


def _linked(left: NDArray[Any], right: NDArray[Any]) -> tuple[Ints, Flags]:
    """Parents and sides from children; whose left child is below 1 is a leaf."""
    parent = np.full(len(left), -1, dtype=np.int64)
    is_left = np.zeros(len(left), dtype=bool)
    inner = np.flatnonzero(left > 0)
    parent[left[inner]] = parent[right[inner]] = inner
    is_left[left[inner]] = True
    return parent, is_left


def _stacked(parents: Sequence[Ints]) -> Ints:
    starts = np.cumsum([0, *(len(parent) for parent in parents[:-1])])
    return np.concatenate(
        [np.where(p < 0, -1, p + start) for p, start in zip(parents, starts, strict=True)]
    )


# --- histogram gradient boosting --------------------------------------------------------------


def _histogram_forest(model: Any) -> Forest:
    stages = model._predictors  # noqa: SLF001 - there is no public way to its trees
    offset = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1)  # noqa: SLF001
    outputs = len(offset)
    predictors = [predictor for stage in stages for predictor in stage]
    nodes = np.concatenate([predictor.nodes for predictor in predictors])
    links = [_linked(p.nodes["left"], p.nodes["right"]) for p in predictors]
    sizes = [len(predictor.nodes) for predictor in predictors]
    values = np.zeros((len(nodes), outputs))
    column = np.repeat(np.arange(len(predictors)) % outputs, sizes)
    values[np.arange(len(nodes)), column] = nodes["value"]
    is_leaf = nodes["is_leaf"] != 0
    return Forest(
        parent=_stacked([parent for parent, _ in links]),
        is_left=np.concatenate([is_left for _, is_left in links]),
        feature=np.where(is_leaf, -1, nodes["feature_idx"]).astype(np.int64),
        threshold=nodes["num_threshold"].copy(),
        missing_left=nodes["missing_go_to_left"] != 0,
        cover=nodes["count"].astype(np.float64),
        values=values,
        offset=offset,
        scale=_histogram_scale(model),
        single=False,
        categories=_categories(model, predictors, nodes),
    )


def _histogram_scale(model: Any) -> Scale:
    if hasattr(model, "classes_"):
        return _boosted_scale(model)
    link = model._loss.link  # noqa: SLF001 - no public way to it
    if isinstance(link, LogLink):
        return "log_answer"
    if not isinstance(link, IdentityLink):
        raise NotFollowed("a loss of another link")
    return "answer"


def _categories(model: Any, predictors: Sequence[Any], nodes: Any) -> Categories | None:
    chosen = np.flatnonzero((nodes["is_categorical"] != 0) & (nodes["is_leaf"] == 0))
    if not len(chosen):
        return None
    known, place = model._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001 - as it asks itself
    parts = []
    for predictor in predictors:
        own = predictor.nodes
        splits = (own["is_categorical"] != 0) & (own["is_leaf"] == 0)
        parts.append(predictor.raw_left_cat_bitsets[own["bitset_idx"][splits]])
    features = nodes["feature_idx"][chosen]
    return Categories(nodes=chosen, left=np.concatenate(parts), known=known[place[features]])


def rows_of(model: Any, table: Matrix) -> Floats:
    """A matrix as the trees see it, shape (rows, features)."""
    if isinstance(model, _HISTOGRAMS):
        return np.asarray(model._preprocess_X(table, reset=False), dtype=np.float64)  # noqa: SLF001
    return np.asarray(table, dtype=np.float64)
