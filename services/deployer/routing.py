"""How requests are answered in each state, and when a state is to be looked at again."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from services.deployer import experiment
from services.deployer.domain import Champion, Endpoint, Rollout, Route, Stage
from services.deployer.permission import expires_at
from shared.events import Arm, Rung

LOOK_AGAIN: Final = timedelta(hours=1)
"""What waits for an event is looked at so often, should the event have been missed."""


def route_of(endpoint: Endpoint) -> Route | None:
    """How requests are to be answered; None while nothing can answer."""
    champion = endpoint.champion
    if champion is None:
        if endpoint.rule is None:
            return None
        rung = Rung(kind="baseline", rule=endpoint.rule)
        return Route(arms=(), ladder=(rung,), probation=False, owner=endpoint.owner)
    if endpoint.fallback is not None and not _on_trial(endpoint):
        return _fallen_back(endpoint, champion)
    return Route(
        arms=(*_seen(champion, endpoint.active), *_unseen(endpoint)),
        ladder=_ladder(champion, endpoint.previous),
        probation=endpoint.probation is not None,
        owner=endpoint.owner,
    )


def _on_trial(endpoint: Endpoint) -> bool:
    """Whether a candidate is compared with the champion, which must answer then."""
    return any(one.weight or one.shadow_share for one in endpoint.active)


def _fallen_back(endpoint: Endpoint, champion: Champion) -> Route:
    """The rule answers; the champion is asked about every row, and nobody sees what it says.

    What was shown to do better is the rule, so it stands first: nothing is known of the previous
    champion, which answers only where the rule cannot.
    """
    unseen = Arm(role="shadow", version=champion.version, manifest=champion.manifest, weight=1.0)
    first, *others = _ladder(champion, endpoint.previous)
    *between, rule = others
    return Route(
        arms=(unseen,),
        ladder=(rule, *between, first),
        probation=endpoint.probation is not None,
        owner=endpoint.owner,
    )


def _seen(champion: Champion, active: Iterable[Rollout]) -> tuple[Arm, ...]:
    """The champion and its challengers, oldest first: their order keeps entities where they are."""
    challengers = tuple(
        Arm(role="challenger", version=one.version, manifest=one.manifest, weight=one.weight)
        for one in active
        if one.weight
    )
    rest = 1 - sum(arm.weight for arm in challengers)
    first = Arm(role="champion", version=champion.version, manifest=champion.manifest, weight=rest)
    return (first, *challengers)


def _unseen(endpoint: Endpoint) -> tuple[Arm, ...]:
    """A candidate before its canary, and the champion before a young one."""
    rollout, probation, previous = endpoint.rollout, endpoint.probation, endpoint.previous
    found: list[tuple[Rollout | Champion, float]] = []
    if rollout is not None and rollout.shadow_share:
        found.append((rollout, rollout.shadow_share))
    answering = {one.version for one in endpoint.active if one.weight or one.shadow_share}
    if probation is None or not probation.has_shadow or previous is None:
        return _shadows(found)
    if previous.version not in answering:
        found.append((previous, probation.policy.rules.shadow.share))
    return _shadows(found)


def _shadows(found: Iterable[tuple[Rollout | Champion, float]]) -> tuple[Arm, ...]:
    return tuple(
        Arm(role="shadow", version=one.version, manifest=one.manifest, weight=share)
        for one, share in found
    )


def share_of(endpoint: Endpoint, rollout: Rollout) -> float:
    """A challenger's part of the requests that it and the champion get now."""
    rest = 1 - sum(one.weight for one in endpoint.active)
    return rollout.weight / (rollout.weight + rest) if rollout.weight else 0.0


def _ladder(champion: Champion, previous: Champion | None) -> tuple[Rung, ...]:
    rungs = [Rung(kind="champion", version=champion.version, manifest=champion.manifest)]
    if previous:
        rungs.append(Rung(kind="previous", version=previous.version, manifest=previous.manifest))
    rungs.append(Rung(kind="baseline", rule=champion.rule))
    return tuple(rungs)


def due_at(endpoint: Endpoint, now: datetime) -> datetime | None:
    """When the endpoint is to be looked at although nothing happens."""
    moments = [_rollout_due_at(rollout, now) for rollout in endpoint.active]
    if endpoint.probation:
        moments.append(endpoint.probation.until)
    if waiting := endpoint.awaiting:
        moments.append(waiting.at + waiting.rules.give_up_after)
    return min(moments, default=None)


def _rollout_due_at(rollout: Rollout, now: datetime) -> datetime:
    if rollout.stage is Stage.AWAITING_APPROVAL and rollout.approvals is not None:
        return expires_at(rollout.approvals, rollout.rules.approval)
    if rollout.is_held or rollout.stage is Stage.AWAITING_WINDOW:
        return rollout.held_until or now + LOOK_AGAIN
    if rollout.stage is Stage.EXPERIMENT:
        return experiment.ends_at(rollout)
    step_over_at = rollout.at + step_for(rollout)
    # Once the step has lasted long enough, only a measure or the end of patience changes anything.
    return gives_up_at(rollout) if step_over_at <= now else min(step_over_at, gives_up_at(rollout))


def step_for(rollout: Rollout) -> timedelta:
    """Least time in this step."""
    rules = rollout.rules
    return rules.shadow.run_for if rollout.stage is Stage.SHADOW else rules.step_for


def gives_up_at(rollout: Rollout) -> datetime:
    """When a shadow or a canary without a decision ends."""
    return (rollout.begun_at or rollout.at) + rollout.rules.give_up_after
