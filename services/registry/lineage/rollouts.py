"""Approvals, windows and rollouts, in words."""

from datetime import datetime

from shared.events import (
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGiven,
    ApprovalGranted,
    ApprovalRequested,
    ApprovalWithdrawn,
    BestRequested,
    DeploymentDesired,
    DeploymentRolledBack,
    Event,
    FreezeDeclared,
    FreezeLifted,
    ModelPromoted,
    RequestRefused,
    RollbackRequested,
    RolloutAborted,
    RolloutAdvanced,
    RolloutProposed,
    RolloutSuperseded,
    WindowAwaited,
    WindowOverridden,
)


def of_approval(event: Event) -> str:
    """One sentence; empty for what is none of these."""
    match event:
        case ApprovalRequested():
            return _requested(event)
        case ApprovalGranted(version=version, by=by, comment=comment, missing=0):
            return f"{by} approved version {version}: {comment or 'no comment'}."
        case ApprovalGranted(version=version, by=by, comment=comment, missing=missing):
            said = comment or "no comment"
            return f"{by} approved version {version}, {_more(missing)}: {said}."
        case ApprovalDenied(version=version, by=by, comment=comment):
            return f"{by} denied version {version}: {comment or 'no comment'}."
        case ApprovalWithdrawn(version=version, by=by, comment=comment, missing=missing):
            said = comment or "no comment"
            return f"{by} took back the approval of version {version}, {_more(missing)}: {said}."
        case ApprovalExpired(version=version, granted_by=granted, needed=needed):
            who = f" ({', '.join(granted)})" if granted else ""
            return f"Of {needed} people {len(granted)} approved version {version} in time{who}."
    return _of_request(event)


def _requested(event: ApprovalRequested) -> str:
    who = "a person's approval" if event.needed == 1 else f"the approval of {event.needed} people"
    until = f" until {moment(event.expires_at)}" if event.expires_at else ""
    excluded = f"; {', '.join(event.excluded)} may not" if event.excluded else ""
    return f"Version {event.version} waits for {who}{until}{excluded}."


def _more(missing: int) -> str:
    return f"{'one' if missing == 1 else missing} more must agree"


def _of_request(event: Event) -> str:
    match event:
        case RequestRefused(kind=kind, by=by, code=code, detail=detail):
            return f"What {by} asked for ({kind}) was not done ({code}): {detail}."
        case ApprovalGiven(version=version, by=by, granted=granted):
            verb = "approve" if granted else "deny"
            return f"{by} sent word to {verb} version {version}."
        case RollbackRequested(by=by, reason=reason, to=to):
            target = f"version {to}" if to is not None else "the previous champion"
            return f"{by} asked for {target} back: {reason}."
        case BestRequested(by=by, metric=metric, reason=reason):
            return f"{by} asked for the best version by {metric}: {reason}."
    return ""


def of_window(event: Event) -> str:
    """One sentence; empty for what is none of these."""
    match event:
        case WindowAwaited(version=version, opens_at=opens_at, reason=reason):
            until = moment(opens_at) if opens_at else "something has happened"
            why = f" ({reason})" if reason else ""
            return f"Version {version} waits until changes are allowed{why}, until {until}."
        case WindowOverridden(version=version, by=by, reason=reason):
            return f"{by} broke the glass for version {version}, outside its window: {reason}."
        case FreezeDeclared(models=models, starts_at=start, ends_at=end, by=by, reason=reason):
            what = ", ".join(models) or "all models"
            return f"{by} froze {what} from {moment(start)} to {moment(end)}: {reason}."
        case FreezeLifted(freeze=freeze, by=by, reason=reason):
            return f"{by} lifted the freeze {freeze}: {reason}."
    return ""


def of_rollout(event: Event) -> str:
    """One sentence; empty for what is none of these."""
    match event:
        case RolloutProposed(version=version, strategy=strategy, requested_by=by):
            asked = f", as {by} asked" if by else ""
            return f"Version {version} is on its way to answer ({strategy}){asked}."
        case DeploymentDesired(generation=generation, arms=()):
            return f"From generation {generation} on the baseline rule answers."
        case DeploymentDesired(generation=generation, arms=arms):
            shares = ", ".join(f"version {a.version} {a.role} {a.weight:.0%}" for a in arms)
            return f"From generation {generation} on: {shares}."
        case RolloutAdvanced(version=version, weight=weight, stage="shadow"):
            return f"Version {version} answers {weight:.0%} of the requests unseen."
        case RolloutAdvanced(version=version, weight=weight, stage="experiment"):
            return f"Version {version} answers {weight:.0%} of the requests as an experiment."
        case RolloutAdvanced(version=version, weight=weight):
            return f"Version {version} answers {weight:.0%} of the requests."
    return _of_end(event)


def _of_end(event: Event) -> str:
    match event:
        case ModelPromoted(version=version, previous=previous, approved_by=people):
            place = f"champion in place of version {previous}" if previous else "the first champion"
            agreed = f", approved by {', '.join(people)}" if people else ""
            glass = f"; {event.break_glass} broke the glass" if event.break_glass else ""
            return f"Version {version} became {place}{agreed}{glass}."
        case RolloutAborted(version=version, reason=reason, detail=detail):
            return f"The rollout of version {version} ended ({_ABORTED[reason]}): {detail}."
        case RolloutSuperseded(version=version, by_version=newer):
            return f"The rollout of version {version} gave way to version {newer}."
        case DeploymentRolledBack(from_version=old, to_version=new, by=by, reason=reason):
            target = f"version {new}" if new is not None else "the baseline rule"
            return f"{by} rolled version {old} back to {target}: {reason}."
    return ""


_ABORTED = {
    "worse": "worse",
    "undecided": "undecided in its time",
    "denied": "denied",
    "expired": "its approval expired",
    "refused_by_serving": "refused by serving",
    "stale_verdict": "judged against another champion",
    "cap_reached": "the most that it may touch was reached",
    "champion_changed": "the champion changed meanwhile",
    "experiment_over": "the experiment is over",
}


def moment(at: datetime) -> str:
    """`Mon 21 Dec 2026 08:00 UTC+01:00`, in the zone that the moment carries."""
    return f"{at:%a %d %b %Y %H:%M %Z}"
