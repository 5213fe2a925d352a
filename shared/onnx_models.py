"""Compiled models: ONNX bytes to a session, looked through before the runtime sees them.

The only module that imports onnx and onnxruntime; import it late, with the first compiled model.
The runtime checks little of a tree before it follows it, would read files that a model names, and
loops as long as a model says. So a model is refused unless every operator is on the list, all it
needs is inside it, its inputs and outputs are those of the manifest, and its trees are trees.

A compiled model says "I refuse this row" with an answer that is not finite: where the estimator
that it was made of raises, there is no exception to raise inside a graph.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from shared.errors import Unprocessable
from shared.manifest import Column

FILE: Final = "model.onnx"
NUMBERS: Final = "numbers"
TEXTS: Final = "texts"
ANSWERS: Final = "answers"
MISSING_TEXT: Final = "\x00"
"""Stands for a missing text, which a tensor of strings cannot hold; no row may hold it."""

MOST_BYTES: Final = 64 * 2**20
MOST_NODES: Final = 5_000
_OPSETS: Final = {"": range(13, 23), "ai.onnx.ml": range(1, 6)}
_TREES: Final = "TreeEnsemble"
# Nothing with a body (If, Loop, Scan), nothing random, nothing that makes a tensor of a size that
# its input names.
_STANDARD: Final = (
    "Abs Add And ArgMax ArgMin Cast Ceil Clip Concat Cos Div Equal Erf Exp Flatten Floor Gather"
    " GatherElements Gemm Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log"
    " LogSoftmax MatMul Max Mean Min Mul Neg Not Or Pow Reciprocal ReduceL1 ReduceL2 ReduceMax"
    " ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Shape Sigmoid Sign"
    " Sin Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where Xor"
)
_OPERATORS: Final = {
    "ai.onnx.ml": frozenset({_TREES, "LabelEncoder", "ArrayFeatureExtractor", "Normalizer"}),
    "": frozenset(_STANDARD.split()),
}
_TAG_OF_INTS: Final = 0x40
_TYPE_OF_INTS: Final = b"\xa0\x01\x07"
"""How the bytes of an attribute of integers end."""
_CONTINUED, _SEVEN_BITS = 0x80, 0x7F
_LEAST_EQUAL, _EQUAL, _MEMBER = 0, 4, 6
_MODES: Final = (_LEAST_EQUAL, _EQUAL, _MEMBER)


class UnsafeCompiled(Unprocessable):
    """A compiled model is not what this version's manifest promises; it is not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What goes into a compiled model and what comes out.

    Attributes:
        numbers, texts: how many columns of each; a kind without columns has no input.
        answers: one for regression, one per class for classification.
    """

    numbers: int
    texts: int
    answers: int

    @classmethod
    def of(cls, columns: Sequence[Column], classes: Sequence[Any]) -> "Signature":
        """The signature that a manifest's columns and classes make."""
        texts = sum(column.kind == "text" for column in columns)
        return cls(numbers=len(columns) - texts, texts=texts, answers=len(classes) or 1)

    def inputs(self) -> dict[str, tuple[int, int]]:
        """Type and width by name."""
        found = {NUMBERS: (onnx.TensorProto.DOUBLE, self.numbers)}
        found[TEXTS] = (onnx.TensorProto.STRING, self.texts)
        return {name: form for name, form in found.items() if form[1]}


