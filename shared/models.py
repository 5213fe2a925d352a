"""Fitted estimators to bytes and back, without ever running what a file says.

The only module that imports scikit-learn and skops; import it late, in a child or with the first
model, because that takes seconds. A file is checked in this order: its zip directory, the names of
its types, and, once loaded and before its first answer, every structure that compiled code would
follow without looking.
"""

import hashlib
import io
import json
import re
import warnings
import zipfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast

import numpy as np
import scipy
import sklearn
import skops
import skops.io
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.ensemble import BaseEnsemble
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm._base import BaseLibSVM
from sklearn.tree import DecisionTreeRegressor
from sklearn.tree._tree import Tree

from shared.errors import Unprocessable

Label = float | str | bool

MOST_MEMBERS: Final = 100_000
MOST_BYTES: Final = 2**30
"""Unpacked; the packed file has a limit of its own where it is fetched."""
MOST_SCHEMA_BYTES: Final = 2**27
_NODES_TOGETHER: Final = 50_000
P = TypeVar("P")

# Beyond what skops trusts by itself. All but the two kinds of tree are plain Python objects, which
# cannot do worse than raise; the trees are checked below. KDTree and BallTree stay out: nothing
# here can check them (`algorithm: brute` makes no tree).
_TRUSTED: Final = {
    "1.9": (
        "functools.partial",
        "numpy.dtype",
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.ExpSineSquared",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.impute._iterative._ImputerTriplet",
        "sklearn.metrics._classification.balanced_accuracy_score",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._scorer._CurveScorer",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils._metadata_requests.MetadataRequest",
        "sklearn.utils._metadata_requests.MethodMetadataRequest",
        "sklearn.utils.validation.check_array",
    ),
}
_MEMBER: Final = re.compile(r"schema\.json|[0-9]+\.(?:npy|npz)")
_LOADERS_REFUSED: Final = frozenset({"MethodNode", "OperatorFuncNode"})


class UnsafeModel(Unprocessable):
    """A model file holds something that is not known to be harmless; it is not used."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What an estimator said.

    Attributes:
        values: shape (n,): float64 for regression, objects (labels) for classification.
        probabilities: shape (n, classes), in the order of `classes_of`; None for regression.
    """

    values: NDArray[Any]
    probabilities: NDArray[np.float64] | None


def environment() -> dict[str, str]:
    """The versions that a model needs in order to be loaded."""
    return {
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "scipy": scipy.__version__,
        "skops": skops.__version__,
    }


# --- to bytes -------------------------------------------------------------------------------


def dump(estimator: Any) -> bytes:
    """The estimator as a skops file; the same fit gives the same bytes.

    skops itself writes memory addresses as names and the present time; both are replaced.

    Raises:
        UnsafeModel: it holds something that `load` would refuse.
    """
    try:
        raw = skops.io.dumps(estimator)
    except MemoryError:
        raise
    except Exception as error:
        raise UnsafeModel(f"this estimator cannot be written: {_line(error)}") from error
    data = _canonical(raw)
    load(data)
    return data


def _canonical(raw: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as source:
        schema = json.loads(source.read("schema.json"))
        contents = {name: source.read(name) for name in source.namelist()}
    del contents["schema.json"]
    shared = {i for i, n in Counter(n["__id__"] for n in _nodes(schema)).items() if n > 1}
    numbers: dict[int, int] = {}
    files: dict[str, str] = {}
    members: dict[bytes, str] = {}
    for node in _nodes(schema):
        identity = node.pop("__id__")
        if identity in shared and node.get("__loader__") != "JsonNode":
            node["__id__"] = numbers.setdefault(identity, len(numbers) + 1)
        if isinstance(node.get("file"), str):
            node["file"] = _renamed(node["file"], contents, files, members)
    text = json.dumps(schema, separators=(",", ":"), sort_keys=True)
    return _zipped({"schema.json": text.encode()} | {files[n]: contents[n] for n in files})


def _renamed(
    old: str, contents: dict[str, bytes], files: dict[str, str], members: dict[bytes, str]
) -> str:
    """A name by order of appearance; equal contents share one member."""
    content = hashlib.sha256(contents[old]).digest()
    suffix = old.rpartition(".")[2]
    files[old] = members.setdefault(content, f"{len(members)}.{suffix}")
    return files[old]


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:
        for name, content in members.items():
            # A ZipInfo that is made by name carries the first date zip knows.
            packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 6)
    return file.getvalue()


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every node of a skops schema, in a stable order."""
    waiting = deque([schema])
    while waiting:
        part = waiting.popleft()
        if isinstance(part, dict):
            if "__loader__" in part:
                yield part
            waiting.extend(part[key] for key in sorted(part))
        elif isinstance(part, list):
            waiting.extend(part)


# --- and back -------------------------------------------------------------------------------


def load(data: bytes) -> Any:
    """The estimator in these bytes, checked to its last tree.

    Raises:
        UnsafeModel: the file is damaged, holds a type that is not on the list, was written by
            another version of scikit-learn, or has a structure that could crash or hang.
    """
    _check_directory(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", InconsistentVersionWarning)
            estimator = skops.io.loads(data, trusted=list(_trusted()))
        check_structure(estimator)
    except (UnsafeModel, MemoryError):
        raise
    except Exception as error:
        raise UnsafeModel(f"this model file cannot be used: {_line(error)}") from error
    return estimator


def _trusted() -> tuple[str, ...]:
    found = sklearn.__version__
    names = _TRUSTED.get(".".join(found.split(".")[:2]))
    if names is None:
        raise UnsafeModel(f"no list of trusted types exists for scikit-learn {found}")
    return names


def _check_directory(data: bytes) -> None:
    """Names, number and sizes, before anything is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            fault = _fault_of(packed)
    except Exception as error:
        raise UnsafeModel(f"this is no model file: {_line(error)}") from error
    if fault:
        raise UnsafeModel(f"this model file {fault}; it is not used")


