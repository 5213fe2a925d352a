"""Who allowed a rollout, and when changes are allowed: decided here, wherever they come in.

An approval is bound to one artifact and one verdict, is used once, and counts only while the people
who gave it are others than those whose work it is; nobody may set that aside, an admin neither.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, Protocol
from uuid import UUID

from shared.calendar_rules import Opening, Period, read_earliest, read_freeze
from shared.calendar_rules import opening as opening_of
from shared.errors import Conflict, NotPermitted
from shared.events import Digest
from shared.spec_rollout import Approval
from shared.windows import read_window

Decision = Literal["grant", "deny", "withdraw"]

_WORK: Final = {
    "spec": "wrote the specification",
    "data": "published the data",
    "training": "asked for the training",
    "definition": "defined the model",
    "request": "asked for this version",
}
"""What each kind of author did, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One person's approval.

    Attributes:
        by: the person, however many keys that person has.
        request: the signed request on the bus, where it came that way.
    """

    by: str
    at: datetime
    request: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """What people said so far about one artifact after one verdict.

    Attributes:
        manifest: digest of the artifact that they look at.
        evaluation: the verdict that they look at.
    """

    manifest: Digest
    evaluation: UUID
    asked_at: datetime
    grants: tuple[Grant, ...] = ()

    @property
    def granted_by(self) -> tuple[str, ...]:
        """Who approved, in order."""
        return tuple(grant.by for grant in self.grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFreeze:
    """A freeze that an operator declared for a model, or for all."""

    freeze: str
    starts_at: datetime
    ends_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a decision about one model needs besides its endpoint.

    Attributes:
        freezes: declared ones that concern this model and are not over.
        published: when each dataset had its newest version.
        definer: who defined the model last.
    """

    freezes: tuple[DeclaredFreeze, ...] = ()
    published: Mapping[str, datetime] = field(default_factory=dict)
    definer: str = ""

    def authors(self, said: Mapping[str, str], requested_by: str = "") -> Mapping[str, str]:
        """Everybody whose work a version is, by what they did.

        Args:
            said: authors in the verdict.
            requested_by: who asked for this version to be rolled out, if anybody did.
        """
        known = {**said, "definition": self.definer, "request": requested_by}
        return {work: name for work, name in known.items() if name}


class Calendar(Protocol):
    """The part of a rollout policy that says when changes are allowed."""

    @property
    def window(self) -> Sequence[str]:
        """As in `shared.spec_rollout.Rollout`."""

    @property
    def freeze(self) -> Sequence[str]:
        """As in `shared.spec_rollout.Rollout`."""

    @property
    def not_before(self) -> str | None:
        """As in `shared.spec_rollout.Rollout`."""


# --- people ---------------------------------------------------------------------------------------


def decide(
    approvals: Approvals,
    policy: Approval,
    authors: Mapping[str, str],
    *,
    decision: Decision,
    by: str,
    now: datetime,
    manifest: Digest | None = None,
    evaluation: UUID | None = None,
    request: UUID | None = None,
) -> Approvals:
    """What holds after a person granted, denied, or took a grant back.

    A denial changes nothing here: it ends the rollout. The first broken rule is reported, in this
    order: expired, another artifact or verdict, own work, twice or never.

    Args:
        authors: by what they did; with four eyes none of them may grant.
        manifest, evaluation: what the person looked at, where that was said.

    Raises:
        NotPermitted: it is the person's own work (`self_approval`).
        Conflict: too late (`approval_expired`), about another artifact (`other_artifact`) or
            verdict (`other_verdict`), given before (`already_approved`), or never given
            (`not_approved`).
    """
    if now >= expires_at(approvals, policy):
        raise Conflict("The time to decide is over; this rollout ends.", code="approval_expired")
    if manifest is not None and manifest != approvals.manifest:
        raise Conflict(
            f"This rollout is about artifact {approvals.manifest[:12]}, not {manifest[:12]}; "
            "look at it again.",
            code="other_artifact",
        )
    if evaluation is not None and evaluation != approvals.evaluation:
        raise Conflict(
            "The version has been judged again since; look at the new verdict.",
            code="other_verdict",
        )
    if decision == "grant":
        return _granted(approvals, policy, authors, Grant(by=by, at=now, request=request))
    return _withdrawn(approvals, by) if decision == "withdraw" else approvals


def _granted(
    approvals: Approvals, policy: Approval, authors: Mapping[str, str], grant: Grant
) -> Approvals:
    if grant.by in excluded(policy, authors):
        raise NotPermitted(own_work(grant.by, authors), code="self_approval")
    if grant.by in approvals.granted_by:
        raise Conflict(
            "You have approved this already; another person has to.", code="already_approved"
        )
    return replace(approvals, grants=(*approvals.grants, grant))


def _withdrawn(approvals: Approvals, by: str) -> Approvals:
    kept = tuple(grant for grant in approvals.grants if grant.by != by)
    if kept == approvals.grants:
        raise Conflict("You have not approved this, so nothing is withdrawn.", code="not_approved")
    return replace(approvals, grants=kept)


def own_work(by: str, authors: Mapping[str, str]) -> str:
    """Why this person may not approve, and who else may not."""
    did = " and ".join(_WORK.get(work, work) for work, name in authors.items() if name == by)
    names = ", ".join(sorted(set(authors.values())))
    return (
        f"You {did}, so somebody else has to approve: "
        f"anybody with the role approver for this model, except {names}."
    )


def excluded(policy: Approval, authors: Mapping[str, str]) -> tuple[str, ...]:
    """Who may not approve, in the order of the alphabet."""
    return tuple(sorted(set(authors.values()))) if policy.four_eyes else ()


def missing(approvals: Approvals, policy: Approval, authors: Mapping[str, str]) -> int:
    """How many people still have to approve.

    A person who has become an author since counts no longer.
    """
    counted = set(approvals.granted_by).difference(excluded(policy, authors))
    return max(0, policy.needed - len(counted))


def is_approved(approvals: Approvals, policy: Approval, authors: Mapping[str, str]) -> bool:
    """Whether enough people allowed exactly this."""
    return missing(approvals, policy, authors) == 0


def expires_at(approvals: Approvals, policy: Approval) -> datetime:
    """When the time to decide is over."""
    return approvals.asked_at + policy.expires


# --- times ----------------------------------------------------------------------------------------


def opening(
    calendar: Calendar,
    declared: Collection[DeclaredFreeze],
    published: Mapping[str, datetime],
    accepted_at: datetime,
    now: datetime,
) -> Opening:
    """The next moment, from now on, when a rollout may begin, go on or be completed.

    Args:
        declared: freezes that concern this model.
        accepted_at: when the version was taken up; `not_before` counts from it.

    Returns:
        `opens_at` equal to `now` while changes are allowed; None while that depends on an event.
    """
    return opening_of(
        [read_window(text) for text in calendar.window],
        [*map(read_freeze, calendar.freeze), *map(_period, declared)],
        read_earliest(calendar.not_before) if calendar.not_before else None,
        published,
        accepted_at,
        now,
    )


def _period(freeze: DeclaredFreeze) -> Period:
    return Period(
        starts_at=freeze.starts_at,
        ends_at=freeze.ends_at,
        why=f"changes are frozen ({freeze.freeze}): {freeze.reason}",
    )
