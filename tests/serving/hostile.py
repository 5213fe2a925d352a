"""Files that were made to do harm: edits of real ones, by chance and by intent.

Functions here run in children that may die of what they try, so the module also holds what is
tried. A mutant is described by a seed: the same seed makes the same file.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from services.trainer.compiling import compile_model
from shared import models, onnx_models
from shared.manifest import Column
from tests.serving.hostile_models import WIDTH, fitted

COLUMNS = tuple(
    Column(name=f"f{i}", kind="number", minimum=-3.0, maximum=3.0) for i in range(WIDTH)
)
NASTY_WHOLE = (
    0,
    -1,
    -2,
    1,
    2,
    7,
    127,
    128,
    255,
    65_535,
    2**31 - 1,
    -(2**31),
    2**40,
    2**62,
    -(2**63),
)
NASTY_REAL = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.5)
NASTY_JSON: tuple[Any, ...] = (
    *NASTY_WHOLE,
    1e300,
    None,
    True,
    False,
    "",
    "auto",
    "x" * 300,
    [],
    {},
    [[]],
    [None],
)


def asked_rows() -> NDArray[np.float64]:
    """Rows that reach every corner of a model."""
    rng = np.random.default_rng(5)
    corners = [np.full(WIDTH, v) for v in (0.0, 1e30, -1e30, 1e308, -1e308, 5e-324, np.nan)]
    return np.vstack([*corners, *rng.normal(size=(25, WIDTH)), *rng.normal(size=(5, WIDTH)) * 1e6])


# --- skops ----------------------------------------------------------------------------------


def skops_mutant(data: bytes, seed: int) -> bytes:
    """An edit of a skops file."""
    rng = np.random.default_rng(seed)
    edit = (
        _flipped,
        _cut,
        _array_edited,
        _array_edited,
        _array_edited,
        _schema_edited,
        _schema_edited,
        _reshaped,
        _swapped,
    )[seed % 9]
    return edit(data, rng)


def _flipped(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 20))):
        changed[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    end = int(rng.integers(0, len(data)))
    return data[:end] if rng.random() < 0.7 else data[end:]


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file.getvalue()


def _arrays(members: dict[str, bytes]) -> list[str]:
    return sorted(name for name in members if name.endswith(".npy"))


def _array_edited(data: bytes, rng: np.random.Generator) -> bytes:
    """Some elements of an array become others: the nodes of trees are such arrays."""
    members = _members(data)
    # Arrays of nodes are the largest ones, and what compiled code follows.
    names = sorted(_arrays(members), key=lambda name: -len(members[name]))
    name = names[min(int(rng.exponential(len(names) / 4)), len(names) - 1)]
    array = np.load(io.BytesIO(members[name]), allow_pickle=False).copy()
    _edit(array, rng)
    members[name] = _written(array)
    return zipped(members)


def _edit(array: NDArray[Any], rng: np.random.Generator) -> None:
    if array.dtype.names:
        _edit(array[str(rng.choice(array.dtype.names))], rng)
        return
    flat = array.reshape(-1) if array.flags.c_contiguous else array
    if not flat.size or flat.ndim != 1:
        return
    kinds = {"f": NASTY_REAL, "i": NASTY_WHOLE, "u": NASTY_WHOLE}.get(array.dtype.kind, (0, 1))
    for place in rng.integers(0, len(flat), int(rng.integers(1, 4))):
        if rng.random() < 0.4:
            flat[place] = flat[int(rng.integers(0, len(flat)))]
        else:
            value = kinds[int(rng.integers(0, len(kinds)))]
            with np.errstate(all="ignore"):
                flat[place] = np.array(value).astype(array.dtype)


def _written(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _reshaped(data: bytes, rng: np.random.Generator) -> bytes:
    """An array is longer, shorter, of another type or shape, or says that it is huge."""
    members = _members(data)
    names = _arrays(members)
    name = names[int(rng.integers(0, len(names)))]
    array = np.load(io.BytesIO(members[name]), allow_pickle=False)
    match int(rng.integers(0, 5)):
        case 0:
            array = array[: len(array) // 2] if array.ndim else array
        case 1:
            array = np.concatenate([array, array]) if array.ndim else array
        case 2:
            array = array.reshape(-1)[None]
        case 3 if array.dtype.kind in "fiu":
            array = array.astype(rng.choice(np.array(["f4", "i1", "u8", "f8", "c16", "?"])))
        case _:
            huge = members[name].replace(b"'shape': (", b"'shape': (99999999999, ", 1)
            members[name] = huge
            return zipped(members)
    members[name] = _written(np.ascontiguousarray(array))
    return zipped(members)


def _swapped(data: bytes, rng: np.random.Generator) -> bytes:
    """Two arrays change places."""
    members = _members(data)
    names = _arrays(members)
    one, other = rng.choice(np.array(names), 2)
    members[one], members[other] = members[other], members[one]
    return zipped(members)


def _schema_edited(data: bytes, rng: np.random.Generator) -> bytes:
    """Values, types or loaders in the description become others."""
    members = _members(data)
    schema = json.loads(members["schema.json"])
    places = list(_places(schema))
    for index in rng.integers(0, len(places), int(rng.integers(1, 3))):
        parent, key = places[int(index)]
        old = parent[key]
        if key == "content" and isinstance(old, str):
            parent[key] = json.dumps(NASTY_JSON[int(rng.integers(0, len(NASTY_JSON)))])
        elif isinstance(old, str):
            others = [p[k] for p, k in places if k == key and isinstance(p[k], str)]
            parent[key] = others[int(rng.integers(0, len(others)))]
        else:
            parent[key] = NASTY_JSON[int(rng.integers(0, len(NASTY_JSON)))]
    members["schema.json"] = json.dumps(schema).encode()
    return zipped(members)


def _places(part: Any) -> Iterator[tuple[Any, Any]]:
    waiting = [part]
    while waiting:
        one = waiting.pop()
        pairs = one.items() if isinstance(one, dict) else enumerate(one)
        for key, value in pairs:
            if isinstance(value, dict | list):
                waiting.append(value)
            elif key not in ("is_json", "protocol", "_skops_version"):
                yield one, key


def bombs(data: bytes) -> dict[str, bytes]:
    """Small files that would become large, deep or many."""
    members = _members(data)
    loop = json.loads(members["schema.json"])
    loop["content"] = {"__loader__": "CachedNode", "__id__": 1}
    many = dict(members) | {f"{i}.npy": b"" for i in range(10_000, 110_001)}
    header = _written(np.zeros(1))[:128]
    return {
        "a member of 1 GB of zeros": _with_zeros(members, 2**30 + 2**20),
        "a schema of 129 MB": _with_zeros(members, 129 * 2**20, "schema.json"),
        "a deep schema": deep(data),
        "a schema that is a list of lists": zipped(members | {"schema.json": b"[" * 100_000}),
        "a schema that names itself": zipped(members | {"schema.json": json.dumps(loop).encode()}),
        "too many members": zipped(many),
        "a path upwards": zipped(members | {"../../evil.npy": header}),
        "a pickle": zipped(members | {"0.npy": b"\x80\x04cposix\nsystem\n"}),
        "an array of objects": zipped(members | {"0.npy": header.replace(b"<f8", b"|O ")}),
        "no schema": zipped({name: d for name, d in members.items() if name != "schema.json"}),
        "nothing": b"",
        "no zip": b"PK\x03\x04 this is no model",
    }


def deep(data: bytes) -> bytes:
    """A description that is nested deeper than any stack."""
    nested = b'{"content":' * 200_000 + b"1" + b"}" * 200_000
    return zipped(_members(data) | {"schema.json": nested})


def _with_zeros(members: dict[str, bytes], size: int, name: str = "999.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for one, content in members.items():
            if one != name:
                packed.writestr(one, content)
        with packed.open(name, "w", force_zip64=True) as member:
            block = bytes(2**20)
            for _ in range(size // 2**20):
                member.write(block)
    return file.getvalue()


# --- ONNX -----------------------------------------------------------------------------------


def onnx_mutant(data: bytes, seed: int) -> bytes:
    """An edit of a compiled model."""
    rng = np.random.default_rng(seed)
    if seed % 6 == 0:
        return _flipped(data, rng)
    if seed % 6 == 1:
        return _cut(data, rng)
    model = onnx.load_model_from_string(data)
    edit = (_attribute_edited, _attribute_edited, _graph_edited, _tensor_edited)[seed % 6 - 2]
    edit(model.graph, rng)
    written: bytes = model.SerializeToString()
    return written


def _attribute_edited(graph: Any, rng: np.random.Generator) -> None:
    nodes = [node for node in graph.node if node.attribute]
    trees = [node for node in nodes if node.op_type == "TreeEnsemble"] or nodes
    if not trees:
        return
    node = trees[int(rng.integers(0, len(trees)))]
    attribute = node.attribute[int(rng.integers(0, len(node.attribute)))]
    if attribute.ints:
        for place in rng.integers(0, len(attribute.ints), int(rng.integers(1, 4))):
            attribute.ints[int(place)] = _nasty(NASTY_WHOLE, rng)
        if rng.random() < 0.2:
            del attribute.ints[len(attribute.ints) // 2 :]
        return
    if attribute.HasField("t"):
        _tensor_changed(attribute.t, rng)
    elif attribute.HasField("i"):
        attribute.i = _nasty(NASTY_WHOLE, rng)
    elif attribute.HasField("f"):
        attribute.f = 3.0e38
    elif rng.random() < 0.5:
        node.attribute.remove(attribute)


def _nasty(choices: Sequence[int], rng: np.random.Generator) -> int:
    value = choices[int(rng.integers(0, len(choices)))]
    return max(-(2**63), min(2**63 - 1, value))


def _tensor_changed(tensor: Any, rng: np.random.Generator) -> None:
    choice = int(rng.integers(0, 4))
    if choice == 0:
        tensor.dims[:] = [_nasty(NASTY_WHOLE, rng) for _ in tensor.dims] or [2**40]
    elif choice == 1:
        tensor.data_type = int(rng.integers(0, 24))
    elif tensor.raw_data:
        tensor.raw_data = _flipped(tensor.raw_data, rng)
    elif tensor.double_data:
        place = int(rng.integers(0, len(tensor.double_data)))
        tensor.double_data[place] = NASTY_REAL[int(rng.integers(0, len(NASTY_REAL)))]


def _tensor_edited(graph: Any, rng: np.random.Generator) -> None:
    if graph.initializer:
        _tensor_changed(graph.initializer[int(rng.integers(0, len(graph.initializer)))], rng)
    else:
        _attribute_edited(graph, rng)


def _graph_edited(graph: Any, rng: np.random.Generator) -> None:
    """Edges go elsewhere, in circles too; operators become others, come twice or vanish."""
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    node = graph.node[int(rng.integers(0, len(graph.node)))]
    match int(rng.integers(0, 5)):
        case 0 if node.input:
            node.input[int(rng.integers(0, len(node.input)))] = str(rng.choice(np.array(names)))
        case 1:
            node.op_type = str(rng.choice(np.array(["If", "Loop", "Gather", "Reshape", "Slice"])))
        case 2:
            graph.node.append(node)
        case 3:
            graph.node.remove(node)
        case _:
            node.output[0] = str(rng.choice(np.array(names)))


# --- trying them ----------------------------------------------------------------------------


def originals(family: str) -> tuple[bytes, bytes | None]:
    """The skops and the ONNX file of a family of models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _originals(fitted(family))


