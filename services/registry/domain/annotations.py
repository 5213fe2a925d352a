"""What people may say of a period of a dataset, and when a second person must agree.

Rows of a period are left out of trainings by its tag. Of several active annotations over one row
the one that was written last counts, so that `normal` takes back what was said before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import fsum
from typing import Final, Literal
from uuid import UUID

from shared.errors import Conflict, Fault, InvalidInput, NotPermitted
from shared.events import DatasetAnnotated, DatasetName, ModelName

Tag = Literal["normal", "transient", "new_regime", "corrupt", "held_out"]
State = Literal["proposed", "active", "declined", "lifted"]
SECOND_PERSON_ABOVE: Final = 0.05
"""Of the rows, with all that is left out already: more needs somebody who did not write it."""
MOMENTS: Final = frozenset({"time", "integer", "number"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A period with what is said of it.

    Attributes:
        models: whom it concerns; none means all that learn from the dataset.
        share: of the rows of the version that was newest when it was written.
        by: who brought it into this state, with the words `said`.
        approved_by: the second person.
    """

    annotation: UUID
    dataset: DatasetName
    state: State
    tag: Tag
    column: str
    starts_at: datetime
    ends_at: datetime
    models: tuple[ModelName, ...]
    share: float
    author: str
    by: str
    reason: str
    said: str
    evidence: tuple[UUID, ...] = ()
    approved_by: str | None = None

    @property
    def leaves_out(self) -> bool:
        """Whether rows may be left out because of it."""
        return self.tag != "normal"

    @property
    def microseconds(self) -> tuple[int, int]:
        """Its ends, since 1970."""
        return _microseconds(self.starts_at), _microseconds(self.ends_at)

    def event(self) -> DatasetAnnotated:
        """What is said of it."""
        return DatasetAnnotated(
            dataset=self.dataset,
            annotation=self.annotation,
            state=self.state,
            tag=self.tag,
            column=self.column,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            models=self.models,
            share=self.share,
            author=self.author,
            by=self.by,
            reason=self.said,
            evidence=self.evidence,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """How many rows of the newest version a period has.

    Attributes:
        rows: of the version.
        inside: of this period.
        together: of this period and of every active one that leaves rows out.
        last: moment of the last row.
    """

    rows: int
    inside: int
    together: int
    last: datetime | None

    @property
    def share(self) -> float:
        return self.inside / self.rows if self.rows else 0.0


def check_period(starts_at: datetime, ends_at: datetime) -> None:
    """See that a period has a length.

    Raises:
        InvalidInput: it ends before it begins.
    """
    if ends_at <= starts_at:
        fault = Fault("/ends_at", "it does not lie after the start", "rows up to, not with, it")
        raise InvalidInput("There is no such period.", [fault])


def column_for(
    asked: str | None, kinds: Mapping[str, str], times: Sequence[str], dataset: str
) -> str:
    """The column of the row's moment.

    Args:
        asked: named by whoever annotates.
        kinds: of the columns of the newest version.
        times: `data.time` of the models that learn from the dataset.

    Raises:
        InvalidInput: none, or no single one, can be meant.
    """
    known = sorted({time for time in times if time in kinds})
    if asked is None and len(known) == 1:
        return known[0]
    if asked is not None and kinds.get(asked) in MOMENTS:
        return asked
    if asked is not None:
        what = f"is {kinds[asked]}" if asked in kinds else "is not there"
        fault = Fault("/column", f"{asked!r} {what}", "a column with the moment of each row")
    else:
        hint = f"one of {', '.join(known)}" if known else "the column with the moment of each row"
        fault = Fault("/column", "missing", hint)
    raise InvalidInput(f"It is not clear which rows of {dataset} lie in this period.", [fault])


def written(draft: Annotation, covered: Covered, now: datetime) -> Annotation:
    """The annotation as it begins: active, or proposed where a second person must agree.

    Raises:
        InvalidInput: no row lies in it, or it reaches into a time that nobody knows yet.
    """
    faults = []
    if not covered.inside:
        faults.append(Fault("/starts_at", "no row of the newest version lies in this period"))
    if draft.ends_at > max(now, covered.last or now) + timedelta(days=1):
        faults.append(Fault("/ends_at", "it lies in the future", "annotate what is there"))
    if faults:
        raise InvalidInput("Nothing can be said of this period.", faults)
    begun = replace(draft, share=covered.share)
    return with_later(begun, covered.together / covered.rows, ())


def with_later(draft: Annotation, together: float, later: Sequence[Annotation]) -> Annotation:
    """The annotation as it begins beside those that were written since its rows were counted.

    Their rows are not looked at again: they count as if none lay in another period.

    Args:
        together: share of the rows that it and all that was active before leave out.
    """
    total = together + fsum(one.share for one in later)
    must_agree = draft.leaves_out and total > SECOND_PERSON_ABOVE
    return replace(draft, state="proposed" if must_agree else "active")


def approved(known: Annotation, by: str, reason: str) -> Annotation:
    """A second person agrees.

    Raises:
        Conflict: it waits for nobody.
        NotPermitted: it is the same person.
    """
    _must_be(known, "proposed")
    if by == known.author:
        raise NotPermitted(
            "Whoever wrote an annotation is not the second pair of eyes.", code="own_annotation"
        )
    return replace(known, state="active", by=by, said=reason, approved_by=by)


def declined(known: Annotation, by: str, reason: str) -> Annotation:
    """A second person does not agree, or the author takes it back.

    Raises:
        Conflict: it waits for nobody.
    """
    _must_be(known, "proposed")
    return replace(known, state="declined", by=by, said=reason)


def lifted(known: Annotation, by: str, reason: str) -> Annotation:
    """The rows are as all others again.

    Raises:
        Conflict: it is not active.
    """
    _must_be(known, "active")
    return replace(known, state="lifted", by=by, said=reason)


def _must_be(known: Annotation, state: State) -> None:
    if known.state != state:
        raise Conflict(f"This annotation is {known.state}.", code="annotation_state")


def same_as(draft: Annotation, others: Sequence[Annotation]) -> Annotation | None:
    """An annotation that says the same already."""
    return next((other for other in others if _words(other) == _words(draft)), None)


def _words(one: Annotation) -> tuple[object, ...]:
    return one.tag, one.column, one.starts_at, one.ends_at, sorted(one.models)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: float | None) -> datetime | None:
    """A moment from a file; None where it has none that can be told."""
    if microseconds is None:
        return None
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None