def _fault_of(packed: zipfile.ZipFile) -> str:
    members = packed.infolist()
    if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > MOST_BYTES:
        return "is too large to be unpacked"
    if not all(_MEMBER.fullmatch(member.filename) for member in members):
        return "has members that no model has"
    if packed.getinfo("schema.json").file_size > MOST_SCHEMA_BYTES:
        return "has too large a schema"
    loaders = {node["__loader__"] for node in _nodes(json.loads(packed.read("schema.json")))}
    refused = sorted(loaders & _LOADERS_REFUSED)
    return f"holds {', '.join(refused)}" if refused else ""


def check_structure(estimator: Any) -> None:
    """See that nothing in a loaded estimator would lead compiled code astray.

    Raises:
        UnsafeModel: a tree, a forest, a boosting or a support vector machine is malformed.
    """
    found = list(parts(estimator))
    check_trees([part for part in found if isinstance(part, Tree)])
    check_predictors([part for part in found if isinstance(part, TreePredictor)])
    for part in found:
        if isinstance(part, BaseHistGradientBoosting):
            _check_hist_boosting(part)
        elif isinstance(part, BaseLibSVM):
            _check_support_vectors(part)
        if isinstance(getattr(part, "tree_", None), Tree):
            _require(part.tree_.n_features == part.n_features_in_, "a tree of another width")
        if isinstance(part, BaseEnsemble):
            _check_ensemble(part)


