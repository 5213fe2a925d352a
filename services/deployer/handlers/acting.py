"""One step about one endpoint: decide, save, say.

Events are said here instead of returned, because one step may concern rollouts of several cascades
and each event belongs to the cascade of its own rollout.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from services.deployer.domain import OVER, Change, Due, Endpoint, Happening, Judged, Limits, Rollout
from services.deployer.handlers import counting
from services.deployer.permission import Surroundings, excluded
from services.deployer.rollout import step
from services.deployer.routing import due_at
from services.deployer.store import Governance, Store
from shared import telemetry
from shared.calendar_rules import AfterDataset, read_earliest
from shared.clock import Clock
from shared.events import (
    ApprovalGranted,
    ApprovalWithdrawn,
    Event,
    Heard,
    ModelName,
    WindowOverridden,
)
from shared.postgres import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an action of a person led to."""

    endpoint: Endpoint
    said: tuple[Heard[Event], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """Takes steps of the state machine in the open transaction."""

    store: Store
    governance: Governance
    now: Clock
    limits: Limits

    async def lock(self, model: ModelName, *, now: datetime | None = None) -> Endpoint | None:
        """The endpoint, locked until the transaction ends; made new when `now` is given."""
        await self.governance.hold()
        return await self.store.lock(model, now=now)

    async def act(
        self, endpoint: Endpoint, happened: Happening, cause: Cause, *, said_as: str = ""
    ) -> Outcome:
        """Take one step about a locked endpoint.

        Args:
            said_as: tells what is said apart from what the same cause led to before.

        Raises:
            Conflict, NotPermitted: a person asked for what the state or the rules do not allow.
        """
        now = self.now()
        around = await self.governance.surroundings(
            endpoint.model, _waited_for(endpoint, happened), now
        )
        change = step(endpoint, happened, now, self.limits, around)
        if change.endpoint is endpoint and not change.ended and not isinstance(happened, Due):
            return Outcome(endpoint=endpoint, said=())
        await self.store.save(
            endpoint,
            change.endpoint,
            change.ended,
            due_at=due_at(change.endpoint, now),
            now=now,
        )
        await self._keep_approvals(change, around)
        said = [(_cause_of(event, cause, endpoint, change), event) for event in change.events]
        spoken = await self.store.say(said, step=said_as)
        for event in change.events:
            counting.note(event, now)
        _tell(change)
        return Outcome(endpoint=change.endpoint, said=tuple(spoken))

    async def _keep_approvals(self, change: Change, around: Surroundings) -> None:
        """The table has rules of its own, should those of the machine ever be passed by."""
        known = {r.id: r for r in (*change.endpoint.active, *change.ended)}
        for event in change.events:
            if isinstance(event, ApprovalGranted) and (rollout := known.get(event.rollout)):
                await self._keep_grant(rollout, event.by, around)
            elif isinstance(event, ApprovalWithdrawn) and (rollout := known.get(event.rollout)):
                await self.governance.drop_grant(rollout, event.by)

    async def _keep_grant(self, rollout: Rollout, by: str, around: Surroundings) -> None:
        authors = around.authors(rollout.authors, rollout.requested_by)
        barred = excluded(rollout.rules.approval, authors)
        for grant in rollout.approvals.grants if rollout.approvals else ():
            if grant.by == by:
                await self.governance.keep_grant(rollout, grant, barred)


def _waited_for(endpoint: Endpoint, happened: Happening) -> set[str]:
    """Datasets that the calendar of this endpoint's rollouts may name."""
    policies = [r.policy for r in (*endpoint.active, endpoint.awaiting) if r is not None]
    if isinstance(happened, Judged):
        policies.append(happened.policy)
    named = [p.rules.not_before for p in policies if p.rules.not_before]
    rules = [read_earliest(text) for text in named]
    return {rule.dataset for rule in rules if isinstance(rule, AfterDataset)}


def _cause_of(event: Event, cause: Cause, before: Endpoint, change: Change) -> Cause:
    """The cause of a step, in the cascade of the rollout that the event is about."""
    rollouts = [*change.ended, *before.active, before.awaiting, *change.endpoint.active]
    about = getattr(event, "rollout", None)
    found = next((r for r in rollouts if r is not None and r.id == about), None)
    if found is None:
        return cause
    return replace(cause, correlation=found.correlation)


def _tell(change: Change) -> None:
    for event in change.events:
        if isinstance(event, WindowOverridden):
            telemetry.count("tidewheel_overrides_total")
            telemetry.log(
                "window_overridden",
                level="warning",
                model=event.model,
                version=event.version,
                by=event.by,
                reason=event.reason,
            )
    for rollout in change.ended:
        if rollout.stage in OVER:
            telemetry.count("tidewheel_rollouts_total", outcome=str(rollout.stage))
            telemetry.log(
                "rollout_ended",
                model=change.endpoint.model,
                version=rollout.version,
                outcome=str(rollout.stage),
                detail=rollout.detail,
            )
