"""Small real things for tests of the deployer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.deployer.domain import (
    Change,
    Due,
    Endpoint,
    Happening,
    Judged,
    Labelled,
    Limits,
    Measured,
    Policy,
)
from services.deployer.permission import Surroundings
from services.deployer.rollout import NOTHING_AROUND, step
from services.deployer.routing import route_of
from shared.events import ArmMeasure, Digest, Event, ModelName, PairedLoss
from shared.ids import derived
from shared.latency import CELLS
from shared.spec_rollout import Rollout as Rules

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
"""A Wednesday."""
LIMITS = Limits()


def a_policy(**changes: Any) -> Policy:
    """Two steps of ten minutes; `objective`, `metric` and `loss_cap` are no words of a rollout."""
    others = {k: changes.pop(k) for k in ("objective", "metric", "loss_cap") if k in changes}
    given: dict[str, Any] = {
        "strategy": "canary",
        "steps": (0.1, 0.5),
        "step_for": "10m",
        "minimum_requests": 100,
        "give_up_after": "1d",
        "probation": "1h",
    }
    return Policy(rules=Rules.model_validate(given | changes), **others)


def an_id(*parts: object) -> UUID:
    return derived(None, *parts)


def a_verdict(version: int, champion: int | None = None, **changes: Any) -> Judged:
    given: dict[str, Any] = {
        "evaluation": an_id("evaluation", version, champion),
        "correlation": an_id("cascade", version),
        "version": version,
        "manifest": Digest(f"{version:064x}"),
        "dataset_version": version,
        "accepted": True,
        "champion": champion,
        "policy": a_policy(),
        "rule": {"rule": "constant", "value": float(version)},
        "owner": "water",
        "authors": {"spec": "wanda"},
    }
    return Judged(**given | changes)


def an_arm(role: str, version: int, requests: int, errors: int = 0, **more: Any) -> ArmMeasure:
    """`slow` of the requests took longer than any objective."""
    counts, slow = [0] * CELLS, more.pop("slow", 0)
    counts[0], counts[-1] = requests - slow, slow
    return ArmMeasure(
        version=version,
        role=role,
        requests=requests,
        errors=errors,
        latency_counts=tuple(counts),
        **more,
    )


class Story:
    """One endpoint, a clock that moves, and everything that was said."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(model=ModelName("pump"))
        self.now = NOON
        self.around: Surroundings = NOTHING_AROUND
        self.said: list[Event] = []
        self.sequence = 0

    def hear(self, happened: Happening) -> Change:
        change = self.peek(happened)
        self.endpoint = change.endpoint
        self.said += change.events
        return change

    def wait(self, span: timedelta) -> Change:
        """Let time pass and the timer run out."""
        self.now += span
        return self.hear(Due(seq=self.endpoint.seq))

    def arms(self, *arms: ArmMeasure, replica: str = "0") -> Change:
        """One replica counted this under the present generation."""
        self.sequence += 1
        return self.hear(
            Measured(
                replica=replica,
                sequence=self.sequence,
                generation=self.endpoint.generation,
                arms=arms,
            )
        )

    def a_measure(
        self,
        canary: tuple[int, int] = (100, 0),
        champion: tuple[int, int] = (900, 0),
        *,
        slow: tuple[int, int] = (0, 0),
    ) -> Measured:
        """Requests and errors of the challenger on trial, if there is one, and of the champion."""
        self.sequence += 1
        route = route_of(self.endpoint)
        others = [arm for arm in route.arms if arm.role != "champion"] if route else []
        arms = [
            an_arm(arm.role, arm.version, canary[0], canary[1], slow=slow[0]) for arm in others[:1]
        ]
        if self.endpoint.champion is not None:
            version = self.endpoint.champion.version
            arms.append(an_arm("champion", version, champion[0], champion[1], slow=slow[1]))
        return Measured(
            replica="0",
            sequence=self.sequence,
            generation=self.endpoint.generation,
            arms=tuple(arms),
        )

    def measure(
        self,
        canary: tuple[int, int] = (100, 0),
        champion: tuple[int, int] = (900, 0),
        *,
        slow: tuple[int, int] = (0, 0),
    ) -> Change:
        return self.hear(self.a_measure(canary, champion, slow=slow))

    def pairs(
        self, challenger: int, *losses: tuple[float, float], metric: str = "mae", **more: Any
    ) -> Change:
        """Losses of champion and challenger on the same requests."""
        return self.hear(
            Labelled(
                champion=more.pop("champion", self.endpoint.champion_version or 0),
                challenger=challenger,
                metric=metric,
                pairs=tuple(
                    PairedLoss(prediction=f"p{row}", champion=one, challenger=other)
                    for row, (one, other) in enumerate(losses)
                ),
            )
        )

    def with_champion(self, *versions: int, **policy: Any) -> Story:
        """These versions were promoted one after the other, without canary."""
        champion = self.endpoint.champion_version
        for version in versions:
            self.hear(a_verdict(version, champion, policy=a_policy(strategy="direct", **policy)))
            champion = version
        return self

    def types(self) -> list[str]:
        return [type(event).__name__ for event in self.said]

    def peek(self, happened: Happening) -> Change:
        """What would follow, without its having happened."""
        return step(self.endpoint, happened, self.now, LIMITS, self.around)
