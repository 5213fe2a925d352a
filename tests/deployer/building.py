"""Small real things for tests of the deployer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.deployer.domain import (
    Change,
    Counts,
    Due,
    Endpoint,
    Happening,
    Judged,
    Limits,
    Measured,
    Policy,
)
from services.deployer.rollout import step
from shared.events import Digest, Event, ModelName
from shared.ids import derived

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
"""A Wednesday."""
LIMITS = Limits()


def a_policy(**changes: Any) -> Policy:
    given: dict[str, Any] = {
        "strategy": "canary",
        "steps": (0.1, 0.5),
        "step_for": timedelta(minutes=10),
        "minimum_requests": 100,
        "give_up_after": timedelta(days=1),
        "window": None,
        "approval": "auto",
        "probation": timedelta(hours=1),
        "objective": timedelta(milliseconds=100),
    }
    return Policy(**given | changes)


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
    }
    return Judged(**given | changes)


class Story:
    """One endpoint, a clock that moves, and everything that was said."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(model=ModelName("pump"))
        self.now = NOON
        self.said: list[Event] = []
        self.sequence = 0

    def hear(self, happened: Happening) -> Change:
        change = step(self.endpoint, happened, self.now, LIMITS)
        self.endpoint = change.endpoint
        self.said += change.events
        return change

    def wait(self, span: timedelta) -> Change:
        """Let time pass and the timer run out."""
        self.now += span
        return self.hear(Due(seq=self.endpoint.seq))

    def a_measure(
        self,
        canary: tuple[int, int] = (100, 0),
        champion: tuple[int, int] = (900, 0),
        *,
        slow: tuple[int, int] = (0, 0),
    ) -> Measured:
        """Requests and errors per arm, as one replica counted them."""
        self.sequence += 1
        rollout = self.endpoint.rollout
        return Measured(
            replica="0",
            sequence=self.sequence,
            generation=self.endpoint.generation,
            version=rollout.version if rollout else 0,
            canary=Counts(requests=canary[0], errors=canary[1], slow=slow[0]),
            champion=Counts(requests=champion[0], errors=champion[1], slow=slow[1]),
        )

    def measure(
        self,
        canary: tuple[int, int] = (100, 0),
        champion: tuple[int, int] = (900, 0),
        *,
        slow: tuple[int, int] = (0, 0),
    ) -> Change:
        return self.hear(self.a_measure(canary, champion, slow=slow))

    def with_champion(self, *versions: int) -> Story:
        """These versions were promoted one after the other, without canary."""
        champion = self.endpoint.champion_version
        for version in versions:
            self.hear(a_verdict(version, champion, policy=a_policy(strategy="direct")))
            champion = version
        return self

    def types(self) -> list[str]:
        return [type(event).__name__ for event in self.said]

    def peek(self, happened: Happening) -> Change:
        """What would follow, without its having happened."""
        return step(self.endpoint, happened, self.now, LIMITS)
