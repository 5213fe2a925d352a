"""What a model version is made of: one JSON blob, whose digest is the version's.

Serving, the evaluator and the monitor need nothing else of a version but the files it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from shared.errors import Unprocessable
from shared.events import Digest, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A feature, in the order of the matrix.

    Attributes:
        kind: numbers and booleans become float64, text stays text.
        minimum, maximum: seen in training, for numbers; None without a value.
        categories: levels seen in training, for text, most frequent first, at most 100.
    """

    name: str
    kind: Literal["number", "boolean", "text"]
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a version."""

    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A row whose answer is known.

    Attributes:
        row: a value per column, in the order of the manifest; None for missing.
        answers: one for regression, the shares of the classes for classification; None for a row
            that must be refused.
    """

    row: tuple[float | str | None, ...]
    answers: tuple[float, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """Whether a version has a compiled model that was proved to answer as its estimator does.

    Attributes:
        engine: what answers: `onnx` where the proof held, else `scikit-learn` itself.
        reason: why there is no compiled model; empty if there is one.
        opsets: versions of the operators, by domain.
        libraries: versions of what made it.
        rows, probes: held-out rows and adversarial rows that were compared.
        refused: how many of them the estimator refuses; the compiled model refuses the same.
        largest_difference: between two numbers of an answer.
        absolute_tolerance, relative_tolerance: a difference may be the first plus the second times
            the estimator's number; labels are equal.
        golden: rows that a freshly loaded compiled model is asked first.
    """

    engine: Literal["onnx", "scikit-learn"]
    reason: str = ""
    opsets: Mapping[str, int] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    probes: int = 0
    refused: int = 0
    largest_difference: float = 0.0
    absolute_tolerance: float = 0.0
    relative_tolerance: float = 0.0
    golden: tuple[Golden, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What was kept from the estimator because somebody annotated it, and the rows to judge it by.

    Attributes:
        share: of all rows of the dataset version, 0 to 1.
        tags: rows by tag.
        annotations: ids, as text, in order.
        rows_blob: the rows as held-out rows are kept (`shared.holdout`), at most as many as these;
            None when nothing was left out.
        loss_without, loss_with: of the chosen candidate on the validation rows, fitted without and
            with what is left out; None where so little is that only one was fitted.
        kept: the rows were learned from all the same, because that was shown better; then `tags`
            and `annotations` name what would have been left out.
    """

    rows: int
    share: float
    tags: Mapping[str, int] = field(default_factory=dict)
    annotations: tuple[str, ...] = ()
    rows_blob: Digest | None = None
    loss_without: float | None = None
    loss_with: float | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that loading, answering, judging and watching a version needs.

    Attributes:
        files: `model.skops` always; `background.json` (`shared.background`) since explanations.
        classes: the class labels in the order of the probabilities; empty for regression.
        baseline: the fitted rule (`shared.baselines`).
        reference: blob with the reference profile (`shared.reference`).
        holdout: blob with the held-out rows (`shared.holdout`).
    """

    format: Literal["tidewheel/manifest/v1"] = "tidewheel/manifest/v1"
    model: str
    task: Literal["regression", "classification"]
    metric: str
    columns: tuple[Column, ...]
    target: str
    classes: tuple[str | float | bool, ...] = ()
    files: Mapping[str, File]
    baseline: Json
    entity: str | None
    bounds: tuple[float, float] | None
    lineage: Literal["required", "best_effort"]
    objective_seconds: float
    dataset: str
    dataset_version: int
    dataset_digest: Digest
    spec_digest: Digest
    code_digest: Digest
    exclusions_digest: Digest
    holdout: Digest
    reference: Digest
    use: str
    hyperparameters: Json
    seed: int
    rows_trained: int
    rows_held_out: int
    metrics: Mapping[str, float]
    environment: Mapping[str, str]
    """Versions of Python and of the libraries that the model needs."""
    compiled: Compiled | None = None
    """None in manifests from before models were compiled."""
    left_out: LeftOut | None = None
    """None in manifests from before periods could be annotated."""

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same manifest has the same bytes."""
        return orjson.dumps(self, option=orjson.OPT_SORT_KEYS)


_ADAPTER: Final[list[TypeAdapter[Manifest]]] = []


def read_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes, validated.

    Raises:
        Unprocessable: the bytes are no manifest.
    """
    if not _ADAPTER:
        _ADAPTER.append(TypeAdapter(Manifest))
    try:
        return _ADAPTER[0].validate_json(data)
    except ValidationError as error:
        raise Unprocessable(f"this is no manifest: {error.error_count()} faults") from error


def plain(manifest: Manifest) -> dict[str, Any]:
    """The manifest as plain data, for people."""
    data: dict[str, Any] = orjson.loads(manifest.to_bytes())
    return data
