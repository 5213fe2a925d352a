"""One step of the state machine while it is worked out: its effects, named.

Decisions are in `rollout`; here is what each of them changes and says.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from services.deployer.domain import (
    REMEMBERED,
    Champion,
    Change,
    Endpoint,
    Limits,
    Rollout,
    Stage,
)
from services.deployer.routing import route_of
from shared import events as e

AbortReason = Literal[
    "worse", "undecided", "denied", "expired", "refused_by_serving", "stale_verdict"
]


@dataclass(slots=True, kw_only=True)
class Course:
    """The endpoint on its way to the next state; it never outlives one step."""

    now: datetime
    limits: Limits
    endpoint: Endpoint
    events: list[e.Event] = field(default_factory=list)
    ended: list[Rollout] = field(default_factory=list)

    def change(self, *, before: Endpoint) -> Change:
        """The result; a new way of answering is a new generation, said as a whole."""
        route = route_of(self.endpoint)
        if route is not None and route != route_of(before):
            self.set(generation=before.generation + 1)
            self.events.append(
                e.DeploymentDesired(
                    model=self.endpoint.model,
                    generation=self.endpoint.generation,
                    arms=route.arms,
                    ladder=route.ladder,
                    salt=self.endpoint.salt,
                    rollout=self.endpoint.rollout.id if self.endpoint.rollout else None,
                    probation=route.probation,
                )
            )
        if self.events:
            self.set(seq=before.seq + 1)
        return Change(endpoint=self.endpoint, events=tuple(self.events), ended=tuple(self.ended))

    def supersede(self, rollout: Rollout, *, by: int) -> None:
        """Something newer takes the place of a rollout."""
        self.over(rollout, Stage.SUPERSEDED, f"version {by} took its place")
        self.events.append(
            e.RolloutSuperseded(
                model=self.endpoint.model,
                rollout=rollout.id,
                version=rollout.version,
                dataset_version=rollout.dataset_version,
                by_version=by,
            )
        )

    def supersede_waiting(self, *, by: int) -> None:
        """What waits for a new verdict ends when something as new begins."""
        waiting = self.endpoint.awaiting
        if waiting is not None and waiting.version <= by:
            self.set(awaiting=None)
            if waiting.version < by:
                self.supersede(waiting, by=by)

    def await_verdict(self, rollout: Rollout) -> None:
        """Keep a version until the evaluator has compared it with the present champion."""
        waiting = self.endpoint.awaiting
        if waiting is not None and waiting.version > rollout.version:
            self.supersede(rollout, by=waiting.version)
        else:
            self.supersede_waiting(by=rollout.version)
            self.set(awaiting=replace(rollout, stage=Stage.AWAITING_VERDICT, at=self.now))
        self.remember(rollout.version)

    def promote(self, evidence: e.Json) -> None:
        """The active rollout's version becomes the champion."""
        rollout, old = self.active, self.endpoint.champion
        champion = Champion(
            version=rollout.version,
            manifest=rollout.manifest,
            rule=rollout.rule,
            before=old.version if old else None,
        )
        probation = rollout.policy.probation
        self.say(
            e.ModelPromoted,
            manifest=rollout.manifest,
            previous=champion.before,
            dataset_version=rollout.dataset_version,
            generation=self.endpoint.generation + 1,
            evaluation=rollout.evaluation,
            evidence=evidence,
        )
        self.over(rollout, Stage.PROMOTED, "")
        self.set(
            champion=champion,
            past=self.with_past(old, returning=champion.version),
            rollout=None,
            probation_until=self.now + probation if probation else None,
        )

    def with_past(self, old: Champion | None, *, returning: int) -> tuple[Champion, ...]:
        """The former champions with one more, and without the one that returns."""
        kept = [c for c in self.endpoint.past if c.version != returning]
        return tuple([*kept, old] if old else kept)[-REMEMBERED:]

    def roll_back(self, target: Champion | None, by: str, reason: str) -> None:
        """A former champion answers again; without one, the baseline rule."""
        old = self.endpoint.champion
        if old is None:
            return
        self.events.append(
            e.DeploymentRolledBack(
                model=self.endpoint.model,
                from_version=old.version,
                to_version=target.version if target else None,
                to_manifest=target.manifest if target else None,
                generation=self.endpoint.generation + 1,
                by=by,
                reason=reason,
            )
        )
        self.set(
            champion=target,
            past=self.with_past(old, returning=target.version if target else 0),
            rule=self.endpoint.rule if target else old.rule,
            probation_until=None,
        )

    def reconsider_rollout(self) -> None:
        """The champion it was judged against goes, through no fault of its own."""
        rollout = self.endpoint.rollout
        if rollout is not None:
            self.set(rollout=None)
            fresh = replace(rollout, step=0, canary_at=None, held_until=None, step_requests=0)
            self.await_verdict(fresh)

    def abort(self, reason: AbortReason, detail: str, evidence: e.Json | None = None) -> None:
        """The active rollout ends without promotion."""
        rollout = self.active
        self.over(rollout, Stage.ABORTED, detail or reason)
        self.set(rollout=None)
        self.say_aborted(rollout, reason, detail, evidence or {})

    def say_aborted(
        self, rollout: Rollout, reason: AbortReason, detail: str, evidence: e.Json
    ) -> None:
        """Say that a rollout ended without promotion."""
        self.events.append(
            e.RolloutAborted(
                model=self.endpoint.model,
                rollout=rollout.id,
                version=rollout.version,
                dataset_version=rollout.dataset_version,
                reason=reason,
                detail=detail,
                evidence=evidence,
            )
        )

    def end_waiting(self, stage: Stage, detail: str) -> None:
        """What waits for a new verdict ends."""
        if self.endpoint.awaiting is not None:
            self.over(self.endpoint.awaiting, stage, detail)
            self.set(awaiting=None)

    def over(self, rollout: Rollout, stage: Stage, detail: str) -> None:
        """Note the final stage of a rollout."""
        self.ended.append(
            replace(rollout, stage=stage, at=self.now, detail=detail, held_until=None)
        )

    @property
    def active(self) -> Rollout:
        """The active rollout, where there surely is one."""
        rollout = self.endpoint.rollout
        if rollout is None:
            raise AssertionError("there is a rollout wherever this is asked for")
        return rollout

    def remember(self, version: int) -> None:
        """Note that a version has or had a rollout."""
        others = [known for known in self.endpoint.taken_up if known != version]
        self.set(taken_up=tuple([*others, version][-REMEMBERED:]))

    def set(self, **fields: Any) -> None:
        """Change the endpoint."""
        self.endpoint = replace(self.endpoint, **fields)

    def move(self, **fields: Any) -> None:
        """Change the active rollout."""
        self.set(rollout=replace(self.active, **fields))

    def say(self, kind: Any, **fields: Any) -> None:
        """An event about the active rollout, which names it alike every time."""
        rollout = self.active
        self.events.append(
            kind(model=self.endpoint.model, rollout=rollout.id, version=rollout.version, **fields)
        )
