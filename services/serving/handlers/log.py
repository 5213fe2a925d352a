"""An answered row as it waits in the spool, and as it goes into a batch.

It waits as two lines of JSON: the names of its features, and its `PredictionRow` without `columns`.
A batch tells each list of names once, and joins the rows as they are: nothing is read again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.serving.domain.endpoints import Endpoint, Step
from services.serving.domain.versions import Loaded, Value
from services.serving.prediction.reading import Row
from shared.ids import derived, uuid7


@dataclass(slots=True, kw_only=True)
class Prediction:
    """One row on its way to its answer.

    Attributes:
        arm: index of the arm that it was routed to; beyond the last where there is none.
        is_drawn: False where the caller chose the arm while arms share the requests: what comes
            of such a row must not be compared as if chance had sent it there.
        unusable: the first version that said what may not be given, and what it said.
    """

    id: str
    row: Row
    entity: str | None
    arm: int
    is_drawn: bool = True
    value: Value = False
    probabilities: list[float] | None = None
    step: Step | None = None
    unusable: tuple[Loaded, Value] | None = None


def new_id() -> str:
    """An id for a row that somebody sees the answer of."""
    return f"p-{uuid7().hex}"


def shadow_id(seen: str, version: int) -> str:
    """The id of the answer of a shadow; the door for outcomes takes none of these."""
    return f"s-{derived(UUID(seen.removeprefix('p-')), 'shadow', version).hex}"


def arm_name(endpoint: Endpoint, prediction: Prediction) -> str:
    """The role of the arm that the row was routed to."""
    arms = endpoint.desired.arms
    return arms[prediction.arm].role if prediction.arm < len(arms) else "none"


def log_rows(endpoint: Endpoint, predictions: Sequence[Prediction], at: datetime) -> list[bytes]:
    """Answers that were seen; all of them have a step."""
    return [_log_row(endpoint, prediction, at) for prediction in predictions]


def _log_row(endpoint: Endpoint, prediction: Prediction, at: datetime) -> bytes:
    step = prediction.step or Step(rung="none")
    names = endpoint.schema.names if step.loaded is None else step.loaded.names
    row = prediction.row
    if not names:
        names = tuple(sorted(row))
    arms = endpoint.desired.arms
    plain: dict[str, Any] = {
        "id": prediction.id,
        "model": endpoint.model,
        "version": step.version,
        "manifest": step.digest,
        "rung": step.rung,
        "arm": arm_name(endpoint, prediction),
        "generation": endpoint.generation,
        "entity": prediction.entity,
        "features": [_plain(row.get(name)) for name in names],
        "answer": prediction.value,
        "score": _score(prediction.probabilities),
        "at": at,
        "weight": arms[prediction.arm].weight if prediction.arm < len(arms) else 1.0,
    }
    if endpoint.seen_versions and prediction.is_drawn:
        plain["arms"] = endpoint.seen_versions
    return orjson.dumps(names) + b"\n" + orjson.dumps(plain)


def shadow_row(
    endpoint: Endpoint,
    arm: int,
    seen: Prediction,
    said: tuple[Value, list[float] | None],
    at: datetime,
) -> bytes:
    """An answer that nobody saw. Its features are in the row that was seen, and not told again."""
    shadow = endpoint.desired.arms[arm]
    value, probabilities = said
    plain: dict[str, Any] = {
        "id": shadow_id(seen.id, shadow.version),
        "model": endpoint.model,
        "version": shadow.version,
        "manifest": shadow.manifest,
        "rung": "shadow",
        "arm": "shadow",
        "generation": endpoint.generation,
        "entity": seen.entity,
        "features": (),
        "answer": value,
        "score": _score(probabilities),
        "at": at,
        "weight": shadow.weight,
        "shadow_of": seen.id,
    }
    return b"[]\n" + orjson.dumps(plain)


def joined(rows: Sequence[bytes]) -> tuple[tuple[tuple[str, ...], ...], bytes]:
    """The lists of names that rows have, and the rows as the JSON of a list."""
    places: dict[bytes, bytes] = {}
    parts = []
    for row in rows:
        names, _, plain = row.partition(b"\n")
        place = places.get(names)
        if place is None:
            place = places[names] = b',"columns":%d}' % len(places)
        parts.append(plain[:-1] + place)
    columns = tuple(tuple(orjson.loads(names)) for names in places)
    return columns, b"[" + b",".join(parts) + b"]"


def _score(probabilities: Sequence[float] | None) -> float | None:
    """Of the second class, where there are two."""
    return probabilities[1] if probabilities is not None and len(probabilities) == 2 else None


def _plain(value: Any) -> Any:
    """Whole numbers are logged as the numbers that the model saw."""
    return float(value) if type(value) is int else value
