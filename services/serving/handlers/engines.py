"""What computes a version's answers: its compiled model where one was proved, else scikit-learn.

scikit-learn, onnxruntime and numpy are imported here, with the first model that needs them: an
idle replica needs none of them, a replica whose models are all compiled never needs the first.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from math import isfinite
from typing import Any, Final

from services.serving.domain.versions import Engine, Said
from services.serving.prediction.reading import Row
from services.serving.store.disk import Disk
from shared import telemetry
from shared.errors import Unprocessable
from shared.manifest import Compiled, Golden, Manifest

MODEL_FILE: Final = "model.skops"
COMPILED_FILE: Final = "model.onnx"
Say = Callable[[Sequence[Row]], list[Said]]


class NotUsed(Unprocessable):
    """The compiled model is not what the manifest promises."""


def engine_of(disk: Disk, manifest: Manifest) -> tuple[Engine, Say]:
    """The engine of a version whose files are on the own disk, and its answers about rows.

    A compiled model that cannot be used costs nobody an answer: the estimator that it was made of
    lies beside it.

    Raises:
        Unprocessable: the estimator, too, is unsafe or cannot be loaded.
    """
    record = manifest.compiled
    if record is not None and record.engine == "onnx" and COMPILED_FILE in manifest.files:
        try:
            return "onnx", _compiled(disk, manifest, record)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is not needed
            telemetry.log(
                "compiled_not_used",
                level="warning",
                model=manifest.model,
                digest=manifest.files[COMPILED_FILE].digest,
                reason=str(error)[:300],
            )
    return "scikit-learn", _estimated(disk, manifest)


def _estimated(disk: Disk, manifest: Manifest) -> Say:
    """The estimator as a function of rows; the common case of numbers alone is kept short."""
    data = disk.place_of(manifest.files[MODEL_FILE].digest).read_bytes()
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

    return say


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


def _compiled(disk: Disk, manifest: Manifest, record: Compiled) -> Say:
    """The compiled model as a function of rows, after its answers to the golden rows."""
    onnx_models: Any = import_module("shared.onnx_models")
    data = disk.place_of(manifest.files[COMPILED_FILE].digest).read_bytes()
    signature = onnx_models.Signature.of(manifest.columns, manifest.classes)
    session = onnx_models.load(data, signature)
    inputs = _inputs(manifest, onnx_models.MISSING_TEXT)
    names = [column.name for column in manifest.columns]
    for golden in record.golden:
        row = dict(zip(names, golden.row, strict=True))
        _check_golden(golden, session.answers(*inputs([row])).tolist()[0], record)

    def answers(rows: Sequence[Row]) -> list[list[float]]:
        found: list[list[float]] = session.answers(*inputs(rows)).tolist()
        if not all(isfinite(number) for row in found for number in row):
            # As scikit-learn refuses a whole question for one row that it cannot answer.
            raise Unprocessable("the model cannot answer: a value is missing or too large for it")
        return found

    if manifest.task == "regression":
        return lambda rows: [(row[0], None) for row in answers(rows)]
    classes = manifest.classes
    return lambda rows: [(classes[row.index(max(row))], row) for row in answers(rows)]


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
