"""How counts and labels become evidence about a challenger."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from services.deployer import balance, canary, shadow
from services.deployer.domain import (
    Evidence,
    Labelled,
    Limits,
    Measured,
    Policy,
    Rollout,
    Stage,
    Unseen,
    counts_of,
    rows_of,
)
from services.deployer.shadow import Losses
from shared.events import ArmMeasure

MOST_DROPPED: Final = 0.05
"""A shadow that had no time for more of its requests than this has shown nothing."""
_FEW: Final = 20


def observed(
    rollout: Rollout,
    measure: Measured,
    champion: int,
    limits: Limits,
    *,
    generation: int,
    share: float,
) -> Rollout:
    """The rollout with what one replica counted; the same object where it does not concern it.

    Args:
        champion: the version that it is compared with.
        generation: how requests are answered now.
        share: the challenger's part of what it and the champion get under that generation.
    """
    is_shadow = rollout.stage is Stage.SHADOW
    arm = measure.arm("shadow" if is_shadow else "challenger", rollout.version)
    if arm is None or not rollout.first_generation <= measure.generation <= generation:
        return rollout
    beside = measure.arm("champion", champion)
    objective = rollout.policy.objective
    evidence = canary.gathered(
        rollout.evidence,
        replica=measure.replica,
        sequence=measure.sequence,
        challenger=counts_of(arm, objective),
        champion=counts_of(beside, objective),
        limits=limits,
    )
    if evidence is rollout.evidence:
        return rollout
    if is_shadow:
        evidence = _unseen(evidence, arm)
    else:
        evidence = _seen(evidence, arm, beside, objective)
        if measure.generation == generation:
            met = (arm.new_entities, beside.new_entities if beside else 0)
            evidence = _split(evidence, measure, met, share)
    is_of_step = measure.generation >= rollout.step_generation
    return replace(
        rollout,
        evidence=evidence,
        step_requests=rollout.step_requests + (arm.requests if is_of_step else 0),
    )


def _unseen(evidence: Evidence, arm: ArmMeasure) -> Evidence:
    before = evidence.unseen
    unseen = Unseen(
        requests=before.requests + arm.requests,
        dropped=before.dropped + arm.dropped,
        compared=before.compared + arm.compared,
        disagreed=before.disagreed + arm.disagreed,
    )
    return replace(evidence, unseen=unseen)


def _seen(
    evidence: Evidence, arm: ArmMeasure, beside: ArmMeasure | None, objective: timedelta
) -> Evidence:
    return replace(
        evidence,
        entities=evidence.entities + arm.new_entities,
        exposed=evidence.exposed.plus(rows_of(arm, objective)),
        beside=evidence.beside.plus(rows_of(beside, objective)),
    )


def _split(evidence: Evidence, measure: Measured, met: tuple[int, int], share: float) -> Evidence:
    noted = balance.noted(
        evidence.balance,
        generation=measure.generation,
        replica=measure.replica,
        met=met,
        share=share,
    )
    return replace(evidence, balance=noted)


def labelled(
    losses: Losses,
    labels: Labelled,
    policy: Policy,
    least: tuple[float, float] | None = None,
) -> Losses:
    """The losses with what labels say; those of another metric say nothing.

    Args:
        least: the smallest chances of challenger and champion to answer, where there are others.
    """
    if labels.metric != policy.metric:
        return losses
    cap, margin = policy.loss_cap, policy.rules.loss.margin
    for pair in labels.pairs:
        losses = shadow.with_pair(losses, pair.champion, pair.challenger, cap=cap, margin=margin)
    for single in labels.singles:
        losses = shadow.with_single(
            losses,
            single.entity if single.entity is not None else f"prediction {single.prediction}",
            single.loss,
            on_challenger=single.role == "challenger",
            share=single.weight,
            cap=cap,
            margin=margin,
            least=least,
        )
    return losses


def least_chances(rollout: Rollout) -> tuple[float, float] | None:
    """How seldom an experiment's arm and the champion may answer, whoever else comes and goes."""
    if rollout.stage is not Stage.EXPERIMENT:
        return None
    rules = rollout.rules.experiment
    alone = min(rules.share, 1 - rules.share)
    return rules.share, max(alone, 1 - rules.arms * rules.share)


def is_void(rollout: Rollout) -> bool:
    """Whether the shadow dropped so much that what it answered shows nothing."""
    unseen = rollout.evidence.unseen
    asked = unseen.requests + unseen.dropped
    return asked >= _FEW and unseen.dropped > MOST_DROPPED * asked


def cap_reached(rollout: Rollout) -> str:
    """Which cap of exposure is reached, for people; empty while none is."""
    caps, evidence = rollout.rules.exposure, rollout.evidence
    found = (
        ("requests", caps.requests, float(evidence.exposed.requests)),
        ("entities", caps.entities, float(evidence.entities)),
        ("errors above what the champion would have made", caps.harm, _excess(evidence)),
    )
    for name, cap, value in found:
        if cap is not None and value >= cap:
            return f"{value:.6g} {name}; the most allowed before a decision is {cap}"
    return ""


def _excess(evidence: Evidence) -> float:
    ours, theirs = evidence.exposed, evidence.beside
    usual = theirs.errors / theirs.requests if theirs.requests else 0.0
    return ours.errors - ours.requests * usual