def _originals(estimator: Any) -> tuple[bytes, bytes | None]:
    data = models.dump(estimator)
    is_classifier = hasattr(estimator, "classes_")
    classes = models.classes_of(estimator) if is_classifier else ()
    task: Any = "classification" if is_classifier else "regression"
    held = np.random.default_rng(3).normal(size=(40, WIDTH))
    made = compile_model(estimator, COLUMNS, task, classes, held, 7)
    return data, made.data


def try_skops(argument: dict[str, Any]) -> list[list[Any]]:
    """In a child: what becomes of each file: refused and why, the same answers, or others."""
    task, files = argument["task"], argument["files"]
    return _outcomes(lambda data: _skops_answers(data, task), files)


def _skops_answers(data: bytes, task: Any) -> NDArray[Any]:
    answers = models.predict(models.load(data), _answerable(), task)
    return answers.values if answers.probabilities is None else answers.probabilities


def _answerable() -> NDArray[np.float64]:
    rows = asked_rows()
    return rows[np.isfinite(rows).all(axis=1) & (np.abs(rows) < 1e30).all(axis=1)]


def try_onnx(argument: dict[str, Any]) -> list[list[Any]]:
    """The same of compiled models, which are also asked about what cannot be answered."""
    signature = onnx_models.Signature(numbers=WIDTH, texts=0, answers=argument["answers"])
    files = argument["files"]
    rows = asked_rows()

    def answers(data: bytes) -> NDArray[Any]:
        return onnx_models.load(data, signature).answers(rows)

    return _outcomes(answers, files)


def _outcomes(ask: Callable[[bytes], NDArray[Any]], files: dict[str, bytes]) -> list[list[Any]]:
    expected = ask(files.pop("original"))
    return [[name, *_outcome(ask, data, expected)] for name, data in files.items()]


def _outcome(
    ask: Callable[[bytes], NDArray[Any]], data: bytes, expected: NDArray[Any]
) -> tuple[str, str]:
    try:
        found = ask(data)
    except Exception as error:  # noqa: BLE001 - any exception is a refusal; a crash is none
        return "refused", f"{type(error).__name__}: {error}"[:200]
    is_same = found.shape == expected.shape and found.dtype == expected.dtype
    is_same = is_same and np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")
    return ("unchanged" if is_same else "another"), ""
