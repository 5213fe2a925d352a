"""What the trainer knows: versions of datasets, definitions of models, and how runs stand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from shared.artifacts import digest_of
from shared.events import DatasetName, Digest, Json, ModelName
from shared.spec import ModelSpec, read_spec

Trigger = Literal["dataset", "code", "time", "drift", "quality", "manual"]

NO_EXCLUSIONS = digest_of(b"[]")
"""Digest of the empty list of excluded rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One version of a dataset, as it was published."""

    dataset: DatasetName
    version: int
    digest: Digest
    format: Literal["csv", "parquet"]
    size_bytes: int
    rows: int
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A model as it is defined now."""

    model: ModelName
    dataset: DatasetName
    spec: Json
    spec_digest: Digest
    code_digest: Digest

    def parsed(self) -> ModelSpec:
        """The specification; the registry has validated it."""
        return read_spec(self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The data that a new version is compared with; `what` names whose they are."""

    what: str
    rows: int
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A run of one natural key; `key` is its own, which repeats by hand carry a number behind."""

    run: UUID
    state: Literal["waiting", "running", "done", "failed", "superseded"]
    key: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it may still complete."""
        return self.state in ("waiting", "running")

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end of its own."""
        return self.state in ("done", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision about one model and one dataset version rests on.

    Attributes:
        reference: the champion's data, else those of the last completed run; None before that.
        known: the run of exactly this data, specification and code, if there is one.
        last_started_at: when anything was last fitted for this model.
    """

    reference: Reference | None
    known: Known | None
    last_started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """An active annotation that a training of a model looks at.

    Attributes:
        starts, ends: microseconds since 1970; rows from the first up to, not with, the second.
    """

    annotation: str
    tag: str
    column: str
    starts: int
    ends: int


def exclusions_for(spec: ModelSpec, annotations: Sequence[Exclusion]) -> tuple[Exclusion, ...]:
    """What decides which rows a model does not learn from; nothing where no tag is left out.

    Annotations with other tags stay among them: the last one over a row counts.
    """
    wanted = leaves_out(spec)
    found = tuple(sorted(annotations, key=lambda one: one.annotation))
    return found if any(one.tag in wanted for one in found) else ()


def leaves_out(spec: ModelSpec) -> frozenset[str]:
    """The tags of periods that are not learned from; who adapts learns from what passes."""
    learned = {"transient"} if spec.monitor.transient == "adapt" else set()
    return frozenset(spec.data.leave_out) - learned


def digest_of_exclusions(exclusions: Sequence[Exclusion]) -> Digest:
    """The same for the same periods; part of what makes two trainings the same."""
    plain = [asdict(one) for one in exclusions]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return digest_of(text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a job is to fit: everything the worker and its child need to know."""

    model: ModelName
    trigger: Trigger
    dataset: DatasetName
    dataset_version: int
    dataset_digest: Digest
    format: Literal["csv", "parquet"]
    size_bytes: int
    columns: tuple[tuple[str, str], ...]
    """Pairs, because the order of the file must survive the database."""
    spec: Json
    spec_digest: Digest
    code_digest: Digest
    exclusions_digest: Digest
    due_at: datetime
    requested_by: str = ""
    """Who asked for it, where a person did; whoever that is may not approve it alone."""
    exclusions: tuple[Exclusion, ...] = ()
    """Annotated periods, in the order in which they were written."""

    def plain(self) -> Json:
        """As the payload of a job."""
        return {**asdict(self), "due_at": self.due_at.isoformat()}

    def leaving_out(self, exclusions: tuple[Exclusion, ...]) -> "Order":
        """The same, but for the annotated periods."""
        digest = digest_of_exclusions(exclusions)
        return replace(self, exclusions=exclusions, exclusions_digest=digest)

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> "Order":
        """From the payload of a job."""
        columns = tuple((name, kind) for name, kind in payload["columns"])
        due_at = datetime.fromisoformat(payload["due_at"])
        exclusions = tuple(Exclusion(**one) for one in payload.get("exclusions", ()))
        known = {**payload, "columns": columns, "due_at": due_at, "exclusions": exclusions}
        return cls(**known)


def order_for(
    definition: Definition,
    version: DatasetVersion,
    trigger: Trigger,
    due_at: datetime,
    requested_by: str = "",
    exclusions: tuple[Exclusion, ...] = (),
) -> Order:
    """The order to fit this definition to this version."""
    return Order(
        model=definition.model,
        trigger=trigger,
        dataset=version.dataset,
        dataset_version=version.version,
        dataset_digest=version.digest,
        format=version.format,
        size_bytes=version.size_bytes,
        columns=tuple(version.columns.items()),
        spec=definition.spec,
        spec_digest=definition.spec_digest,
        code_digest=definition.code_digest,
        exclusions_digest=digest_of_exclusions(exclusions),
        due_at=due_at,
        requested_by=requested_by,
        exclusions=exclusions,
    )
