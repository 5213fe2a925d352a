"""Whether a file becomes a version of a dataset, and which one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from services.registry.profiling.profile import ColumnProfile, Profile
from shared.events import DatasetName, DatasetPublished, DatasetRefused, Digest, ModelName, Reason

MOST_REASONS: Final = 100
_NUMERIC: Final = frozenset({"integer", "number"})


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Bytes that somebody wants to be a version, with what was found out about them."""

    dataset: DatasetName
    digest: Digest
    size_bytes: int
    profile: Profile
    profile_digest: Digest
    offered_by: str
    offer: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The newest version that there is."""

    version: int
    kinds: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A model that is trained on the dataset."""

    model: ModelName
    task: Literal["regression", "classification"]
    target: str


def decide_version(
    file: File, before: Before | None, consumers: Sequence[Consumer]
) -> DatasetPublished | DatasetRefused:
    """The next version, or every reason why there is none."""
    reasons = tuple(refusals(file.profile, before, consumers))
    if reasons:
        return refuse(
            file.dataset, reasons, digest=file.digest, offered_by=file.offered_by, offer=file.offer
        )
    return DatasetPublished(
        dataset=file.dataset,
        version=before.version + 1 if before else 1,
        digest=file.digest,
        format=file.profile.format,
        size_bytes=file.size_bytes,
        rows=file.profile.rows,
        columns=settled_kinds(file.profile, before),
        profile=file.profile_digest,
        published_by=file.offered_by,
        offer=file.offer,
    )


def refuse(
    dataset: DatasetName,
    reasons: Sequence[Reason],
    *,
    digest: Digest | None,
    offered_by: str,
    offer: UUID | None = None,
) -> DatasetRefused:
    """The refusal, with as many reasons as an event may carry."""
    kept = tuple(reasons[:MOST_REASONS])
    if len(reasons) > MOST_REASONS:
        more = f"there are {len(reasons) - MOST_REASONS} more reasons"
        kept = (*kept[:-1], Reason(pointer="", detail=more))
    return DatasetRefused(
        dataset=dataset, reasons=kept, offered_by=offered_by, digest=digest, offer=offer
    )


def settled_kinds(profile: Profile, before: Before | None) -> dict[str, str]:
    """The kinds, where a column without values, or of whole numbers, stays what it was."""
    known = before.kinds if before else {}
    return {column.name: _settled(column, known.get(column.name)) for column in profile.columns}


def _settled(column: ColumnProfile, known: str | None) -> str:
    if known is None:
        return column.kind
    if column.is_empty or (column.kind == "integer" and known == "number"):
        return known
    return column.kind


def refusals(
    profile: Profile, before: Before | None, consumers: Sequence[Consumer]
) -> Iterator[Reason]:
    """Every reason against the file, all at once."""
    columns = {column.name: column for column in profile.columns}
    for column in profile.columns:
        yield from _infinite(column)
        if before and column.name in before.kinds:
            yield from _changed(column, before.kinds[column.name], before.version)
    for consumer in consumers:
        yield from _unfit_target(columns.get(consumer.target), consumer, profile.rows)


def _infinite(column: ColumnProfile) -> Iterator[Reason]:
    if column.infinite:
        yield Reason(
            pointer=f"/columns/{column.name}",
            detail=f"column {column.name!r} is infinite in {_rows(column.infinite)}, "
            f"first in row {column.first_infinite_row}",
            hint="leave the field empty where the value is not known",
        )


def _changed(column: ColumnProfile, known: str, version: int) -> Iterator[Reason]:
    if column.is_empty or column.kind == known or {column.kind, known} <= _NUMERIC:
        return
    detail = f"column {column.name!r} is {column.kind}, in version {version} it is {known}"
    odd = column.oddity
    if odd and (odd.kind == known or {odd.kind, known} <= _NUMERIC):
        detail += f"; row {odd.row} holds {odd.value!r}"
    hint = "a column keeps its kind; give a new meaning a new name"
    yield Reason(pointer=f"/columns/{column.name}", detail=detail, hint=hint)


def _unfit_target(column: ColumnProfile | None, consumer: Consumer, rows: int) -> Iterator[Reason]:
    pointer = f"/columns/{consumer.target}"
    whose = f"the target of model {consumer.model}"
    if column is None:
        detail = f"column {consumer.target!r} is missing; it is {whose}"
        yield Reason(pointer=pointer, detail=detail, hint="add the column")
        return
    if column.missing:
        detail = (
            f"column {column.name!r}, {whose}, has no finite value in {_rows(column.missing)} "
            f"of {rows}, first in row {column.first_missing_row}"
        )
        hint = "leave out rows whose outcome is not known yet"
        yield Reason(pointer=pointer, detail=detail, hint=hint)
    usable = _NUMERIC if consumer.task == "regression" else _NUMERIC | {"text", "boolean"}
    if not column.is_empty and column.kind not in usable:
        detail = f"column {column.name!r}, {whose}, is {column.kind}"
        hint = f"{consumer.task} needs {' or '.join(sorted(usable))}"
        yield Reason(pointer=pointer, detail=detail, hint=hint)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
