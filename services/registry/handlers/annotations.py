"""What people say of periods: looked at, kept, and said on the topic of datasets."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

from services.registry.domain.annotations import (
    Annotation,
    Covered,
    Tag,
    check_period,
    column_for,
    moment_of,
    same_as,
    with_later,
    written,
)
from services.registry.profiling.examiner import Examiner
from services.registry.store import Store
from services.registry.store.datasets import DatasetVersion
from shared.access import Principal, Role, act
from shared.artifacts import ArtifactStore
from shared.clock import Clock
from shared.confined import Done
from shared.errors import Conflict, Fault, InvalidInput, NotFound, Saturated
from shared.events import DatasetAnnotated, DatasetName, Heard, ModelName
from shared.ids import uuid7
from shared.postgres import Cause

COUNT: Final = "services.registry.profiling.counting:count"
MAY_WRITE: Final = frozenset({Role.DATA_SCIENTIST, Role.OPERATOR})
MAY_AGREE: Final = frozenset({Role.DATA_SCIENTIST, Role.OPERATOR, Role.APPROVER})
NOTHING: Final = "There is no such dataset."


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody wants to say; what is missing comes from the monitor's proposal."""

    tag: Tag | None
    starts_at: datetime | None
    ends_at: datetime | None
    reason: str
    column: str | None
    models: tuple[str, ...]
    evidence: tuple[UUID, ...]
    proposal: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An annotation as it would begin.

    Attributes:
        together: share of the rows that would be left out with it.
        beside: the active ones that were counted in that.
    """

    annotation: Annotation
    together: float
    beside: frozenset[UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """Says for people what periods are."""

    store: Store
    artifacts: ArtifactStore
    examiner: Examiner
    now: Clock

    async def prepare(self, dataset: str, wanted: Wanted, who: Principal) -> Prepared:
        """The annotation as it would begin; files are read here, outside any transaction.

        Raises:
            NotFound, NotPermitted: there is no such dataset, or it is not for this person.
            Conflict: it has no version yet.
            InvalidInput: the period or its column cannot be.
            Saturated: no child can be started that reads the file.
        """
        await self.check_may(dataset, who, MAY_WRITE)
        versions = await self.store.datasets.versions(dataset, 2**31 - 1, 1)
        if not versions:
            raise Conflict(
                "This dataset has no version yet; publish one.", code="no_dataset_version"
            )
        draft = await self._draft(DatasetName(dataset), await self._whole(dataset, wanted), who)
        check_period(draft.starts_at, draft.ends_at)
        await self._check_models(draft)
        kinds = versions[0].kinds
        times = await self.store.annotations.times(dataset)
        column = column_for(wanted.column, dict(kinds), times, dataset)
        draft = _with(draft, column=column)
        beside = await self._beside(draft)
        covered = await self._covered(draft, beside, versions[0])
        return Prepared(
            annotation=written(draft, covered, self.now()),
            together=covered.together / covered.rows,
            beside=frozenset(one.annotation for one in beside),
        )

    async def _whole(self, dataset: str, wanted: Wanted) -> Wanted:
        """With what a proposal says; whoever takes it up may say otherwise."""
        told: dict[str, Any] = {}
        if wanted.proposal is not None:
            found = await self.store.annotations.proposal(dataset, wanted.proposal)
            if found is None:
                fault = Fault("/proposal", "there is no such proposal for this dataset")
                raise InvalidInput("Nothing is known of this proposal.", [fault])
            told = found
        missing = [
            Fault(f"/{name}", "missing", "give it, or a proposal of the monitor")
            for name in ("tag", "starts_at", "ends_at")
            if getattr(wanted, name) is None and name not in told
        ]
        if missing:
            raise InvalidInput("An annotation needs a tag and a period.", missing)
        evidence = [*wanted.evidence, *([wanted.proposal] if wanted.proposal else [])]
        evidence += [UUID(one) for one in told.get("evidence", [])]
        return Wanted(
            tag=wanted.tag or cast(Tag, told["tag"]),
            starts_at=wanted.starts_at or datetime.fromisoformat(told["starts_at"]),
            ends_at=wanted.ends_at or datetime.fromisoformat(told["ends_at"]),
            reason=wanted.reason,
            column=wanted.column,
            models=wanted.models,
            evidence=tuple(dict.fromkeys(evidence)),
            proposal=wanted.proposal,
        )

    async def _draft(self, dataset: DatasetName, wanted: Wanted, who: Principal) -> Annotation:
        assert wanted.starts_at is not None  # noqa: S101 - `_whole` has seen to it
        assert wanted.ends_at is not None  # noqa: S101
        assert wanted.tag is not None  # noqa: S101
        return Annotation(
            annotation=uuid7(),
            dataset=dataset,
            state="active",
            tag=wanted.tag,
            column="",
            starts_at=wanted.starts_at,
            ends_at=wanted.ends_at,
            models=tuple(ModelName(model) for model in dict.fromkeys(wanted.models)),
            share=0.0,
            author=who.name,
            by=who.name,
            reason=wanted.reason,
            said=wanted.reason,
            evidence=wanted.evidence,
        )

    async def _check_models(self, draft: Annotation) -> None:
        strangers = await self.store.annotations.strangers(draft.dataset, draft.models)
        if strangers:
            faults = [
                Fault(f"/models/{draft.models.index(ModelName(one))}", "learns from other data")
                for one in strangers
            ]
            raise InvalidInput("Not all of these models learn from this dataset.", faults)

    async def _beside(self, draft: Annotation) -> list[Annotation]:
        """The active ones that leave rows out by the same column."""
        active = await self.store.annotations.of(draft.dataset, states=["active"])
        return [one for one in active if one.leaves_out and one.column == draft.column]

    async def _covered(
        self, draft: Annotation, beside: Sequence[Annotation], version: DatasetVersion
    ) -> Covered:
        periods = [draft, *beside]
        with tempfile.TemporaryDirectory(prefix="tidewheel-periods-") as folder:
            path = Path(folder) / "dataset"
            await self.artifacts.afetch(version.digest, path)
            argument = {
                "path": str(path),
                "format": version.format,
                "column": draft.column,
                "kind": dict(version.kinds)[draft.column],
                "periods": [one.microseconds for one in periods],
            }
            found = await self._counted(argument)
        return Covered(
            rows=found["rows"],
            inside=found["inside"],
            together=found["together"],
            last=moment_of(found["last"]),
        )

    async def _counted(self, argument: dict[str, Any]) -> dict[str, Any]:
        limits = self.examiner.limits
        async with self.examiner.slots:
            outcome = await self.examiner.confined.run(
                COUNT, argument, seconds=limits.seconds, megabytes=limits.megabytes
            )
        if isinstance(outcome, Done):
            return dict(outcome.result)
        raise Saturated("The rows of this dataset cannot be counted now; try again shortly.")

    async def write(self, prepared: Prepared) -> Heard[DatasetAnnotated]:
        """Say it, in the open transaction.

        Raises:
            Conflict: the same is said already.
        """
        draft = prepared.annotation
        await self.store.datasets.lock(draft.dataset)
        others = await self.store.annotations.of(draft.dataset, states=["active", "proposed"])
        same = same_as(draft, others)
        if same is not None:
            raise Conflict(
                f"Annotation {same.annotation} says the same; it is {same.state}.",
                code="annotated_already",
            )
        later = [one for one in await self._beside(draft) if one.annotation not in prepared.beside]
        return await self.say(with_later(draft, prepared.together, later))

    async def change(
        self,
        dataset: str,
        annotation: UUID,
        who: Principal,
        reason: str,
        step: Callable[[Annotation, str, str], Annotation],
    ) -> Heard[DatasetAnnotated]:
        """Approve, decline or lift, in the open transaction.

        Raises:
            NotFound, NotPermitted, Conflict: it cannot be done, or not by this person.
        """
        await self.check_may(dataset, who, MAY_AGREE)
        known = await self.store.annotations.find(dataset, annotation)
        if known is None:
            raise NotFound("There is no such annotation.")
        return await self.say(step(known, who.name, reason))

    async def say(self, known: Annotation) -> Heard[DatasetAnnotated]:
        """Say the state that it is in, and keep it."""
        async with self.store.database.transaction(Cause.outside()) as transaction:
            (said,) = await transaction.say([known.event()])
            heard = cast("Heard[DatasetAnnotated]", said)
            await self.store.annotations.keep(known, heard)
            await self.store.log.remember([said])
        return heard

    async def check_may(self, dataset: str, who: Principal, roles: frozenset[Role]) -> None:
        """See that this person may say something of a dataset of this team."""
        act(who, await self.store.owners.dataset(dataset), roles, NOTHING)


def _with(draft: Annotation, **changes: Any) -> Annotation:
    fields = {name: getattr(draft, name) for name in Annotation.__slots__}
    return Annotation(**fields | changes)
