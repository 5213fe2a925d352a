"""The state machine under everything at once: repeats, lost order, late timers, hasty people."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.deployer.domain import (
    Change,
    Decided,
    Degraded,
    Due,
    Happening,
    RollbackAsked,
    Unusable,
    rollout_id,
)
from services.deployer.routing import due_at, route_of
from shared.errors import Conflict
from shared.events import (
    DeploymentDesired,
    DeploymentRolledBack,
    ModelPromoted,
    RolloutAborted,
    RolloutSuperseded,
)
from tests.deployer.building import Story, a_policy, a_verdict

VERSIONS = st.integers(1, 6)


class Endpoints(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.heard: list[Happening] = []
        self.accepted: set[tuple[int, int | None]] = set()
        self.ended: set[int] = set()
        self.promoted: list[int] = []

    def hear(self, happened: Happening) -> None:
        before = self.story.endpoint
        self.heard.append(happened)
        with suppress(Conflict):
            self.check(before.champion_version, self.story.hear(happened))
        assert self.story.endpoint.generation >= before.generation
        assert self.story.endpoint.fence >= before.fence

    def check(self, champion: int | None, change: Change) -> None:
        desired = [e for e in change.events if isinstance(e, DeploymentDesired)]
        assert len(desired) <= 1
        returned = [e for e in change.events if isinstance(e, DeploymentRolledBack)]
        for event in change.events:
            if isinstance(event, ModelPromoted):
                assert (event.version, champion) in self.accepted, "no verdict against this one"
                assert event.version > max(self.promoted, default=0), "an older one took over"
                assert event.generation == desired[0].generation
                self.promoted.append(event.version)
            if isinstance(event, ModelPromoted | RolloutAborted | RolloutSuperseded):
                assert event.version not in self.ended, "two outcomes of one version"
                self.ended.add(event.version)
        if change.endpoint.champion_version != champion:
            assert returned or any(isinstance(e, ModelPromoted) for e in change.events)

    @rule(
        version=VERSIONS,
        accepted=st.booleans(),
        stale=st.booleans(),
        approval=st.sampled_from(["auto", "auto", "one"]),
        strategy=st.sampled_from(["canary", "direct", "shadow", "shadow_canary", "experiment"]),
        window=st.sampled_from([None, None, "Mon-Fri 08:00-16:00 Europe/Berlin"]),
    )
    def judge(self, version: int, accepted: bool, stale: bool, **policy: Any) -> None:
        champion = None if stale else self.story.endpoint.champion_version
        verdict = a_verdict(version, champion, accepted=accepted, policy=a_policy(**policy))
        if accepted:
            self.accepted.add((version, champion))
        self.hear(verdict)

    @rule(requests=st.integers(0, 400), errors=st.integers(0, 40), slow=st.integers(0, 5))
    def measure(self, requests: int, errors: int, slow: int) -> None:
        self.hear(
            self.story.a_measure(
                canary=(requests, min(errors, requests)),
                slow=(min(slow, requests), 5),
            )
        )

    @rule(hours=st.floats(0, 30))
    def wait(self, hours: float) -> None:
        self.story.now += timedelta(hours=hours)
        self.hear(Due(seq=self.story.endpoint.seq))

    @rule(data=st.data())
    def repeat_something_old(self, data: st.DataObject) -> None:
        if self.heard:
            self.hear(data.draw(st.sampled_from(self.heard)))

    @rule(version=VERSIONS, granted=st.booleans())
    def decide(self, version: int, granted: bool) -> None:
        rollout = rollout_id(self.story.endpoint.model, version)
        self.hear(Decided(rollout=rollout, decision="grant" if granted else "deny", by="ada"))

    @rule(version=VERSIONS)
    def refuse(self, version: int) -> None:
        self.hear(Unusable(version=version, detail="load_failed"))

    @rule(version=VERSIONS)
    def degrade(self, version: int) -> None:
        self.hear(Degraded(version=version, detail="mae"))

    @rule(to=st.none() | VERSIONS)
    def roll_back(self, to: int | None) -> None:
        self.hear(RollbackAsked(by="ada", reason="", to=to))

    @invariant()
    def what_is_desired_is_what_was_said_last(self) -> None:
        said = [e for e in self.story.said if isinstance(e, DeploymentDesired)]
        route = route_of(self.story.endpoint)
        assert [e.generation for e in said] == list(range(1, len(said) + 1))
        if route is None:
            assert not said
        else:
            assert (said[-1].arms, said[-1].ladder) == (route.arms, route.ladder)
            assert (
                not route.arms
                or abs(sum(a.weight for a in route.arms if a.role != "shadow") - 1) < 1e-9
            )

    @invariant()
    def whatever_waits_has_a_timer(self) -> None:
        endpoint = self.story.endpoint
        moment = due_at(endpoint, self.story.now)
        if endpoint.active or endpoint.awaiting or endpoint.probation_until:
            assert moment is not None

    @invariant()
    def a_timer_that_ran_out_is_used_up(self) -> None:
        """Otherwise the worker would turn in circles."""
        change = self.story.peek(Due(seq=self.story.endpoint.seq))
        moment = due_at(change.endpoint, self.story.now)
        assert moment is None or moment > self.story.now


TestEndpoints = Endpoints.TestCase
TestEndpoints.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
