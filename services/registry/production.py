"""What answered for a model at a moment, how it came to, and on whose word and which evidence.

Everything is taken from facts: the crowning before the moment, the one after it, the story of the
rollout that led to it, and the verdict and the registration that it names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeVar, cast
from uuid import UUID

from shared.events import (
    ApprovalGranted,
    ApprovalRequested,
    DeploymentDesired,
    DeploymentRolledBack,
    Digest,
    EvaluationCompleted,
    Event,
    Heard,
    ModelPromoted,
    ModelRegistered,
    RolloutAdvanced,
    RolloutProposed,
    WindowAwaited,
    WindowOverridden,
    as_kind,
)

E = TypeVar("E", bound=Event)
Crowning = ModelPromoted | DeploymentRolledBack
Answering = Literal["champion", "baseline", "nothing"]
_STEPS: Final = (
    RolloutProposed,
    ApprovalRequested,
    ApprovalGranted,
    WindowAwaited,
    WindowOverridden,
    RolloutAdvanced,
    ModelPromoted,
)
"""What a rollout's story is made of, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """One person's word for exactly this artifact."""

    by: str
    at: datetime | None
    comment: str
    event_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """Whose work it is and what started it; nobody is named where nobody asked."""

    authors: Mapping[str, str]
    trigger: str
    requested_by: str
    dataset: str
    dataset_version: int
    dataset_digest: Digest | None
    code_digest: Digest | None
    registered: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """Somebody stepped in: a window was overridden, or an earlier version brought back."""

    by: str
    at: datetime
    reason: str
    event_id: UUID
    from_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The facts that the answer is made of; None where the log has none.

    Attributes:
        crowned: the last crowning at or before the moment.
        ended: the first one after it.
        promoted: the promotion of the version that answers: `crowned`, unless that is a rollback.
        rollout: every fact of that promotion's rollout, in order.
        verdict, registered: what the promotion names.
        desired: the last desired state at or before the moment, where nothing was crowned.
    """

    crowned: Heard[Crowning] | None = None
    ended: Heard[Crowning] | None = None
    promoted: Heard[ModelPromoted] | None = None
    rollout: Sequence[Heard[Event]] = ()
    verdict: Heard[EvaluationCompleted] | None = None
    registered: Heard[ModelRegistered] | None = None
    desired: Heard[DeploymentDesired] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """What answered at a moment.

    Attributes:
        since, until: the reign that the moment lies in; `until` is None while it lasts.
        came_by: the strategy of the rollout, or `rollback`.
        steps: the rollout's facts, in order.
        verdict: with its gates, intervals and digests of evidence.
    """

    model: str
    at: datetime
    answering: Answering
    sentence: str
    version: int | None = None
    manifest: Digest | None = None
    generation: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    came_by: str = ""
    crowned: UUID | None = None
    steps: tuple[Heard[Event], ...] = ()
    proposed: Proposed | None = None
    approval: str = ""
    approved: tuple[Approved, ...] = ()
    excluded: tuple[str, ...] = ()
    verdict: Heard[EvaluationCompleted] | None = None
    break_glass: Intervention | None = None
    rollback: Intervention | None = None


def production(model: str, at: datetime, known: Known) -> Production:
    """The answer for one model and one moment."""
    crowned = known.crowned
    if crowned is None or _version(crowned.event) is None:
        return _without_champion(model, at, known)
    version, promoted = _version(crowned.event), known.promoted
    proposal = _first(known.rollout, RolloutProposed)
    asked = _first(known.rollout, ApprovalRequested)
    return Production(
        model=model,
        at=at,
        answering="champion",
        sentence=_champion_sentence(version, crowned),
        version=version,
        manifest=_manifest(crowned.event),
        generation=crowned.event.generation,
        since=crowned.time,
        until=known.ended.time if known.ended else None,
        came_by=_came_by(crowned.event, proposal),
        crowned=crowned.id,
        steps=tuple(heard for heard in known.rollout if isinstance(heard.event, _STEPS)),
        proposed=_proposed(promoted, known.registered, proposal),
        approval=proposal.event.approval if proposal else "",
        approved=_approved(promoted, known.rollout),
        excluded=asked.event.excluded if asked else (),
        verdict=known.verdict,
        break_glass=_break_glass(promoted, known.rollout),
        rollback=_rollback(crowned),
    )


