"""What computes a version's answers: its compiled model where one was proved, else scikit-learn.

scikit-learn, onnxruntime and numpy are imported here, with the first model that needs them: an
idle replica needs none of them, a replica whose models are all compiled never needs the first.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import isfinite
from typing import Any, Final

from services.serving.domain.versions import Engine, Said
from services.serving.prediction.reading import Row
from shared import telemetry
from shared.errors import ArtifactCorrupt, NotFound, Unprocessable
from shared.events import Digest
from shared.manifest import Compiled, Golden, Manifest

MODEL_FILE: Final = "model.skops"
COMPILED_FILE: Final = "model.onnx"
Say = Callable[[Sequence[Row]], list[Said]]
Compute = Callable[[Any, Any], Any]
Read = Callable[[Digest], bytes]
"""The bytes under a digest, whole."""

# What opening costs in memory, as `make bench-models` measures it beside the resident memory.
_SESSION_BYTES: Final = 90_000
_PER_GRAPH_BYTE: Final = 5.0
_ESTIMATOR_BYTES: Final = 8_000
_PER_UNPACKED_BYTE: Final = 1.1


class NotUsed(Unprocessable):
    """The compiled model is not what the manifest promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An open model; all versions that consist of the same files share it.

    Attributes:
        compute: see `Opened`.
        size_bytes: what it takes in memory, estimated from its file.
        fault: why a compiled model that is there is not used.
    """

    engine: Engine
    say: Say
    compute: Compute | None
    size_bytes: int
    fault: str = ""


def names_compiled(manifest: Manifest) -> bool:
    """Whether a proved compiled model belongs to this version."""
    record = manifest.compiled
    return record is not None and record.engine == "onnx" and COMPILED_FILE in manifest.files


def key_of(manifest: Manifest, engine: Engine) -> tuple[Any, ...]:
    """Equal for versions that the same open model can answer for."""
    file = manifest.files[COMPILED_FILE if engine == "onnx" else MODEL_FILE].digest
    columns = tuple((column.name, column.kind) for column in manifest.columns)
    return engine, file, columns, manifest.classes, manifest.task


def runtime_of(read: Read, manifest: Manifest, proved: Engine | None = None) -> Runtime:
    """The open model of a version; every structure in its file has been looked through.

    A compiled model that cannot be used costs nobody an answer: the estimator that it was made of
    lies beside it.

    Args:
        proved: the engine that was proved before; then golden rows are not asked again, and a file
            of it that is damaged is worth fetching again.

    Raises:
        Unprocessable: the estimator, too, is unsafe or cannot be loaded.
        NotFound, ArtifactCorrupt: a file that it needs is not here, or damaged.
    """
    fault = ""
    if names_compiled(manifest) and proved != "scikit-learn":
        try:
            return _compiled(read, manifest, is_proved=proved is not None)
        except MemoryError:
            raise
        except (NotFound, ArtifactCorrupt) as error:
            if proved is not None:
                raise
            fault = str(error)[:300]
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is not needed
            fault = str(error)[:300] or type(error).__name__
    return _estimated(read, manifest, fault)


def tell_fault(manifest: Manifest, fault: str) -> None:
    """Write down that a compiled model is there and not used."""
    telemetry.log(
        "compiled_not_used",
        level="warning",
        model=manifest.model,
        digest=manifest.files[COMPILED_FILE].digest,
        reason=fault,
    )


def _estimated(read: Read, manifest: Manifest, fault: str) -> Runtime:
    """The estimator as a function of rows; the common case of numbers alone is kept short."""
    data = read(manifest.files[MODEL_FILE].digest)
    models: Any = import_module("shared.models")
    estimator = models.load(data)
    task = manifest.task
    matrix = _matrix(manifest)

    def say(rows: Sequence[Row]) -> list[Said]:
        answers = models.predict(estimator, matrix(rows), task)
        values = answers.values.tolist()
        if answers.probabilities is None:
            return [(value, None) for value in values]
        return list(zip(values, answers.probabilities.tolist(), strict=True))

    size = _ESTIMATOR_BYTES + int(_PER_UNPACKED_BYTE * _unpacked(data))
    return Runtime(engine="scikit-learn", say=say, compute=None, size_bytes=size, fault=fault)


def _unpacked(data: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return sum(member.file_size for member in packed.infolist())


def _matrix(manifest: Manifest) -> Callable[[Sequence[Row]], Any]:
    """Rows to the matrix that the version sees, by one copy."""
    numpy: Any = import_module("numpy")
    tabular: Any = import_module("shared.tabular")
    columns = manifest.columns
    names = tuple(column.name for column in columns)

    def numbers(rows: Sequence[Row]) -> Any:
        return numpy.array([[row.get(name) for name in names] for row in rows], dtype=float)

    def mixed(rows: Sequence[Row]) -> Any:
        return tabular.matrix(columns, rows)

    return mixed if any(column.kind == "text" for column in columns) else numbers


# --- compiled -------------------------------------------------------------------------------


def _compiled(read: Read, manifest: Manifest, *, is_proved: bool) -> Runtime:
    """The compiled model, after its answers to the golden rows."""
    data = read(manifest.files[COMPILED_FILE].digest)
    onnx_models: Any = import_module("shared.onnx_models")
    signature = onnx_models.Signature.of(manifest.columns, manifest.classes)
    session = onnx_models.load(data, signature)
    inputs = _inputs(manifest, onnx_models.MISSING_TEXT)
    if not is_proved and manifest.compiled is not None:
        names = [column.name for column in manifest.columns]
        for golden in manifest.compiled.golden:
            row = dict(zip(names, golden.row, strict=True))
            _check_golden(golden, session.answers(*inputs([row])).tolist()[0], manifest.compiled)
    return Runtime(
        engine="onnx",
        say=_sayer(session.answers, inputs, manifest),
        compute=_computer(session.answers),
        size_bytes=_SESSION_BYTES + int(_PER_GRAPH_BYTE * len(data)),
    )


def _sayer(ask: Compute, inputs: Callable[[Sequence[Row]], Any], manifest: Manifest) -> Say:
    """The compiled model as a function of rows."""

    def answers(rows: Sequence[Row]) -> list[list[float]]:
        found: list[list[float]] = ask(*inputs(rows)).tolist()
        if not all(isfinite(number) for row in found for number in row):
            raise _refused()
        return found

    if manifest.task == "regression":
        return lambda rows: [(row[0], None) for row in answers(rows)]
    classes = manifest.classes
    return lambda rows: [(classes[row.index(max(row))], row) for row in answers(rows)]


def _computer(ask: Compute) -> Compute:
    """The compiled model as a function of arrays."""
    is_finite: Any = import_module("numpy").isfinite

    def compute(numbers: Any, texts: Any) -> Any:
        found = ask(numbers, texts)
        if not is_finite(found).all():
            raise _refused()
        return found

    return compute


def _refused() -> Unprocessable:
    # As scikit-learn refuses a whole question for one row that it cannot answer.
    return Unprocessable("the model cannot answer: a value is missing or too large for it")


def _inputs(manifest: Manifest, missing: str) -> Callable[[Sequence[Row]], Any]:
    """Rows to the inputs of a compiled model: one array per kind of column, each by one copy."""
    numpy: Any = import_module("numpy")
    numbers = tuple(c.name for c in manifest.columns if c.kind != "text")
    texts = tuple(c.name for c in manifest.columns if c.kind == "text")

    def of(rows: Sequence[Row]) -> tuple[Any, Any]:
        table = named = None
        if numbers:
            table = numpy.array([[row.get(name) for name in numbers] for row in rows], dtype=float)
        if texts:
            told = [[row.get(name) for name in texts] for row in rows]
            filled = [[missing if text is None else text for text in row] for row in told]
            named = numpy.array(filled, dtype=object)
        return table, named

    return of


def _check_golden(golden: Golden, found: Sequence[float], record: Compiled) -> None:
    """Its answer to a row whose answer is known.

    Raises:
        NotUsed: it is another one.
    """
    expected = golden.answers
    if expected is None:
        if all(map(isfinite, found)):
            raise NotUsed("it answers a row that its estimator refuses")
        return
    for said, own in zip(expected, found, strict=True):
        allowed = record.absolute_tolerance + record.relative_tolerance * abs(said)
        if not abs(said - own) <= allowed:
            raise NotUsed(f"it answers {own!r} to a row whose answer is {said!r}")