def parts(estimator: Any) -> Iterator[Any]:
    """Every object that an estimator is made of, each once."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | None):
            continue
        seen.add(id(part))
        yield part
        waiting.extend(_inside(part))


def _inside(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return [*part.keys(), *part.values()]
    if isinstance(part, list | tuple | set | frozenset):
        return list(part)
    if isinstance(part, np.ndarray):
        return list(part.flat) if part.dtype == object else []
    return list(getattr(part, "__dict__", {}).values())


def _require(holds: Any, what: str) -> None:
    if not holds:
        raise UnsafeModel(f"this model file is malformed: {what}; it is not used")


def check_trees(trees: Sequence[Tree]) -> None:
    """See that decision trees are trees: every node reached once, every feature there.

    Raises:
        UnsafeModel: one is not.
    """
    for tree in trees:
        # Before any array of the tree is looked at: their length is taken from `node_count`.
        _require(0 < tree.node_count <= tree.capacity, "a tree with more nodes than it has")
        _require(tree.n_outputs >= 1 and tree.max_n_classes >= 1, "a tree without answers")
    for some in _together(trees, [tree.node_count for tree in trees]):
        _check_trees(some)


def _together(parts: Sequence[P], sizes: Sequence[int]) -> Iterator[list[P]]:
    """As many as fit into the processor's cache: looking at each alone takes several times as long.

    What numpy does per call costs more than what it does per node.
    """
    some: list[P] = []
    size = 0
    for part, more in zip(parts, sizes, strict=True):
        some.append(part)
        size += more
        if size > _NODES_TOGETHER:
            yield some
            some, size = [], 0
    if some:
        yield some


def _check_trees(trees: Sequence[Tree]) -> None:
    counts = np.array([tree.node_count for tree in trees])
    left = np.concatenate([tree.children_left for tree in trees])
    right = np.concatenate([tree.children_right for tree in trees])
    inner = np.flatnonzero(left != -1)
    _require(np.array_equal(np.flatnonzero(right != -1), inner), "a node with one child")
    _check_links(left[inner], right[inner], inner, counts)
    features = np.concatenate([tree.feature for tree in trees])[inner]
    widths = np.repeat([tree.n_features for tree in trees], counts)[inner]
    _require(((features >= 0) & (features < widths)).all(), "a split on no feature")
    thresholds = np.concatenate([tree.threshold for tree in trees])[inner]
    _require(not np.isnan(thresholds).any(), "a split at no number")


def check_predictors(predictors: Sequence[TreePredictor]) -> None:
    """The same for trees of histogram gradient boosting, as far as it can be seen of them alone.

    Raises:
        UnsafeModel: one is malformed.
    """
    for predictor in predictors:
        nodes = predictor.nodes
        _require(isinstance(nodes, np.ndarray) and nodes.ndim == 1, "a tree without nodes")
        _require(nodes.dtype == PREDICTOR_RECORD_DTYPE and len(nodes) > 0, "a tree of other nodes")
        for bits in (predictor.raw_left_cat_bitsets, predictor.binned_left_cat_bitsets):
            fits = isinstance(bits, np.ndarray) and bits.dtype == np.uint32 and bits.ndim == 2
            _require(fits and bits.shape[1] == 8, "categories of another form")
    for some in _together(predictors, [len(predictor.nodes) for predictor in predictors]):
        _check_predictors(some)


def _check_predictors(predictors: Sequence[TreePredictor]) -> None:
    nodes = _joined(predictors)
    counts = np.array([len(predictor.nodes) for predictor in predictors])
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    left, right = (nodes[side][inner].astype(np.int64) for side in ("left", "right"))
    _check_links(left, right, inner, counts)
    _require(not np.isnan(nodes["num_threshold"][inner]).any(), "a split at no number")
    chosen = nodes["is_categorical"] != 0
    if chosen[inner].any():
        sets = [
            min(len(one.raw_left_cat_bitsets), len(one.binned_left_cat_bitsets))
            for one in predictors
        ]
        known = np.repeat(sets, counts)
        chosen &= nodes["is_leaf"] == 0
        _require((nodes["bitset_idx"][chosen] < known[chosen]).all(), "categories not there")


def _joined(predictors: Sequence[TreePredictor]) -> NDArray[Any]:
    """Their nodes, one tree behind the other; as bytes, because numpy joins records one by one."""
    raw = [np.ascontiguousarray(predictor.nodes).view(np.uint8) for predictor in predictors]
    return np.concatenate(raw).view(PREDICTOR_RECORD_DTYPE)


def _check_links(
    left: NDArray[Any], right: NDArray[Any], parents: NDArray[Any], counts: NDArray[Any]
) -> None:
    """Children lie behind their parent and inside their tree, and each node is reached once.

    Args:
        left, right: children of the inner nodes, counted from the first node of their tree.
        parents: the inner nodes, counted over all trees, one tree behind the other.
        counts: nodes of each tree.
    """
    ends = np.cumsum(counts)
    starts = ends - counts
    roots = np.repeat(starts, counts)[parents]
    last = np.repeat(ends, counts)[parents]
    reached = np.zeros(ends[-1], dtype=np.int64)
    for children in (left, right):
        # In range before it is added to anything: the sum of two large numbers may be small.
        _require(((children > 0) & (children < last - roots)).all(), "a child out of place")
        places = children + roots
        _require((places > parents).all(), "a child out of place")
        reached += np.bincount(places, minlength=len(reached))
    expected = np.ones(len(reached), dtype=np.int64)
    expected[starts] = 0
    _require((reached == expected).all(), "a node that is not reached once")


def _check_hist_boosting(model: Any) -> None:
    width = model.n_features_in_
    categorical = np.zeros(width, dtype=bool)
    flags = model._bin_mapper.is_categorical_  # noqa: SLF001 - there is no public way to it
    if flags is not None:
        categorical = np.asarray(flags, dtype=bool)
    _require(categorical.shape == (width,), "categories for another width")
    predictors = [p for stage in model._predictors for p in stage]  # noqa: SLF001 - same
    _require(all(isinstance(p, TreePredictor) for p in predictors), "a step without a tree")
    for some in _together(predictors, [len(predictor.nodes) for predictor in predictors]):
        nodes = _joined(some)
        inner = nodes["is_leaf"] == 0
        features = nodes["feature_idx"][inner].astype(np.int64)
        _require(((features >= 0) & (features < width)).all(), "a split on no feature")
        chosen = features[nodes["is_categorical"][inner] != 0]
        _require(categorical[chosen].all(), "a split on categories of a number")


def _check_ensemble(model: Any) -> None:
    """The width an ensemble checks is its own, so its trees must not reach beyond it."""
    members = np.asarray(model.estimators_, dtype=object)
    trees = [member.tree_ for member in members.flat if hasattr(member, "tree_")]
    subsets = getattr(model, "estimators_features_", None)
    if isinstance(model, BaseGradientBoosting):
        fits = members.ndim == 2 and members.shape[1] == model.n_trees_per_iteration_
        _require(fits, "more trees per step than answers")
        _require(len(trees) == members.size, "a step without a tree")
    if subsets is None:
        _require(all(t.n_features == model.n_features_in_ for t in trees), "a tree too wide")
        return
    widths = [len(subset) for subset in subsets]
    _require(max(widths, default=0) <= model.n_features_in_, "more features than there are")
    if trees:
        _require([tree.n_features for tree in trees] == widths, "a tree too wide")


def _check_support_vectors(model: Any) -> None:
    classes = len(model.classes_) if is_classifier(model) else 2
    pairs = classes * (classes - 1) // 2
    vectors = model.support_vectors_
    _require(not model._sparse and isinstance(vectors, np.ndarray), "vectors that are sparse")  # noqa: SLF001
    _require(vectors.ndim == 2 and vectors.shape[1] == model.n_features_in_, "vectors too wide")
    count = np.asarray(model._n_support)  # noqa: SLF001 - what the compiled code reads
    rows = len(vectors)
    _require(count.shape == (classes,) and (count >= 0).all(), "counts of other classes")
    total = count.sum() if is_classifier(model) else count[0]
    _require(total == rows and model.support_.shape == (rows,), "vectors that are not there")
    for weights in (model.dual_coef_, model._dual_coef_):
        _require(weights.shape == (classes - 1, rows), "weights of another shape")
    for offsets in (model.intercept_, model._intercept_):
        _require(offsets.shape == (pairs,), "offsets of another shape")
    for scale in (model._probA, model._probB):  # noqa: SLF001 - same
        _require(scale.shape in ((0,), (pairs,)), "probabilities of another shape")


# --- answers --------------------------------------------------------------------------------


def classes_of(estimator: Any) -> tuple[Label, ...]:
    """The labels of a classifier in the order of its probabilities."""
    return tuple(plain_label(label) for label in np.asarray(estimator.classes_).tolist())


def plain_label(label: Any) -> Label:
    """A label as JSON carries it: whole numbers become floats."""
    return float(label) if isinstance(label, int) and not isinstance(label, bool) else label


def predict(
    estimator: Any, X: NDArray[Any], task: Literal["regression", "classification"]
) -> Answers:
    """What the estimator says about the rows of X, shape (n, features).

    A classifier without probabilities is nearly certain of the label it names.

    Raises:
        Unprocessable: it cannot answer, or its answer has another form than promised.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _regressed(estimator, X) if task == "regression" else _classified(estimator, X)
    except MemoryError:
        raise
    except Exception as error:
        raise Unprocessable(f"the model cannot answer: {_line(error)}") from error
    if found.values.shape != (len(X),):
        raise Unprocessable(f"the model gave {found.values.shape} answers for {len(X)} rows")
    return found


