"""Files, specifications and facts that the tests of the registry are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from services.registry.profiling.profile import ColumnProfile, Profile
from shared.events import (
    DatasetName,
    Digest,
    Event,
    Heard,
    ModelName,
    RunId,
    TrainingCompleted,
)
from shared.ids import derived, uuid7

E = TypeVar("E", bound=Event)
MOMENT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def some_rows(count: int, *, shift: float = 0.0) -> str:
    """Columns a, b, site and y = 3a - 2b."""
    lines = ["a,b,site,y"]
    for i in range(count):
        a, b = (i * 7 % 20) / 10 - 1 + shift, (i * 3 % 10) / 5
        lines.append(f"{a:.3f},{b:.3f},{'north' if i % 3 else 'south'},{3 * a - 2 * b:.4f}")
    return "\n".join(lines) + "\n"


def a_spec(name: str = "pump", dataset: str = "pumps", **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "apiVersion": "tidewheel/v1",
        "name": name,
        "owner": "rotating",
        "task": "regression",
        "data": {"dataset": dataset, "target": "y"},
    }
    return spec | changes


def a_column(name: str, kind: Any = "number", **changes: Any) -> ColumnProfile:
    facts: dict[str, Any] = {"count": 10, "missing": 0, "distinct": 10}
    return ColumnProfile(name=name, kind=kind, **(facts | changes))


def a_profile(*columns: ColumnProfile, rows: int = 10) -> Profile:
    return Profile(format="csv", rows=rows, columns=columns)


def a_training(**changes: Any) -> TrainingCompleted:
    facts: dict[str, Any] = {
        "model": ModelName("pump"),
        "run": RunId(uuid7()),
        "attempt": 1,
        "trigger": "dataset",
        "dataset": DatasetName("pumps"),
        "dataset_version": 1,
        "dataset_digest": Digest("1" * 64),
        "spec_digest": Digest("2" * 64),
        "code_digest": Digest("3" * 64),
        "exclusions_digest": Digest("4" * 64),
        "manifest": Digest("5" * 64),
        "split": Digest("6" * 64),
        "rows_trained": 32,
        "rows_held_out": 8,
        "metrics": {"mae": 0.125},
        "use": "sklearn.linear_model.Ridge",
        "hyperparameters": {"alpha": 0.5},
        "candidates": (),
        "seed": 7,
        "seconds": {"fit": 0.25},
    }
    return TrainingCompleted(**(facts | changes))


def heard(
    event: E,
    *,
    at: datetime = MOMENT,
    correlation: UUID | None = None,
    sequence: int | None = 1,
    event_id: UUID | None = None,
) -> Heard[E]:
    found = event_id or uuid7()
    return Heard(
        event=event,
        id=found,
        source="//tidewheel/test",
        time=at,
        correlation=correlation or derived(None, "cascade", found),
        sequence=sequence,
    )
