"""How requests are answered in each state, and when a state is to be looked at again."""

from datetime import datetime

from services.deployer.domain import Champion, Endpoint, Limits, Rollout, Route, Stage
from shared.events import Arm, Rung


def route_of(endpoint: Endpoint) -> Route | None:
    """How requests are to be answered; None while nothing can answer."""
    champion = endpoint.champion
    if champion is None:
        if endpoint.rule is None:
            return None
        return Route(arms=(), ladder=(Rung(kind="baseline", rule=endpoint.rule),), probation=False)
    return Route(
        arms=_arms(champion, endpoint.rollout),
        ladder=_ladder(champion, endpoint.previous),
        probation=endpoint.probation_until is not None,
    )


def _arms(champion: Champion, rollout: Rollout | None) -> tuple[Arm, ...]:
    weight = rollout.weight if rollout else 0.0
    first = Arm(
        role="champion", version=champion.version, manifest=champion.manifest, weight=1 - weight
    )
    if rollout is None or not weight:
        return (first,)
    return first, Arm(
        role="challenger", version=rollout.version, manifest=rollout.manifest, weight=weight
    )


def _ladder(champion: Champion, previous: Champion | None) -> tuple[Rung, ...]:
    rungs = [Rung(kind="champion", version=champion.version, manifest=champion.manifest)]
    if previous:
        rungs.append(Rung(kind="previous", version=previous.version, manifest=previous.manifest))
    rungs.append(Rung(kind="baseline", rule=champion.rule))
    return tuple(rungs)


def due_at(endpoint: Endpoint, now: datetime, limits: Limits) -> datetime | None:
    """When the endpoint is to be looked at although nothing happens."""
    moments = []
    if endpoint.probation_until:
        moments.append(endpoint.probation_until)
    if waiting := endpoint.awaiting:
        moments.append(waiting.at + waiting.policy.give_up_after)
    if rollout := endpoint.rollout:
        moments.append(_rollout_due_at(rollout, now, limits))
    return min(moments, default=None)


def _rollout_due_at(rollout: Rollout, now: datetime, limits: Limits) -> datetime:
    if rollout.stage is Stage.AWAITING_APPROVAL:
        return rollout.at + limits.approval_expires
    if rollout.held_until is not None and rollout.held_until > now:
        return rollout.held_until
    step_over_at = rollout.at + rollout.policy.step_for
    # Once the step has lasted long enough, only a measure or the end of patience changes anything.
    return gives_up_at(rollout) if step_over_at <= now else min(step_over_at, gives_up_at(rollout))


def gives_up_at(rollout: Rollout) -> datetime:
    """When a canary without a decision ends."""
    return (rollout.canary_at or rollout.at) + rollout.policy.give_up_after