@dataclass(frozen=True, slots=True)
class Session:
    """A compiled model that passed every check; may be asked from several threads at once."""

    runtime: Any
    signature: Signature

    def answers(
        self, numbers: NDArray[np.float64] | None, texts: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Its answers, shape (rows, answers); a row that it refuses has one that is not finite.

        Args:
            numbers: shape (rows, numbers), NaN where missing.
            texts: shape (rows, texts), strings; `MISSING_TEXT` where missing.
        """
        given = {NUMBERS: numbers, TEXTS: texts}
        said = self.runtime.run(
            [ANSWERS], {name: value for name, value in given.items() if value is not None}
        )[0]
        found: NDArray[np.float64] = said
        return found


def as_inputs(
    columns: Sequence[Column], table: NDArray[Any]
) -> tuple[NDArray[np.float64] | None, NDArray[Any] | None]:
    """A matrix as estimators take it, as the inputs of a compiled model."""
    if table.dtype != object:
        return np.ascontiguousarray(table, dtype=np.float64), None
    is_text = np.array([column.kind == "text" for column in columns])
    texts = table[:, is_text].copy()
    texts[texts == np.array(None)] = MISSING_TEXT
    numbers = table[:, ~is_text].astype(np.float64) if not is_text.all() else None
    return numbers, texts


def versions() -> dict[str, str]:
    """The libraries that make and run compiled models."""
    return {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


def load(data: bytes, signature: Signature) -> Session:
    """A session of these bytes.

    Raises:
        UnsafeCompiled: they are damaged, or hold anything that is not known to be harmless.
    """
    check(data, signature)
    try:
        runtime = onnxruntime.InferenceSession(
            data, _options(), providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except MemoryError:
        raise
    except Exception as error:
        raise UnsafeCompiled(f"the runtime does not take it: {_line(error)}") from error
    return Session(runtime, signature)


def _options() -> Any:
    """For thousands of small models in one process: no thread and no memory pool of its own."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # More of it costs 30 kB per model and gains small graphs nothing.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


# --- checks ---------------------------------------------------------------------------------


def check(data: bytes, signature: Signature) -> None:
    """See that a model is harmless and is what it should be; the runtime is not asked.

    Raises:
        UnsafeCompiled: it is not.
    """
    _require(len(data) <= MOST_BYTES, f"it has more than {MOST_BYTES} bytes")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise UnsafeCompiled(f"this is no compiled model: {_line(error)}") from error
    _require(model.HasField("graph"), "it has no graph")
    _require(not model.functions, "it brings functions of its own")
    _require(not model.training_info, "it brings training")
    _check_opsets(model)
    _check_inside(model.graph)
    _check_signature(model.graph, signature)
    trees = [node for node in model.graph.node if node.op_type == _TREES]
    for node in model.graph.node:
        _check_operator(node)
    _check_width(model.graph, signature, [(node, _check_trees(node)) for node in trees])


def _check_opsets(model: Any) -> None:
    for opset in model.opset_import:
        known = _OPSETS.get(opset.domain)
        _require(known is not None, f"operators of {opset.domain[:40]!r}")
        _require(known and opset.version in known, f"version {opset.version} of operators")
    domains = [opset.domain for opset in model.opset_import]
    _require(len(set(domains)) == len(domains) > 0, "the same operators twice")


def _check_inside(graph: Any) -> None:
    _require(0 < len(graph.node) <= MOST_NODES, f"{len(graph.node)} operators")
    _require(not graph.sparse_initializer, "sparse tensors")
    for tensor in graph.initializer:
        _check_tensor(tensor)


def _check_tensor(tensor: Any) -> None:
    is_elsewhere = tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data
    _require(not is_elsewhere, "data outside the file")


def _check_signature(graph: Any, signature: Signature) -> None:
    tensors = {tensor.name for tensor in graph.initializer}
    _require(not tensors & {NUMBERS, TEXTS}, "an input that is a constant")
    found = {value.name: _form(value) for value in graph.input}
    _require(len(found) == len(graph.input) and found == signature.inputs(), "other inputs")
    outputs = [(value.name, _form(value)) for value in graph.output]
    expected = (ANSWERS, (onnx.TensorProto.DOUBLE, signature.answers))
    _require(outputs == [expected], "other outputs")


def _form(value: Any) -> tuple[int, int]:
    """Type and width of a matrix whose number of rows is open."""
    tensor = value.type.tensor_type
    sizes = tensor.shape.dim
    if len(sizes) != 2 or sizes[0].HasField("dim_value"):
        return -1, -1
    return tensor.elem_type, sizes[1].dim_value


def _check_operator(node: Any) -> None:
    known = _OPERATORS.get(node.domain, frozenset())
    _require(node.op_type in known, f"the operator {node.op_type[:40]!r}")
    for attribute in node.attribute:
        harmless = not (attribute.HasField("g") or attribute.graphs or attribute.ref_attr_name)
        _require(harmless, "an operator with a body")
        _require(not attribute.HasField("sparse_tensor"), "sparse tensors")
        _require(not (attribute.sparse_tensors or attribute.type_protos), "strange attributes")
        for tensor in (attribute.t, *attribute.tensors):
            _check_tensor(tensor)


def _check_trees(node: Any) -> int:
    """Children behind their parent and in range, leaves in range, every node reached once.

    Returns:
        The highest feature that they read.
    """
    _require(len(node.input) == 1, "trees with other inputs")
    given = _Trees(node)
    inner, leaves = given.inner, len(given.weights)
    _require(inner > 0 and leaves > 0, "trees without nodes")
    _require(len(given.targets) == leaves, "leaves without targets")
    targets = given.targets
    _require((targets >= 0).all() and (targets < given.number("n_targets")).all(), "other targets")
    _require(given.number("aggregate_function") == 1, "trees that are not added up")
    _require(given.number("post_transform") == 0, "trees with another end")
    _require(np.isfinite(given.weights).all(), "leaves without a number")
    _require(np.isin(given.modes, _MODES).all(), "other comparisons")
    plain = given.modes != _MEMBER
    _require(not np.isnan(given.splits[plain]).any(), "a split at no number")
    _require((given.features >= 0).all(), "a split on no feature")
    ends = int(np.isnan(given.members).sum())
    _require(ends == int((~plain).sum()), "sets of other splits")
    _check_links(given, leaves)
    return int(given.features.max())


def _check_links(given: "_Trees", leaves: int) -> None:
    reached = np.zeros(given.inner, dtype=np.int64)
    _count(reached, given.roots)
    used = np.zeros(leaves, dtype=np.int64)
    own = np.arange(given.inner)
    both = (given.true_leaf == 1) & (given.false_leaf == 1) & (given.true == given.false)
    for kids, is_leaf in ((given.true, given.true_leaf), (given.false, given.false_leaf)):
        _require(((is_leaf == 0) | (is_leaf == 1)).all(), "children of no kind")
        branch = is_leaf == 0
        _require((kids[branch] > own[branch]).all(), "a child before its parent")
        _count(reached, kids[branch])
        _count(used, kids[~branch])
    # A tree of one leaf is a split whose sides are the same leaf.
    _require(both.sum() == (used == 2).sum() and (used >= 1).all(), "leaves of several trees")
    _require((used <= 2).all() and (reached == 1).all(), "nodes that are not reached once")


def _count(reached: NDArray[np.int64], nodes: NDArray[np.int64]) -> None:
    _require(((nodes >= 0) & (nodes < len(reached))).all(), "a child that is not there")
    reached += np.bincount(nodes, minlength=len(reached))


class _Trees:
    """The attributes of a tree ensemble as arrays of equal length."""

    def __init__(self, node: Any) -> None:
        self._given = {attribute.name: attribute for attribute in node.attribute}
        _require(len(self._given) == len(node.attribute), "an attribute twice")
        self.features = self._whole("nodes_featureids")
        self.inner = len(self.features)
        self.true, self.false = self._of_nodes("truenodeids"), self._of_nodes("falsenodeids")
        self.true_leaf, self.false_leaf = self._of_nodes("trueleafs"), self._of_nodes("falseleafs")
        missing = self._given.get("nodes_missing_value_tracks_true")
        _require(missing and len(missing.ints) == self.inner, "nodes of different number")
        _require("nodes_hitrates" not in self._given, "strange attributes")
        self.splits = self._tensor("nodes_splits", self.inner)
        self.modes = self._tensor("nodes_modes", self.inner)
        self.roots = self._whole("tree_roots")
        self.weights = self._tensor("leaf_weights")
        self.targets = self._whole("leaf_targetids")
        named = "membership_values" in self._given
        self.members = self._tensor("membership_values") if named else np.empty(0)

    def number(self, name: str) -> int:
        _require(name in self._given, f"trees without {name}")
        return int(self._given[name].i)

    def _whole(self, name: str) -> NDArray[np.int64]:
        _require(name in self._given, f"trees without {name}")
        return whole_numbers(self._given[name])

    def _of_nodes(self, name: str) -> NDArray[np.int64]:
        found = self._whole(f"nodes_{name}")
        _require(len(found) == self.inner, "nodes of different number")
        return found

    def _tensor(self, name: str, count: int | None = None) -> NDArray[Any]:
        _require(name in self._given, f"trees without {name}")
        tensor = self._given[name].t
        try:
            found = onnx.numpy_helper.to_array(tensor)
        except Exception as error:
            raise UnsafeCompiled(f"{name} is malformed: {_line(error)}") from error
        _require(found.dtype in (np.float64, np.uint8) and found.ndim == 1, f"other {name}")
        _require(count is None or len(found) == count, "nodes of different number")
        return found


def whole_numbers(attribute: Any) -> NDArray[np.int64]:
    """The integers of an attribute, read from its bytes: one by one takes twenty times as long.

    Written anew by the library, they are all in one place: a tag and a number of one to ten bytes
    of seven bits each, again and again.
    """
    count = len(attribute.ints)
    lean = onnx.AttributeProto()
    lean.name = attribute.name
    head = lean.SerializeToString()
    data = attribute.SerializeToString()
    end = len(data) - len(_TYPE_OF_INTS)
    if not (data.startswith(head) and data.endswith(_TYPE_OF_INTS)) or end <= len(head):
        return np.fromiter(attribute.ints, dtype=np.int64, count=count)
    given = np.frombuffer(data, dtype=np.uint8, count=end - len(head), offset=len(head))
    if len(given) == 2 * count and (given[::2] == _TAG_OF_INTS).all():
        return given[1::2].astype(np.int64)
    last = np.flatnonzero(given < _CONTINUED)
    tags, ends = last[::2], last[1::2]
    is_plain = len(tags) == len(ends) == count and tags[0] == 0 and last[-1] == len(given) - 1
    if not is_plain or (given[tags] != _TAG_OF_INTS).any() or (tags[1:] != ends[:-1] + 1).any():
        return np.fromiter(attribute.ints, dtype=np.int64, count=count)
    lengths = ends - tags
    found = (given[tags + 1] & _SEVEN_BITS).astype(np.uint64)
    for place in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > place)
        bits = (given[tags[longer] + 1 + place] & _SEVEN_BITS).astype(np.uint64)
        found[longer] |= bits << np.uint64(7 * place)
    return found.view(np.int64)


