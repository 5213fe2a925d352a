"""Hostile and damaged compiled models; none of them may reach the runtime."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shared import onnx_models
from shared.manifest import Column
from shared.onnx_models import ANSWERS, NUMBERS, Signature, UnsafeCompiled, as_inputs, check, load

SIGNATURE = Signature(numbers=2, texts=0, answers=1)
DOUBLE = TensorProto.DOUBLE


def trees(count: int = 1, **changes: Any) -> Any:
    """`count` trees of two splits: on the first feature, then, to its left, on the second."""
    first = 2 * np.arange(count)
    pairs = np.column_stack([first, first + 1])
    given: dict[str, Any] = {
        "nodes_featureids": [0, 1] * count,
        "nodes_splits": np.tile([0.5, 0.25], count),
        "nodes_modes": np.zeros(2 * count, dtype=np.uint8),
        "nodes_truenodeids": np.column_stack([first + 1, 3 * first // 2]).ravel().tolist(),
        "nodes_falsenodeids": np.column_stack([3 * first // 2 + 1, 3 * first // 2 + 2])
        .ravel()
        .tolist(),
        "nodes_trueleafs": [0, 1] * count,
        "nodes_falseleafs": [1, 1] * count,
        "nodes_missing_value_tracks_true": [0] * len(pairs.ravel()),
        "tree_roots": first.tolist(),
        "leaf_targetids": [0] * (3 * count),
        "leaf_weights": np.tile([1.0, 2.0, 3.0], count),
        "n_targets": 1,
        "aggregate_function": 1,
        "post_transform": 0,
    }
    given |= changes
    named = {
        name: numpy_helper.from_array(v, name) if isinstance(v, np.ndarray) else v
        for name, v in given.items()
        if v is not None
    }
    return helper.make_node("TreeEnsemble", [NUMBERS], [ANSWERS], domain="ai.onnx.ml", **named)


def model_of(*nodes: Any, constants: Any = (), answers: int = 1, numbers: int = 2) -> Any:
    graph = helper.make_graph(
        list(nodes),
        "model",
        [helper.make_tensor_value_info(NUMBERS, DOUBLE, [None, numbers])],
        [helper.make_tensor_value_info(ANSWERS, DOUBLE, [None, answers])],
        list(constants),
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 5)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def bytes_of(*nodes: Any, **more: Any) -> bytes:
    data: bytes = model_of(*nodes, **more).SerializeToString()
    return data


def changed(change: Callable[[Any], Any]) -> bytes:
    model = model_of(trees())
    change(model)
    data: bytes = model.SerializeToString()
    return data


def test_a_model_that_passes_answers() -> None:
    session = load(bytes_of(trees(3)), SIGNATURE)

    said = session.answers(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [np.nan, 0.0]]))

    assert said.ravel().tolist() == [3.0, 9.0, 6.0, 6.0]


def test_a_tree_of_one_leaf_passes() -> None:
    single = trees(
        nodes_featureids=[0],
        nodes_splits=np.zeros(1),
        nodes_modes=np.zeros(1, dtype=np.uint8),
        nodes_truenodeids=[0],
        nodes_falsenodeids=[0],
        nodes_trueleafs=[1],
        nodes_falseleafs=[1],
        nodes_missing_value_tracks_true=[0],
        leaf_targetids=[0],
        leaf_weights=np.array([4.0]),
    )

    assert load(bytes_of(single), SIGNATURE).answers(np.zeros((2, 2))).ravel().tolist() == [4, 4]


MALFORMED = {
    "a loop": {"nodes_trueleafs": [0, 0], "nodes_truenodeids": [1, 0]},
    "itself as child": {"nodes_truenodeids": [0, 0]},
    "a child that is not there": {"nodes_truenodeids": [70_000, 0]},
    "a negative child": {"nodes_truenodeids": [-1, 0]},
    "a leaf that is not there": {"nodes_falsenodeids": [1, 9]},
    "a negative leaf": {"nodes_falsenodeids": [1, -2]},
    "a root that is not there": {"tree_roots": [5]},
    "two roots of one tree": {"tree_roots": [0, 0]},
    "a child as root": {"tree_roots": [0, 1]},
    "no root": {"tree_roots": None},
    "a feature that is not there": {"nodes_featureids": [0, 2]},
    "a huge feature": {"nodes_featureids": [0, 2**40]},
    "a negative feature": {"nodes_featureids": [0, -1]},
    "a split at no number": {"nodes_splits": np.array([np.nan, 0.0])},
    "fewer splits": {"nodes_splits": np.array([0.5])},
    "fewer modes": {"nodes_modes": np.zeros(1, dtype=np.uint8)},
    "an unknown mode": {"nodes_modes": np.array([0, 9], dtype=np.uint8)},
    "a set that is not there": {"nodes_modes": np.array([0, 6], dtype=np.uint8)},
    "sets without splits": {"membership_values": np.array([1.0, np.nan])},
    "fewer children": {"nodes_truenodeids": [1]},
    "fewer missing values": {"nodes_missing_value_tracks_true": [0]},
    "children of no kind": {"nodes_trueleafs": [0, 2]},
    "a target that is not there": {"leaf_targetids": [0, 0, 1]},
    "a negative target": {"leaf_targetids": [0, 0, -1]},
    "fewer targets": {"leaf_targetids": [0]},
    "a weight that is no number": {"leaf_weights": np.array([1.0, np.inf, 0.0])},
    "an unused leaf": {"leaf_weights": np.arange(4.0), "leaf_targetids": [0] * 4},
    "many targets": {"n_targets": 0},
    "another sum": {"aggregate_function": 3},
    "another end": {"post_transform": 4},
    "no splits": {"nodes_splits": None},
    "single precision": {"nodes_splits": np.array([0.5, 0.25], dtype=np.float32)},
    "splits as a matrix": {"nodes_splits": np.array([[0.5, 0.25]])},
    "rates of hits": {"nodes_hitrates": np.array([0.5, 0.25])},
}


@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_tree_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsafeCompiled):
        load(bytes_of(trees(**changes)), SIGNATURE)


def body() -> Any:
    return helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "body", [], [])


def outside() -> Any:
    tensor = numpy_helper.from_array(np.ones((2, 1)), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return tensor


def hidden() -> Any:
    tensor = numpy_helper.from_array(np.ones((2, 1)), "w")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return tensor


def times(tensor: Any) -> bytes:
    return bytes_of(helper.make_node("MatMul", [NUMBERS, "w"], [ANSWERS]), constants=[tensor])


def strange(kind: str, domain: str = "", **attributes: Any) -> bytes:
    return bytes_of(helper.make_node(kind, [NUMBERS], [ANSWERS], domain=domain, **attributes))


def input_of(
    model: Any, *, name: str = NUMBERS, kind: int = DOUBLE, shape: Any = (None, 2)
) -> None:
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no protobuf": b"\xff" * 100,
    "a truncated file": bytes_of(trees(50))[:-400],
    "half of a file": bytes_of(trees(50))[: len(bytes_of(trees(50))) // 2],
    "data outside": times(outside()),
    "data outside, half hidden": times(hidden()),
    "data outside in an attribute": bytes_of(
        helper.make_node("Constant", [], [ANSWERS], value=outside())
    ),
    "another domain": strange("Evil", domain="com.example"),
    "a contributed operator": strange("Inverse", domain="com.microsoft"),
    "a loop": strange("Loop", body=body()),
    "a branch": strange("If", then_branch=body(), else_branch=body()),
    "a scan": strange("Scan", body=body(), num_scan_inputs=1),
    "a body in a plain operator": strange("Identity", body=body()),
    "chance": strange("RandomNormalLike"),
    "tensors of any size": strange("ConstantOfShape"),
    "a tree of before": strange("TreeEnsembleRegressor", domain="ai.onnx.ml"),
    "another input": changed(lambda m: input_of(m, name="others")),
    "an input in single precision": changed(lambda m: input_of(m, kind=TensorProto.FLOAT)),
    "a wider input": changed(lambda m: input_of(m, shape=(None, 3))),
    "an input of any width": changed(lambda m: input_of(m, shape=(None, None))),
    "an input of fixed length": changed(lambda m: input_of(m, shape=(1, 2))),
    "an input of one dimension": changed(lambda m: input_of(m, shape=(None,))),
    "two inputs": changed(lambda m: m.graph.input.append(m.graph.input[0])),
    "another output": changed(lambda m: setattr(m.graph.output[0], "name", "others")),
    "no output": changed(lambda m: m.graph.output.pop()),
    "more answers": bytes_of(trees(), answers=2),
    "a constant as input": changed(
        lambda m: m.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2)), NUMBERS))
    ),
    "operators of the future": changed(lambda m: setattr(m.opset_import[0], "version", 99)),
    "operators of the past": changed(lambda m: setattr(m.opset_import[0], "version", 1)),
    "no operators": changed(lambda m: m.ClearField("opset_import")),
    "functions": changed(
        lambda m: m.functions.append(
            helper.make_function("own", "f", ["a"], ["b"], [], [helper.make_opsetid("", 18)])
        )
    ),
    "no graph": changed(lambda m: m.ClearField("graph")),
    "too many operators": bytes_of(
        *(helper.make_node("Identity", [NUMBERS], [f"v{i}"]) for i in range(6_000)), trees()
    ),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeCompiled):
        check(data, SIGNATURE)


def test_a_file_that_is_too_large_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_models, "MOST_BYTES", 100)

    with pytest.raises(UnsafeCompiled, match="100 bytes"):
        check(bytes_of(trees()), SIGNATURE)


def test_a_tree_behind_another_step_reads_no_further_than_that_step_gives() -> None:
    narrow = numpy_helper.from_array(np.array([0]), "first")
    cut = helper.make_node("Gather", [NUMBERS, "first"], ["cut"], axis=1)
    behind = trees()
    behind.input[0] = "cut"

    with pytest.raises(UnsafeCompiled, match="feature that is not there"):
        check(bytes_of(cut, behind, constants=[narrow]), SIGNATURE)


def test_what_the_runtime_does_not_take_is_refused() -> None:
    data = bytes_of(helper.make_node("MatMul", [NUMBERS, "nothing"], [ANSWERS]))

    with pytest.raises(UnsafeCompiled, match="the runtime does not take it"):
        load(data, SIGNATURE)


def test_each_byte_changed_ends_in_a_refusal_or_an_answer_and_never_in_a_crash() -> None:
    data = bytes_of(trees(4))
    chance = np.random.default_rng(7)

    for place in chance.integers(0, len(data), 300).tolist():
        mutant = bytearray(data)
        mutant[place] ^= 1 << int(chance.integers(0, 8))
        try:
            said = load(bytes(mutant), SIGNATURE).answers(np.zeros((1, 2)))
        except UnsafeCompiled:
            continue
        assert said.shape == (1, 1)


def test_the_check_of_a_hundred_trees_takes_less_than_fifteen_milliseconds() -> None:
    model = model_of(trees(100))
    data = model.SerializeToString()
    check(data, SIGNATURE)
    took = []

    for _ in range(5):
        started = time.thread_time()
        check(data, SIGNATURE)
        took.append(time.thread_time() - started)

    assert min(took) < 0.015


def test_a_matrix_becomes_the_inputs_of_a_graph() -> None:
    columns = [Column(name="a", kind="text"), Column(name="b", kind="number")]
    table = np.array([["x", 1.0], [None, np.nan]], dtype=object)

    numbers, texts = as_inputs(columns, table)

    assert numbers is not None
    assert texts is not None
    assert numbers.dtype == np.float64
    assert texts.tolist() == [["x"], [onnx_models.MISSING_TEXT]]
    assert as_inputs(columns[1:], np.array([[1.0]]))[1] is None
    assert onnx.__version__ in onnx_models.versions()["onnx"]