def _without_champion(model: str, at: datetime, known: Known) -> Production:
    """The baseline rule answers after a rollback to it, or before any version was accepted."""
    began: Heard[Crowning] | Heard[DeploymentDesired] | None = known.crowned or known.desired
    rollback = _rollback(known.crowned) if known.crowned else None
    if began is None or (isinstance(began.event, DeploymentDesired) and not began.event.ladder):
        answering: Answering = "nothing"
        sentence = "Nothing answered: no version had been promoted and no rule was deployed."
    else:
        answering = "baseline"
        why = "no version was champion yet"
        if rollback:
            why = f"{rollback.by} had rolled back to it: {rollback.reason}"
        sentence = f"Nothing answered but the baseline rule; {why}."
    return Production(
        model=model,
        at=at,
        answering=answering,
        sentence=sentence,
        generation=began.event.generation if began else None,
        since=began.time if began else None,
        until=known.ended.time if known.ended else None,
        came_by="rollback" if rollback else "",
        crowned=known.crowned.id if known.crowned else None,
        rollback=rollback,
    )


def _version(event: Crowning) -> int | None:
    return event.version if isinstance(event, ModelPromoted) else event.to_version


def _manifest(event: Crowning) -> Digest | None:
    return event.manifest if isinstance(event, ModelPromoted) else event.to_manifest


def _champion_sentence(version: int | None, crowned: Heard[Crowning]) -> str:
    event = crowned.event
    if isinstance(event, DeploymentRolledBack):
        return f"Version {version} answered, after {event.by} rolled back to it: {event.reason}."
    people = ", ".join(event.approved_by)
    agreed = f", approved by {people}" if people else " with nobody's approval asked for"
    return f"Version {version} answered, promoted{agreed}."


def _came_by(event: Crowning, proposal: Heard[RolloutProposed] | None) -> str:
    if isinstance(event, DeploymentRolledBack):
        return "rollback"
    return proposal.event.strategy if proposal else ""


def _proposed(
    promoted: Heard[ModelPromoted] | None,
    registered: Heard[ModelRegistered] | None,
    proposal: Heard[RolloutProposed] | None,
) -> Proposed | None:
    if registered is None:
        return None
    version = registered.event
    authors = promoted.event.authors if promoted and promoted.event.authors else version.authors
    return Proposed(
        authors=dict(authors),
        trigger=version.trigger,
        requested_by=proposal.event.requested_by if proposal else "",
        dataset=version.dataset,
        dataset_version=version.dataset_version,
        dataset_digest=version.dataset_digest,
        code_digest=version.code_digest,
        registered=registered.id,
    )


def _approved(
    promoted: Heard[ModelPromoted] | None, rollout: Sequence[Heard[Event]]
) -> tuple[Approved, ...]:
    """The people whom the promotion itself names; what they wrote, from their own words.

    A word on the topic that the promotion does not count is nobody's approval.
    """
    if promoted is None:
        return ()
    words: dict[str, Heard[ApprovalGranted]] = {}
    for heard in rollout:
        event = heard.event
        if isinstance(event, ApprovalGranted) and event.manifest == promoted.event.manifest:
            words.setdefault(event.by, cast("Heard[ApprovalGranted]", heard))
    return tuple(_word(person, words.get(person)) for person in promoted.event.approved_by)


def _word(person: str, heard: Heard[ApprovalGranted] | None) -> Approved:
    return Approved(
        by=person,
        at=heard.time if heard else None,
        comment=heard.event.comment if heard else "",
        event_id=heard.id if heard else None,
    )


def _break_glass(
    promoted: Heard[ModelPromoted] | None, rollout: Sequence[Heard[Event]]
) -> Intervention | None:
    """What the promotion itself says was done; the reason is in the fact of the override."""
    if promoted is None or not promoted.event.break_glass:
        return None
    heard = _first(rollout, WindowOverridden)
    if heard is None:
        who, when = promoted.event.break_glass, promoted.time
        return Intervention(by=who, at=when, reason="", event_id=promoted.id)
    return Intervention(
        by=heard.event.by, at=heard.time, reason=heard.event.reason, event_id=heard.id
    )


def _first(facts: Sequence[Heard[Event]], kind: type[E]) -> Heard[E] | None:
    found = (as_kind(heard, kind) for heard in facts)
    return next((heard for heard in found if heard is not None), None)


def _rollback(crowned: Heard[Crowning]) -> Intervention | None:
    event = crowned.event
    if not isinstance(event, DeploymentRolledBack):
        return None
    return Intervention(
        by=event.by,
        at=crowned.time,
        reason=event.reason,
        event_id=crowned.id,
        from_version=event.from_version,
    )