def _check_width(graph: Any, signature: Signature, trees: Sequence[tuple[Any, int]]) -> None:
    """No tree reads beyond the matrix it is given.

    Behind encoders that may be wider than the inputs; its width follows from the shapes of
    everything before it.

    Raises:
        UnsafeCompiled: a width is not certain, or too small for its trees.
    """
    widths = {NUMBERS: signature.numbers}
    if any(node.input[0] not in widths for node, _ in trees):
        widths |= _inferred(graph)
    for node, highest in trees:
        _require(highest < widths.get(node.input[0], 0), "a split on a feature that is not there")


def _inferred(graph: Any) -> dict[str, int]:
    """Widths of all matrices whose shape is certain."""
    # The trees' own numbers tell nothing about shapes, and copying them would take long.
    lean = onnx.GraphProto()
    lean.name = "shapes"
    lean.input.extend(graph.input)
    lean.initializer.extend(graph.initializer)
    lean.node.extend(node for node in graph.node if node.op_type != _TREES)
    lean.output.extend(graph.output)
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("ai.onnx.ml", 5)]
    model = onnx.helper.make_model(lean, opset_imports=opsets)
    try:
        shaped = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except Exception as error:
        raise UnsafeCompiled(f"its shapes are malformed: {_line(error)}") from error
    return {value.name: max(_form(value)[1], 0) for value in _matrices(shaped.graph.value_info)}


def _matrices(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if len(value.type.tensor_type.shape.dim) == 2]


def _require(holds: Any, what: str) -> None:
    if not holds:
        raise UnsafeCompiled(f"this compiled model holds {what}; it is not used")


def _line(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:300]
