"""One step of the state machine while it is worked out: its effects, named.

Decisions are in `judging`, `trial` and `probation`; here is what each of them changes and says.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from services.deployer.domain import (
    REMEMBERED,
    TRIED_REMEMBERED,
    Champion,
    Change,
    Counts,
    Endpoint,
    Evidence,
    Limits,
    Probation,
    Rollout,
    Stage,
    Tried,
)
from services.deployer.permission import Surroundings
from services.deployer.routing import route_of
from shared import events as e


@dataclass(slots=True, kw_only=True)
class Course:
    """The endpoint on its way to the next state; it never outlives one step."""

    now: datetime
    limits: Limits
    around: Surroundings
    endpoint: Endpoint
    events: list[e.Event] = field(default_factory=list)
    ended: list[Rollout] = field(default_factory=list)

    def change(self, *, before: Endpoint) -> Change:
        """The result; a new way of answering is a new generation, said as a whole."""
        route = route_of(self.endpoint)
        if route is not None and route != route_of(before):
            self.set(generation=before.generation + 1)
            active = self.endpoint.active
            self.events.append(
                e.DeploymentDesired(
                    model=self.endpoint.model,
                    generation=self.endpoint.generation,
                    arms=route.arms,
                    ladder=route.ladder,
                    salt=self.endpoint.salt,
                    rollout=active[0].id if active else None,
                    probation=route.probation,
                    owner=route.owner,
                )
            )
        if self.events:
            self.set(seq=before.seq + 1)
        return Change(endpoint=self.endpoint, events=tuple(self.events), ended=tuple(self.ended))

    # --- rollouts that end ------------------------------------------------------------------------

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

    def supersede_waiting(self, by: Rollout) -> None:
        """What waits for a new verdict ends when something as new begins."""
        waiting = self.endpoint.awaiting
        if waiting is not None and (by.best or waiting.version <= by.version):
            self.set(awaiting=None)
            if waiting.id != by.id:
                self.supersede(waiting, by=by.version)

    def await_verdict(self, rollout: Rollout) -> None:
        """Keep a version until the evaluator has compared it with the present champion.

        The evaluator judges the newest accepted version again by itself. One that was wanted as the
        best may be any, so its rollout ends, and who hears that looks for the best again.
        """
        waiting = self.endpoint.awaiting
        if rollout.best:
            detail = "the champion it was compared with answers no more; it is looked for again"
            verdict = {"evaluation": str(rollout.evaluation)}
            self.abort(rollout, "champion_changed", detail, verdict)
        elif waiting is not None and waiting.version > rollout.version:
            self.supersede(rollout, by=waiting.version)
        else:
            self.supersede_waiting(rollout)
            self.set(awaiting=replace(rollout, stage=Stage.AWAITING_VERDICT, at=self.now))
        self.remember(rollout)

    def abort(
        self, rollout: Rollout, reason: e.AbortReason, detail: str, evidence: e.Json | None = None
    ) -> None:
        """A rollout ends without promotion."""
        self.over(rollout, Stage.ABORTED, detail or reason)
        self.events.append(
            e.RolloutAborted(
                model=self.endpoint.model,
                rollout=rollout.id,
                version=rollout.version,
                dataset_version=rollout.dataset_version,
                reason=reason,
                detail=detail,
                evidence=evidence or {},
            )
        )

    def end_waiting(self, stage: Stage, detail: str) -> None:
        """What waits for a new verdict ends, unsaid."""
        if self.endpoint.awaiting is not None:
            self.over(self.endpoint.awaiting, stage, detail)

    def end_experiments(self, detail: str) -> None:
        """They were compared with a champion that is none any more."""
        for rollout in self.endpoint.experiments:
            self.abort(rollout, "champion_changed", detail)

    def over(self, rollout: Rollout, stage: Stage, detail: str) -> None:
        """Take a rollout from its place and note its final stage."""
        if stage is not Stage.PROMOTED:
            self.keep_evidence(rollout)
        self.drop(rollout)
        self.ended.append(
            replace(rollout, stage=stage, at=self.now, detail=detail, held_until=None, held_why="")
        )

    def keep_evidence(self, rollout: Rollout) -> None:
        """The same artifact beside the same champion goes on from what it has shown already."""
        if rollout.champion is not None and rollout.evidence != Evidence():
            pair = (rollout.version, rollout.champion)
            others = [t for t in self.endpoint.tried if (t.version, t.champion) != pair]
            tried = Tried(
                version=rollout.version, champion=rollout.champion, evidence=rollout.evidence
            )
            self.set(tried=tuple([*others, tried][-TRIED_REMEMBERED:]))

    # --- champions --------------------------------------------------------------------------------

    def promote(self, rollout: Rollout, evidence: e.Json) -> None:
        """A rollout's version becomes the champion."""
        old = self.retired()
        before = old.version if old else None
        self.say(
            e.ModelPromoted,
            rollout,
            manifest=rollout.manifest,
            previous=before,
            dataset_version=rollout.dataset_version,
            generation=self.endpoint.generation + 1,
            evaluation=rollout.evaluation,
            evidence=evidence,
            approved_by=rollout.approvals.granted_by if rollout.approvals else (),
            authors=rollout.authors,
            break_glass=rollout.opened_by,
        )
        self.over(rollout, Stage.PROMOTED, "")
        self.set(
            champion=Champion(
                version=rollout.version,
                manifest=rollout.manifest,
                rule=rollout.rule,
                before=before,
            ),
            past=self.with_past(old, returning=rollout.version),
            probation=self._probation(rollout, old),
            fallback=None,
        )
        self.end_experiments(f"version {rollout.version} became champion")
        self.reconsider_rollout()
        self._forget_waiting_champion()

    def _probation(self, rollout: Rollout, old: Champion | None) -> Probation | None:
        if not rollout.rules.probation:
            return None
        errors, slow = rollout.evidence.errors, rollout.evidence.slow
        beside = Counts(requests=errors.requests[1], errors=errors.events[1], slow=slow.events[1])
        return Probation(
            until=self.now + rollout.rules.probation,
            rollout=rollout.id,
            version=rollout.version,
            first_generation=self.endpoint.generation + 1,
            policy=rollout.policy,
            former=beside if beside.requests or old is None else old.record,
            has_shadow=old is not None and rollout.rules.strategy in ("shadow", "shadow_canary"),
        )

    def retired(self) -> Champion | None:
        """The champion as it goes, with what it did in its probation."""
        champion, probation = self.endpoint.champion, self.endpoint.probation
        if champion is None or probation is None or probation.version != champion.version:
            return champion
        return replace(champion, record=probation.young)

    def with_past(self, old: Champion | None, *, returning: int) -> tuple[Champion, ...]:
        """The former champions with one more, and without the one that returns."""
        kept = [c for c in self.endpoint.past if c.version != returning]
        return tuple([*kept, old] if old else kept)[-REMEMBERED:]

    def roll_back(self, target: Champion | None, by: str, reason: str) -> None:
        """A former champion answers again; without one, the baseline rule."""
        old = self.retired()
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
            probation=None,
            fallback=None,
        )
        self.end_experiments(f"version {old.version} was rolled back")
        self._forget_waiting_champion()

    def _forget_waiting_champion(self) -> None:
        """What has become champion otherwise waits for no verdict against itself."""
        waiting, champion = self.endpoint.awaiting, self.endpoint.champion
        if waiting is not None and champion is not None and waiting.version == champion.version:
            self.supersede(waiting, by=champion.version)

    def reconsider_rollout(self) -> None:
        """The champion it was judged against goes, through no fault of its own."""
        rollout = self.endpoint.rollout
        if rollout is not None:
            self.keep_evidence(rollout)
            self.set(rollout=None)
            self.await_verdict(
                replace(rollout, step=0, begun_at=None, held_until=None, held_why="")
            )

    # --- small changes ----------------------------------------------------------------------------

    def remember(self, rollout: Rollout) -> None:
        """Note that a version has or had a rollout."""
        if rollout.best:
            asked = [known for known in self.endpoint.asked_for if known != rollout.evaluation]
            self.set(asked_for=tuple([*asked, rollout.evaluation][-REMEMBERED:]))
        else:
            others = [known for known in self.endpoint.taken_up if known != rollout.version]
            self.set(taken_up=tuple([*others, rollout.version][-REMEMBERED:]))

    def set(self, **fields: Any) -> None:
        """Change the endpoint."""
        self.endpoint = replace(self.endpoint, **fields)

    def move(self, rollout: Rollout, **fields: Any) -> Rollout:
        """Change an active rollout where it stands."""
        changed = replace(rollout, **fields)
        if self.endpoint.rollout is not None and self.endpoint.rollout.id == changed.id:
            self.set(rollout=changed)
        else:
            kept = self.endpoint.experiments
            self.set(experiments=tuple(changed if r.id == changed.id else r for r in kept))
        return changed

    def drop(self, rollout: Rollout) -> None:
        """Take a rollout from wherever it stands."""
        endpoint = self.endpoint
        for place in ("rollout", "awaiting"):
            found: Rollout | None = getattr(endpoint, place)
            if found is not None and found.id == rollout.id:
                self.set(**{place: None})
        if any(one.id == rollout.id for one in endpoint.experiments):
            kept = tuple(one for one in endpoint.experiments if one.id != rollout.id)
            self.set(experiments=kept)

    def say(self, kind: Any, rollout: Rollout, **fields: Any) -> None:
        """An event about a rollout, which names it alike every time."""
        self.events.append(
            kind(model=self.endpoint.model, rollout=rollout.id, version=rollout.version, **fields)
        )
