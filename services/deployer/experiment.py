"""Challengers that stay: who makes room for a new one, and how one ends."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from services.deployer.canary import Weighed
from services.deployer.domain import Rollout


def making_room(present: Sequence[Rollout], coming: Rollout) -> tuple[Rollout, ...]:
    """The oldest ones, so many that the new one fits beside the rest.

    There are at most `arms` of them, and the champion keeps at least as much as the new one gets,
    unless that is alone.
    """
    rules = coming.rules.experiment
    going = 0
    while going < len(present):
        staying = present[going:]
        taken = sum(one.weight for one in staying) + rules.share
        if len(staying) < rules.arms and 1 - taken >= rules.share - 1e-9:
            break
        going += 1
    return tuple(present[:going])


def ends_at(rollout: Rollout) -> datetime:
    """When it has stayed as long as was asked for."""
    return (rollout.begun_at or rollout.at) + rollout.rules.experiment.run_for


def verdict(
    rollout: Rollout, weighed: Weighed, now: datetime, *, split_holds: bool
) -> Literal["worse", "go_on", "promote", "over"]:
    """What is to become of it, by its own evidence alone."""
    if weighed.abort:
        return "worse"
    if now < ends_at(rollout):
        return "go_on"
    wanted = rollout.rules.experiment.then == "promote_if_better"
    return "promote" if wanted and weighed.better and weighed.advance and split_holds else "over"
