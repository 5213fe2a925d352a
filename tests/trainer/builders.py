"""Small true things for the trainer's tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from services.trainer.domain import DatasetVersion, Definition, Known, Reference, Situation
from shared.artifacts import digest_of
from shared.events import (
    DatasetName,
    DatasetPublished,
    Digest,
    Event,
    Heard,
    ModelDefined,
    ModelName,
)
from shared.spec import ModelSpec, read_spec
from tests.support.house import a_spec, some_rows

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
NUMBERS = {"a": "number", "b": "number", "y": "number"}


def a_parsed_spec(**changes: Any) -> ModelSpec:
    return read_spec(a_spec("demand", "sales", **changes))


def a_definition(**changes: Any) -> Definition:
    spec = a_parsed_spec(**changes)
    return Definition(
        model=ModelName(spec.name),
        dataset=DatasetName(spec.data.dataset),
        spec=spec.canonical(),
        spec_digest=spec.digest(),
        code_digest=digest_of(b"code" + repr((spec.task, spec.data, spec.train)).encode()),
    )


def a_version(
    version: int = 1, *, rows: int = 200, columns: Mapping[str, str] | None = None
) -> DatasetVersion:
    return DatasetVersion(
        dataset=DatasetName("sales"),
        version=version,
        digest=digest_of(f"{version}".encode()),
        format="csv",
        size_bytes=1,
        rows=rows,
        columns=columns or NUMBERS,
    )


def a_situation(
    *,
    reference: Reference | None = None,
    known: Known | None = None,
    last_started_at: datetime | None = None,
) -> Situation:
    return Situation(reference=reference, known=known, last_started_at=last_started_at)


def heard(event: Event, *, event_id: UUID | None = None) -> Heard[Any]:
    return Heard(
        event=event,
        id=event_id or uuid4(),
        source="//test",
        time=NOW,
        correlation=uuid4(),
        sequence=1,
    )


def published(version: int, data: bytes, *, rows: int, dataset: str = "sales") -> DatasetPublished:
    return DatasetPublished(
        dataset=DatasetName(dataset),
        version=version,
        digest=digest_of(data),
        format="csv",
        size_bytes=len(data),
        rows=rows,
        columns=NUMBERS,
        profile=Digest("0" * 64),
        published_by="tests",
    )


def defined(spec: Mapping[str, Any], *, code: bytes = b"code") -> ModelDefined:
    parsed = read_spec(spec)
    fitted = repr((parsed.task, parsed.data, parsed.train)).encode()
    return ModelDefined(
        model=ModelName(parsed.name),
        dataset=DatasetName(parsed.data.dataset),
        spec=parsed.canonical(),
        spec_digest=parsed.digest(),
        code_digest=digest_of(code + fitted),
        defined_by="tests",
    )


def an_argument(
    spec: Mapping[str, Any],
    csv: str = "",
    columns: Mapping[str, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """What a child is handed."""
    parsed = read_spec(spec)
    data = (csv or some_rows(200)).encode()
    return {
        "spec": parsed.canonical(),
        "data": data,
        "format": "csv",
        "columns": dict(columns or NUMBERS),
        "allowed": ["sklearn"],
        "model": parsed.name,
        "dataset": parsed.data.dataset,
        "dataset_version": 1,
        "dataset_digest": digest_of(data),
        "spec_digest": parsed.digest(),
        "code_digest": "1" * 64,
        "exclusions_digest": "2" * 64,
    } | changes