def _regressed(estimator: Any, X: NDArray[Any]) -> Answers:
    values = np.asarray(estimator.predict(X), dtype=np.float64)
    return Answers(values.reshape(len(X)) if values.size == len(X) else values, None)


def _classified(estimator: Any, X: NDArray[Any]) -> Answers:
    labels = classes_of(estimator)
    if hasattr(estimator, "predict_proba"):
        shares = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    else:
        shares = _nearly_certain(np.asarray(estimator.predict(X)), estimator.classes_)
    if shares.shape != (len(X), len(labels)):
        raise ValueError(f"probabilities of shape {shares.shape} for {len(labels)} classes")
    known = np.empty(len(labels), dtype=object)
    known[:] = labels
    return Answers(cast("NDArray[Any]", known[shares.argmax(axis=1)]), shares)


def _nearly_certain(values: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    rest = 0.001 / max(len(classes) - 1, 1)
    return np.where(values[:, None] == np.asarray(classes)[None, :], 0.999, rest)


def warm_up() -> None:
    """Go once through all of the above, so that children of this process need not.

    The libraries look for plugins, build tables and compile patterns the first time.
    """
    rows = np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 0.5], [3.0, 0.0]])
    for model, y, task in _SAMPLES:
        loaded = load(dump(clone(model).fit(rows, y)))
        predict(loaded, rows, task)


_Task = Literal["regression", "classification"]
_SAMPLES: Final[tuple[tuple[Any, list[Any], _Task], ...]] = (
    (make_pipeline(SimpleImputer(), StandardScaler(), Ridge()), [0.0, 1.0, 2.0, 3.0], "regression"),
    (DecisionTreeRegressor(), [0.0, 1.0, 2.0, 3.0], "regression"),
    (make_pipeline(SimpleImputer(), LogisticRegression()), ["a", "b", "a", "b"], "classification"),
)


def _line(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:300]
